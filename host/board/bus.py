"""What the driver needs of a board: memory, descriptors, and the ring of responses."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["EAGER_POLLS", "NUMBERS", "PAUSE", "Bus", "Progress", "Session"]

#: Counts and numbers of sessions have 32 bits and wrap around.
NUMBERS = 1 << 32

#: Polls for a response without a pause, and seconds between later polls.
EAGER_POLLS, PAUSE = 50, 0.001


@dataclass(frozen=True)
class Session:
    """A session of a board, which began with a restart.

    Members
    -------
    number : int
        Number of the session.
    lanes : int
        Bytes per word of the core.
    memory, ring : int
        Bytes of the memory, and bytes at its end that hold responses.
    align : int
        Alignment of responses, in bytes.
    tail : int
        Index of the next descriptor.
    written : int
        Units of ``align`` bytes written into the ring before the session.
    """

    number:  int
    lanes:   int
    memory:  int
    ring:    int
    align:   int
    tail:    int
    written: int


class Progress(NamedTuple):
    """Progress of a board.

    Members
    -------
    session : int
        Number of its session.
    head : int
        Descriptors whose words the core has.
    written : int
        Units of responses that were written.
    idle : bool
        Whether it is certain that no further response comes to the descriptors so far.
    """

    session: int
    head:    int
    written: int
    idle:    bool = False


class Bus(ABC):
    """Bus of a board with memory, or of one channel of a memory-mapped core.

    Addresses are in bytes from the start of the memory. Reads and writes are multiples of four
    bytes.
    """

    @abstractmethod
    async def restart(self) -> Session:
        """Make the board drop descriptors and responses, and begin a session.

        Raises :class:`.TransportClosed` when no usable board is there, or it does not restart.
        """

    @abstractmethod
    async def write(self, address: int, data: bytes | memoryview) -> None:
        """Write to memory."""

    @abstractmethod
    async def read(self, address: int, size: int) -> bytes:
        """Read from memory."""

    @abstractmethod
    async def push(self, segments: Sequence[tuple[int, int]], tail: int) -> int:
        """Give descriptors (address, bytes) in order, the first with index ``tail``.

        Returns the index of the next one, which is less if the board did not take all of them.
        """

    @abstractmethod
    async def progress(self) -> Progress:
        """Return the progress; raises :class:`.BadAnswer` when an error has halted the board."""

    @abstractmethod
    async def release(self, written: int) -> None:
        """Release the ring up to this count of units."""

    @abstractmethod
    def close(self) -> None:
        """Release what the bus uses. The board may be used by another driver."""

    async def rest(self, seen: int, polls: int) -> None:
        """Wait before the next poll, but not longer than it is useful.

        ``seen`` counts the units of responses that were read; ``polls`` counts polls without any.
        """
        if polls > EAGER_POLLS:
            await asyncio.sleep(PAUSE)

    def now(self) -> float:
        """Return the time in seconds by which silence is measured."""
        return asyncio.get_running_loop().time()
