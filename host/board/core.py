"""A memory-mapped core as software sees it: registers, memory, and how to wait for it."""

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass

from tritstream.host.errors import TransportClosed
from tritstream.hw.axi.config import MAX_CHANNELS
from tritstream.hw.axi.registers import MAGIC, register

__all__ = ["Buffer", "Core", "Waiter", "Window"]

#: What a bus returns for a card that does not respond.
_NOTHING = 0xFFFF_FFFF


class Window(ABC):
    """Registers of a core. Every access is one access of 32 bits on its bus, in program order."""

    @abstractmethod
    def read(self, offset: int) -> int:
        """Read the register at an offset in bytes."""

    @abstractmethod
    def write(self, offset: int, value: int) -> None:
        """Write the register at an offset in bytes."""

    @abstractmethod
    def close(self) -> None:
        """Release the registers."""


class Waiter:
    """How to wait for a core: by sleeping, if no subclass knows better.

    Members
    -------
    interrupts : bool
        Whether an interrupt of the core ends :meth:`wait`.
    """

    interrupts = False

    async def wait(self, seconds: float) -> None:
        """Wait for an interrupt, or until a time in seconds has passed."""
        await asyncio.sleep(seconds)

    def now(self) -> float:
        """Return the time in seconds."""
        return asyncio.get_running_loop().time()

    def close(self) -> None:
        """Release what the waiter uses."""


@dataclass
class Buffer:
    """Memory that a core reads and writes, and that is mapped into this process.

    Members
    -------
    data : memoryview
        Bytes of the memory.
    address : int
        Address of the first byte on the core's bus, a multiple of 4096.
    """

    data:    memoryview
    address: int

    def give(self, first: int, size: int) -> None:
        """Make bytes that were written here visible to the core."""

    def take(self, first: int, size: int) -> None:
        """Make bytes that the core has written visible here."""

    def close(self) -> None:
        """Release the memory."""


class Core:
    """A memory-mapped core, which the buses of its channels share.

    Parameters
    ----------
    window : Window
        Registers of the core.
    waiter : Waiter
        How to wait for the core.
    buffers : sequence of Buffer
        Memories, closed with the core.
    name : str
        Name of the core in error messages.

    Members
    -------
    channels : int
        Number of channels.

    Raises :class:`.TransportClosed` if the registers are not those of such a core.
    """

    def __init__(self, window: Window, waiter: Waiter, buffers: list[Buffer], name: str):
        self._window, self.waiter, self._buffers = window, waiter, buffers
        magic = window.read(register("magic"))
        if magic == _NOTHING:
            raise TransportClosed(f"{name}: nothing answers at the address of the registers; load "
                                  "the design into the FPGA, and check the address")
        if magic != MAGIC:
            raise TransportClosed(f"{name}: register 0 is {magic:#010x} instead of {MAGIC:#010x}: "
                                  "no tritstream_axi of this version has these registers")
        self.channels = window.read(register("channels"))
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise TransportClosed(f"{name}: reports {self.channels} channels where 1 to "
                                  f"{MAX_CHANNELS} are possible")
        self._users = self.channels

    def get(self, channel: int, *names: str) -> list[int]:
        """Read registers of a channel, in this order."""
        return [self._window.read(register(name, channel)) for name in names]

    def put(self, channel: int, **values: int) -> None:
        """Write registers of a channel, in this order."""
        for name, value in values.items():
            self._window.write(register(name, channel), value & 0xFFFF_FFFF)

    def release(self) -> None:
        """Note that the bus of a channel is closed. The last one releases registers and memory."""
        self._users -= 1
        if self._users == 0:
            self.close()

    def close(self) -> None:
        """Release registers and memory."""
        self.waiter.close()
        self._window.close()
        for buffer in self._buffers:
            buffer.close()
