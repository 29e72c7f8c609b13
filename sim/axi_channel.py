"""Software of a channel of the simulated core: sessions, descriptors and the ring of responses."""

from typing import NamedTuple

import numpy as np

from tritstream.hw.axi.registers import Error, Refusal, Status, register
from tritstream.hw.soc.registers import UNIT
from tritstream.sim.axi_core import ChannelMemory, SimulatedCore

__all__ = ["ChannelHalted", "SimulatedChannel", "Window", "WordsMissing"]

_REFUSALS = {int(code): code for code in Refusal}
_ERRORS   = {int(code): code for code in Error}


class ChannelHalted(RuntimeError):
    """A channel has halted with an error."""


class WordsMissing(RuntimeError):
    """A channel is idle although responses are expected."""


class Window(NamedTuple):
    """What a channel uses of its memory, in bytes.

    The ring starts behind the ``size`` bytes that descriptors can name.
    """

    size: int
    ring: int

    def memory(self, address: int) -> ChannelMemory:
        """Return new memory at an address of the bus."""
        return ChannelMemory(np.zeros(self.size + self.ring, np.uint8).data, address)


class SimulatedChannel:
    """A channel, its memory, and what software knows of it.

    Parameters
    ----------
    core : SimulatedCore
    number : int
        Number of the channel.
    memory : ChannelMemory
        Memory of the channel, as the core has it.
    window : Window
        What the channel uses of the memory.

    Members
    -------
    memory, window
        The arguments.
    data : numpy.ndarray
        Bytes of the memory.
    seen : int
        Responses that were read, in units of ``align`` bytes.
    """

    def __init__(self, core: SimulatedCore, number: int, memory: ChannelMemory, window: Window):
        self._core, self.number = core, number
        self.data = np.frombuffer(memory.data, np.uint8)
        self.memory, self.window = memory, window
        self.align = self.get("align")
        self.seen = 0
        self.setup()

    def setup(self) -> None:
        """Write where memory and ring are, for the next session."""
        base = self.memory.address
        for name, value in (("base", base), ("ring", base + self.window.size)):
            self.put(f"{name}_low", value & 0xFFFFFFFF)
            self.put(f"{name}_high", value >> 32)
        self.put("memory", self.window.size // UNIT)
        self.put("ring", self.window.ring)

    def get(self, name: str) -> int:
        """Read a register."""
        return self._core.read(register(name, self.number))

    def put(self, name: str, value: int) -> None:
        """Write a register."""
        self._core.write(register(name, self.number), value & 0xFFFFFFFF)

    def restart(self, cycles: int = 100_000) -> None:
        """Begin a session. Raises :class:`ChannelHalted` if there is none after ``cycles``."""
        session = (self.get("session") + 1) & 0xFFFFFFFF
        self.put("restart", session)
        end = self._core.cycles + cycles
        while self.get("session") != session:
            if self._core.cycles > end:
                raise ChannelHalted(f"channel {self.number} does not restart within {cycles} "
                                    "cycles")
        self.seen = self.get("written")

    def push(self, address: int, size: int) -> Refusal:
        """Give a descriptor, in bytes; return why it was refused, or NONE."""
        self.put("address", address // UNIT)
        self.put("length", size // UNIT)
        self.put("index", self.get("tail"))
        return _REFUSALS[self.get("refused")]

    def ask(self, address: int, size: int) -> None:
        """Give a descriptor; raises :class:`ChannelHalted` if it is refused."""
        if refused := self.push(address, size):
            raise ChannelHalted(f"channel {self.number} refused a descriptor: {refused.text}")

    def pull(self) -> bytes:
        """Return the responses that have been written, and release their place."""
        written = self.get("written")
        units = self.window.ring // self.align
        places = (self.seen + np.arange((written - self.seen) & 0xFFFFFFFF)) % units
        ring = self.data[self.window.size:].reshape(units, self.align)
        self.seen = written
        found = ring[places].tobytes()
        self.put("take", written)
        return found

    def answers(self, size: int, limit: int = 100_000) -> bytes:
        """Return ``size`` bytes of responses.

        Raises :class:`ChannelHalted` after an error of the channel, or if no response comes within
        ``limit`` cycles, and :class:`WordsMissing` if the channel is idle before all have come.
        """
        found, since = self.pull(), self._core.cycles
        while len(found) < size:
            idle  = self.get("status") & Status.IDLE
            error = _ERRORS[self.get("error")]
            if more := self.pull():
                found, since = found + more, self._core.cycles
            elif error:
                raise ChannelHalted(f"channel {self.number}: {error.text}")
            elif idle:
                raise WordsMissing(f"channel {self.number} is idle after {len(found)} of {size} "
                                   "bytes of responses")
            elif self._core.cycles > since + limit:
                raise ChannelHalted(f"channel {self.number} gives no response within {limit} "
                                    "cycles")
            else:
                self._core.run(200)
        return found
