"""A simulated memory-mapped core, driven by register accesses, with a memory for each channel."""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from tritstream.sim.axi_timing import Cause, Timing
from tritstream.sim.build import NativeBuild

__all__ = ["ChannelMemory", "CoreStuck", "Counts", "RegisterRefused", "SimulatedCore"]

#: Cycles without a response after which an access to a register counts as failed.
_MOST = 1000

_CALLS = {
    "new":        (c_void_p, []),
    "delete":     (None, [c_void_p]),
    "lanes":      (c_int32, []),
    "cycles":     (c_int64, [c_void_p]),
    "irq":        (c_int32, [c_void_p]),
    "reset":      (None, [c_void_p]),
    "memory":     (None, [c_void_p, c_int32, c_void_p, c_uint64, c_uint64]),
    "timing":     (None, [c_void_p, c_int32, c_void_p, c_uint64]),
    "skew":       (None, [c_void_p, c_int64, c_uint64]),
    "hold":       (None, [c_void_p, c_int32, c_int64]),
    "errors":     (c_int64, [c_void_p, c_int32]),
    "breaches":   (c_int64, [c_void_p, c_int32, c_char_p, c_int64]),
    "counts":     (None, [c_void_p, c_int32, c_void_p]),
    "write":      (c_int32, [c_void_p, c_uint32, c_uint32, c_int64]),
    "read":       (c_int32, [c_void_p, c_uint32, POINTER(c_uint32), c_int64]),
    "wait":       (c_int32, [c_void_p, c_int64]),
    "run":        (None, [c_void_p, c_int64]),
}


class CoreStuck(RuntimeError):
    """The simulated core did not respond within its limit of cycles."""


class RegisterRefused(RuntimeError):
    """The core answered an access to a register by SLVERR."""


@dataclass(frozen=True)
class ChannelMemory:
    """Memory of a channel.

    Members
    -------
    data : buffer
        Writable bytes, which other programs may write too.
    address : int
        Address of the first byte on the AXI4 bus.
    """

    data:    memoryview
    address: int


class Counts(NamedTuple):
    """Cycles of a channel since the last call of :meth:`SimulatedCore.counts`.

    Members
    -------
    taken : int
        Words that the engine took. The cycles of ``taken`` to ``empty`` are those between its first
        and its last word.
    loading, between, product : int
        Cycles in which a word waited for the engine: while it loaded activations or scales, between
        two requests, and in a product.
    empty : dict
        Cycles in which no word waited for the engine, by what the memory did.
    memory : dict
        Cycles between the first and the last word that the memory sent, by cause.
    """

    taken:   int
    loading: int
    between: int
    product: int
    empty:   dict[Cause, int]
    memory:  dict[Cause, int]


