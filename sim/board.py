"""A simulated board with memory, driven by bus accesses, loads and Ethernet frames."""

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint8, c_uint32, c_void_p
from dataclasses import dataclass

import numpy as np

from tritstream.hw.soc.registers import MEMORY, UNIT, register
from tritstream.sim.soc_build import SocChoice, build_soc

__all__ = ["BoardStuck", "Counts", "SimulatedBoard"]

#: Cycles without a response after which an access counts as failed.
_MOST = 20_000
#: Buffer for an Ethernet frame, in bytes.
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
    """The simulated board did not finish an operation within its limit of cycles."""


@dataclass(frozen=True)
class Counts:
    """Counts since the last call of :meth:`SimulatedBoard.counts`.

    ``taken`` and ``given`` count the words into and out of the core. ``first`` and ``last`` are the
    cycles of the first and the last word taken. ``refreshes`` counts refresh commands. ``causes``
    counts the cycles between ``first`` and ``last`` by
    :class:`tritstream.hw.soc.cycle_monitor.Cause`.
    """

    taken:  int
    given:  int
    first:  int
    last:   int
    refreshes: int
    causes: tuple[int, ...]


class SimulatedBoard:
    """A simulated board in this process. Its constructor runs until the memory is initialized.

    Parameters
    ----------
    choice : SocChoice
        Configuration of the system.

    Raises :class:`tritstream.sim.build.BuildError` if the system cannot be built.
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
        """Free the simulation."""
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
        """Simulate a number of cycles."""
        self._library.soc_run(self._soc, cycles)

    def read(self, address: int, words: int) -> np.ndarray:
        """Read words of 32 bits over the bus."""
        data = np.zeros(words, dtype=np.uint32)
        self._bus(0, address, data)
        return data

    def write(self, address: int, data: np.ndarray) -> None:
        """Write words of 32 bits over the bus."""
        self._bus(1, address, np.ascontiguousarray(data, dtype=np.uint32))

    def get(self, name: str) -> int:
        """Read a register of :data:`tritstream.hw.soc.registers.REGISTERS`."""
        return int(self.read(register(name), 1)[0])

    def put(self, name: str, value: int) -> None:
        """Write a register."""
        self.write(register(name), np.array([value]))

    def wait(self, name: str, value: int, cycles: int = 1_000_000) -> None:
        """Simulate until a register has a value; raise :class:`BoardStuck` after ``cycles``."""
        end = self.cycles + cycles
        while (found := self.get(name)) != value:
            if self.cycles > end:
                raise BoardStuck(f"{name} is {found} after {cycles} cycles, not {value}")
            self.run(200)

    def load(self, address: int, data: bytes) -> None:
        """Load complete memory words at full speed, without the bus.

        Raises :class:`ValueError` unless address and size are multiples of the memory's word.
        """
        word = self.build.word
        count, rest = divmod(len(data), word)
        if rest or address % word:
            raise ValueError(f"loads are whole words of {word} bytes, not {len(data)} at {address}")
        if self._library.soc_load(self._soc, address // word, data, count,
                                  _MOST + 50 * count) != count:
            raise BoardStuck(f"memory does not take {len(data)} bytes")

    def dump(self, address: int, size: int) -> bytes:
        """Read ``size`` bytes of memory, a multiple of four, over the bus."""
        return self.read(MEMORY + address, size // 4).tobytes()

    def push(self, address: int, size: int) -> None:
        """Queue a descriptor: address and size in bytes of request frames in the memory."""
        tail = self.get("tail")
        self.write(register("address"), np.array([address // UNIT, size // UNIT, tail]))

    def counts(self) -> Counts:
        """Return the counts since the last call."""
        found = np.zeros(13, dtype=np.int64)
        self._library.soc_count(self._soc, found.ctypes.data)
        taken, given, first, last, refreshes, *causes = map(int, found)
        return Counts(taken, given, first, last, refreshes, tuple(causes))

    def violations(self) -> tuple[int, str]:
        """Return the number of memory commands that broke the timing, and the first of them."""
        what = ctypes.create_string_buffer(200)
        return self._library.soc_violations(self._soc, what, len(what)), what.value.decode()

    def frame_in(self, frame: bytes) -> None:
        """Send an Ethernet frame to the board, from preamble to checksum."""
        self._library.soc_frame_in(self._soc, frame, len(frame))

    @property
    def waiting(self) -> int:
        """Number of frames that the board has not received completely."""
        return self._library.soc_waiting(self._soc)

    def frame_out(self) -> bytes | None:
        """Return the next frame from the board, or None."""
        room = (c_uint8 * _FRAME)()
        size = self._library.soc_frame_out(self._soc, room, _FRAME)
        return bytes(room[:size]) if size else None

    def _bus(self, write: int, address: int, data: np.ndarray) -> None:
        done = self._library.soc_bus(self._soc, write, address,
                                     data.ctypes.data_as(POINTER(c_uint32)), len(data), _MOST)
        if done != len(data):
            raise BoardStuck(f"no answer on the bus at 0x{address + 4 * done:08x}")
