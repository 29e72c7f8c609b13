"""A simulated board: the whole system, on bus accesses, loads and Ethernet frames."""

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint8, c_uint32, c_void_p
from dataclasses import dataclass

import numpy as np

from tritstream.hw.soc.registers import MEMORY, UNIT, register
from tritstream.sim.soc_build import SocChoice, build_soc

__all__ = ["BoardStuck", "Counts", "SimulatedBoard"]

#: Cycles after which an access that is not answered never will be.
_MOST = 20_000
#: Longest frame of Ethernet.
_FRAME = 2048

_CALLS = {
    "new":        (c_void_p, []),
    "delete":     (None, [c_void_p]),
    "cycles":     (c_int64, [c_void_p]),
    "run":        (None, [c_void_p, c_int64]),
    "bus":        (c_int64, [c_void_p, c_int32, c_uint32, POINTER(c_uint32), c_int64, c_int64]),
    "load":       (c_int64, [c_void_p, c_int64, c_void_p, c_int64, c_int64]),
    "count":      (None, [c_void_p, c_void_p]),
    "violations": (c_int64, [c_void_p, c_char_p, c_int64]),
    "frame_in":   (None, [c_void_p, c_char_p, c_int64]),
    "waiting":    (c_int64, [c_void_p]),
    "frame_out":  (c_int64, [c_void_p, POINTER(c_uint8), c_int64]),
}


class BoardStuck(RuntimeError):
    """The simulated board did not get on within the cycles it was given."""


@dataclass(frozen=True)
class Counts:
    """What passed since the last look.

    ``taken`` and ``given`` are words of the core; ``first`` and ``last`` the cycles of the first
    and last word taken, ``causes`` what the memory did in the cycles between, by
    :class:`tritstream.hw.soc.cycle_monitor.Cause`; ``refreshes`` are the commands to refresh.
    """

    taken:  int
    given:  int
    first:  int
    last:   int
    refreshes: int
    causes: tuple[int, ...]


class SimulatedBoard:
    """A board in this process. It has started its memory when it is made.

    Parameters
    ----------
    choice : SocChoice

    Raises :class:`tritstream.sim.build.BuildError`.
    """

    def __init__(self, choice: SocChoice):
        self.choice, self.build = choice, build_soc(choice)
        self._library = ctypes.CDLL(str(self.build.library))
        for name, (result, arguments) in _CALLS.items():
            call = getattr(self._library, f"soc_{name}")
            call.restype, call.argtypes = result, arguments
        self._soc = self._library.soc_new()
        self.wait("ready", 1)

    def close(self) -> None:
        """Delete the board."""
        self._library.soc_delete(self._soc)
        self._soc = None

    def __enter__(self) -> "SimulatedBoard":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def cycles(self) -> int:
        """Cycles since power-on."""
        return self._library.soc_cycles(self._soc)

    def run(self, cycles: int) -> None:
        """Let time pass."""
        self._library.soc_run(self._soc, cycles)

    def read(self, address: int, words: int) -> np.ndarray:
        """Words of 32 bits over the bus."""
        data = np.zeros(words, dtype=np.uint32)
        self._bus(0, address, data)
        return data

    def write(self, address: int, data: np.ndarray) -> None:
        """Words of 32 bits over the bus."""
        self._bus(1, address, np.ascontiguousarray(data, dtype=np.uint32))

    def get(self, name: str) -> int:
        """A register of :data:`tritstream.hw.soc.registers.REGISTERS`."""
        return int(self.read(register(name), 1)[0])

    def put(self, name: str, value: int) -> None:
        """Write a register."""
        self.write(register(name), np.array([value]))

    def wait(self, name: str, value: int, cycles: int = 1_000_000) -> None:
        """Until a register has a value; raises :class:`BoardStuck` after so many cycles."""
        end = self.cycles + cycles
        while (found := self.get(name)) != value:
            if self.cycles > end:
                raise BoardStuck(f"{name} is {found} after {cycles} cycles, not {value}")
            self.run(200)

    def load(self, address: int, data: bytes) -> None:
        """Bytes into memory at full speed; whole words of memory."""
        word = self.build.word
        count, rest = divmod(len(data), word)
        if rest or address % word:
            raise ValueError(f"loads are whole words of {word} bytes, not {len(data)} at {address}")
        if self._library.soc_load(self._soc, address // word, data, count,
                                  _MOST + 50 * count) != count:
            raise BoardStuck(f"memory does not take {len(data)} bytes")

    def dump(self, address: int, size: int) -> bytes:
        """Bytes of memory, whole words of 32 bits."""
        return self.read(MEMORY + address, size // 4).tobytes()

    def push(self, address: int, size: int) -> None:
        """A descriptor of request frames, in bytes."""
        tail = self.get("tail")
        self.write(register("address"), np.array([address // UNIT, size // UNIT, tail]))

    def counts(self) -> Counts:
        """What passed since the last call."""
        found = np.zeros(13, dtype=np.int64)
        self._library.soc_count(self._soc, found.ctypes.data)
        taken, given, first, last, refreshes, *causes = map(int, found)
        return Counts(taken, given, first, last, refreshes, tuple(causes))

    def violations(self) -> tuple[int, str]:
        """Commands that were too early or too late for the memory so far, and the first."""
        what = ctypes.create_string_buffer(200)
        return self._library.soc_violations(self._soc, what, len(what)), what.value.decode()

    def frame_in(self, frame: bytes) -> None:
        """A frame of Ethernet for the board, from preamble to checksum."""
        self._library.soc_frame_in(self._soc, frame, len(frame))

    @property
    def waiting(self) -> int:
        """Frames that have not all come in yet."""
        return self._library.soc_waiting(self._soc)

    def frame_out(self) -> bytes | None:
        """The next frame from the board."""
        room = (c_uint8 * _FRAME)()
        size = self._library.soc_frame_out(self._soc, room, _FRAME)
        return bytes(room[:size]) if size else None

    def _bus(self, write: int, address: int, data: np.ndarray) -> None:
        done = self._library.soc_bus(self._soc, write, address,
                                     data.ctypes.data_as(POINTER(c_uint32)), len(data), _MOST)
        if done != len(data):
            raise BoardStuck(f"no answer on the bus at 0x{address + 4 * done:08x}")