class SimulatedCore:
    """A simulated core. Simulated time passes only in its methods.

    Every memory moves one beat per cycle, read or written, and answers each burst after the same
    latency, unless :meth:`set_timing` changes this. An address outside of it is answered by DECERR.

    Parameters
    ----------
    build : NativeBuild
        Core of :func:`.build_axi`.
    memories : sequence of ChannelMemory
        Memory of each channel, as many as the core has. Channels may share
        contents, but each has its own time.
    latency : int
        Cycles from an address to its first beat.
    stalls : float
        Share of the cycles, in [0, 1), in which a memory moves no beat.
    seed : int
        Random seed of the stalls.

    Raises :class:`ValueError` for a latency below 1, or another share of stalls.
    """

    def __init__(self, build: NativeBuild, memories: Sequence[ChannelMemory], latency: int = 64,
                 stalls: float = 0.0, seed: int = 1):
        if latency < 1:
            raise ValueError(f"the latency must be at least 1 cycle, not {latency}")
        if not 0 <= stalls < 1:
            raise ValueError(f"the share of stalls must be in [0, 1), not {stalls:g}")
        library = ctypes.CDLL(str(build.library))
        for name, (result, arguments) in _CALLS.items():
            call = getattr(library, f"axi_{name}")
            call.restype, call.argtypes = result, arguments
        self._library = library
        self._core = library.axi_new()
        #: Views keep the memories alive.
        self._views = [np.frombuffer(memory.data, np.uint8) for memory in memories]
        for channel, (memory, view) in enumerate(zip(memories, self._views, strict=True)):
            library.axi_memory(self._core, channel, view.ctypes.data, memory.address, view.size)
            self.set_timing(channel, Timing(latency, stall_r=stalls, stall_w=stalls),
                            seed + channel)

    def close(self) -> None:
        """Free the simulation."""
        if self._core:
            self._library.axi_delete(self._core)
            self._core, self._views = None, []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    @property
    def cycles(self) -> int:
        """Cycles since power-on."""
        return self._library.axi_cycles(self._core)

    @property
    def violations(self) -> int:
        """Number of breaches of :meth:`breaches`, of all masters."""
        return sum(self.breaches(channel)[0] for channel in range(len(self._views)))

    @property
    def interrupt(self) -> bool:
        """Whether the core requests an interrupt."""
        return bool(self._library.axi_irq(self._core))

    def reset(self) -> None:
        """Pulse the reset pin, and forget the bursts of the memories."""
        self._library.axi_reset(self._core)

    def read(self, address: int) -> int:
        """Read a register over AXI4-Lite.

        Raises :class:`RegisterRefused` for an address without such a register.
        """
        value = c_uint32()
        self._check(self._library.axi_read(self._core, address, value, _MOST), address)
        return value.value

    def write(self, address: int, value: int) -> None:
        """Write a register: :meth:`read`."""
        self._check(self._library.axi_write(self._core, address, value, _MOST), address)

    def wait(self, cycles: int) -> bool:
        """Simulate until an interrupt is requested, at most ``cycles``; return whether it is."""
        return bool(self._library.axi_wait(self._core, cycles))

    def run(self, cycles: int) -> None:
        """Simulate a number of cycles."""
        self._library.axi_run(self._core, cycles)

    def set_timing(self, channel: int, timing: Timing, seed: int = 1) -> None:
        """Change how the memory of a channel behaves. Bursts that it has accepted stay."""
        self._library.axi_timing(self._core, channel, timing.packed(self._library.axi_lanes()),
                                 seed & (1 << 64) - 1)

    def skew(self, cycles: int, seed: int = 1) -> None:
        """Separate the parts of each register access by up to ``cycles`` cycles."""
        self._library.axi_skew(self._core, cycles, seed)

    def hold(self, channel: int, cycles: int) -> None:
        """Make the memory of a channel send and store nothing for ``cycles`` cycles."""
        self._library.axi_hold(self._core, channel, cycles)

    def errors(self, channel: int) -> int:
        """Return the number of bursts so far that the memory of a channel answers by an error."""
        return self._library.axi_errors(self._core, channel)

    def breaches(self, channel: int) -> tuple[int, str]:
        """Return how often a master broke a rule of AXI4 or of docs/axi.md, and the first rule."""
        first = ctypes.create_string_buffer(80)
        count = self._library.axi_breaches(self._core, channel, first, len(first))
        return count, first.value.decode()

    def counts(self, channel: int) -> Counts:
        """Return the counts of a channel since the last call."""
        found = np.zeros(4 + 2 * len(Cause), np.int64)
        self._library.axi_counts(self._core, channel, found.ctypes.data)
        engine, empty, memory = (part.tolist() for part in np.split(found, [4, 4 + len(Cause)]))
        return Counts(*engine, *(dict(zip(Cause, part, strict=True)) for part in (empty, memory)))

    def _check(self, response: int, address: int) -> None:
        if response < 0:
            raise CoreStuck(f"no answer of register {address:#x} within {_MOST} cycles")
        if response:
            raise RegisterRefused(f"the core has no such register: {address:#x}")
