"""What the bus of a board needs of its link: single accesses to registers and memory."""

from abc import ABC, abstractmethod

__all__ = ["Link"]


class Link(ABC):
    """Link to the bus of a board: :mod:`tritstream.hw.soc.registers`.

    An access may happen twice, because a link repeats what the board did not acknowledge. The
    registers allow that, and a CRC that the board checks protects memory. Addresses are in bytes.

    Members
    -------
    round_trips : int
        How often the driver waited for the board so far: accesses after which the next one had to
        wait for the response.
    """

    round_trips: int

    @abstractmethod
    async def write(self, address: int, data: bytes | memoryview) -> None:
        """Write bytes, a multiple of four, to any address of the bus."""

    @abstractmethod
    async def read(self, address: int, size: int) -> bytes:
        """Read ``size`` bytes, a multiple of four."""

    @abstractmethod
    async def get(self, *names: str) -> list[int]:
        """Read registers, in order, in one access."""

    @abstractmethod
    async def put(self, name: str, *values: int, then: str) -> int:
        """Write registers from ``name`` on, then read register ``then``, in one access."""

    @abstractmethod
    def close(self) -> None:
        """Release what carries the accesses."""
