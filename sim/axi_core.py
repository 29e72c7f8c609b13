"""A simulated memory-mapped core, driven by register accesses, with a memory for each channel."""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from tritstream.sim.build import NativeBuild

__all__ = ["ChannelMemory", "CoreStuck", "RegisterRefused", "SimulatedCore"]

#: Cycles without a response after which an access to a register counts as failed.
_MOST = 1000

_CALLS = {
    "new":        (c_void_p, []),
    "delete":     (None, [c_void_p]),
    "cycles":     (c_int64, [c_void_p]),
    "irq":        (c_int32, [c_void_p]),
    "reset":      (None, [c_void_p]),
    "memory":     (None, [c_void_p, c_int32, c_void_p, c_uint64, c_uint64]),
    "timing":     (None, [c_void_p, c_int64, c_uint64, c_uint32]),
    "violations": (c_int64, [c_void_p]),
    "write":      (c_int32, [c_void_p, c_uint32, c_uint32, c_int64]),
    "read":       (c_int32, [c_void_p, c_uint32, POINTER(c_uint32), c_int64]),
    "wait":       (c_int32, [c_void_p, c_int64]),
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


class SimulatedCore:
    """A simulated core. Simulated time passes only in its methods.

    Every memory moves one beat per cycle, read or written, and answers each burst after the same
    latency. An address outside of it is answered by DECERR.

    Parameters
    ----------
    build : NativeBuild
        Core of :func:`.build_axi`.
    memories : sequence of ChannelMemory
        Memory of each channel, as many as the core has. Channels may share a memory.
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
        library.axi_timing(self._core, latency, seed & (1 << 64) - 1, int(stalls * 2**32))

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
        """Bursts so far that broke a rule of AXI4: pages, alignment, WLAST."""
        return self._library.axi_violations(self._core)

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

    def _check(self, response: int, address: int) -> None:
        if response < 0:
            raise CoreStuck(f"no answer of register {address:#x} within {_MOST} cycles")
        if response:
            raise RegisterRefused(f"the core has no such register: {address:#x}")
