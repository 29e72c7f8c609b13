"""Simulated device: the RTL compiled to a shared library, driven in large batches of words."""

import ctypes
from collections import deque

import numpy as np

__all__ = ["NativeDevice", "SimulationIdle", "Span"]

#: Minimum size of the response buffer of a run, in bytes.
_ROOM = 1 << 20

#: Cycles without a transferred word after which the device counts as idle.
IDLE_CYCLES = 20_000


class SimulationIdle(Exception):
    """The device is idle although response bytes are expected."""


class _Segment(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p), ("size", ctypes.c_int64), ("done", ctypes.c_int64),
        ("first", ctypes.c_int64), ("last", ctypes.c_int64),
    ]


class Span:
    """Cycles in which the device took the words of one pushed buffer."""

    def __init__(self, data):
        self._array   = np.frombuffer(data, np.uint8)   # keeps the buffer alive without a copy
        self._segment = _Segment(self._array.ctypes.data, self._array.size, 0, -1, -1)

    @property
    def taken(self) -> bool:
        """Whether the device has taken the complete buffer."""
        return self._segment.done == self._segment.size

    @property
    def first(self) -> int:
        """Cycle of the first taken word that ends in the buffer; -1 if there is none yet."""
        return self._segment.first

    @property
    def last(self) -> int:
        """Cycle of the last taken word that ends in the buffer; -1 if there is none yet."""
        return self._segment.last


class NativeDevice:
    """Cycle-accurate simulated device: every word passes the RTL's own handshakes.

    Parameters
    ----------
    library : path
        Shared library of :func:`tritstream.sim.build.build_native`.
    """

    def __init__(self, library):
        self._library = _load(library)
        self._handle  = ctypes.c_void_p(self._library.device_new())
        self._queue   = deque()
        self._answer  = bytearray()
        self._current = None        # span of which the device may not have taken the last word
        self.lanes    = self._library.device_lanes()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Free the simulation."""
        if self._handle:
            self._library.device_delete(self._handle)
            self._handle = None

    @property
    def cycles(self) -> int:
        """Cycles since the start of the simulation."""
        return self._library.device_cycles(self._handle)

    @property
    def words_in(self) -> int:
        """Number of words that the device has taken."""
        return self._library.device_words_in(self._handle)

    @property
    def words_out(self) -> int:
        """Number of words that the device has sent."""
        return self._library.device_words_out(self._handle)

    def reset(self) -> None:
        """Pulse the reset pin, and discard queued requests and responses."""
        self._queue.clear()
        self._answer.clear()
        self._library.device_reset(self._handle)

    def stall(self, seed: int, source: float = 0.0, sink: float = 0.0) -> None:
        """Make source and sink pause at random in these shares of the cycles, in [0, 1)."""
        for share in (source, sink):
            if not 0 <= share < 1:
                raise ValueError(f"Share of stalled cycles must be in [0, 1), not {share!r}")
        self._library.device_stalls(
            self._handle, seed & (1 << 64) - 1, int(source * 2**32), int(sink * 2**32))

    def push(self, data) -> Span:
        """Queue request bytes (any buffer, not copied), which are sent while a pull runs."""
        span = Span(data)
        if span._segment.size:
            self._queue.append(span)
        return span

    def pull(self, count: int) -> bytes:
        """Simulate until ``count`` response bytes have arrived; continue while requests are queued.

        One run therefore collects all responses to a long request.

        Raises
        ------
        SimulationIdle
            No word moved for :data:`IDLE_CYCLES` cycles. Bytes that arrived can still be pulled.
        """
        missing = count - len(self._answer)
        if missing > 0:
            self._run(-(-missing // self.lanes))
        return self._take(count)

    def abandon(self) -> None:
        """End the current frame by the pins, once all queued bytes are taken; keep responses.

        Raises
        ------
        SimulationIdle
            The device takes no more words and has not abandoned the frame: it is idle, or sends
            responses without end.
        """
        self._library.device_abandon(self._handle)
        while self._library.device_abandons(self._handle):
            before = self.words_in
            given  = self._advance(0, 2 * _ROOM // self.lanes, IDLE_CYCLES)
            if self.words_in == before and self._library.device_abandons(self._handle):
                raise SimulationIdle(f"the simulated device does not abandon its frame: it takes "
                                     f"no word, and has sent {given} words meanwhile")

    def ready(self) -> bytes:
        """Return the response bytes that have arrived and were not pulled."""
        return self._take(len(self._answer))

    def idle(self, cycles: int) -> None:
        """Simulate a number of cycles; keep the responses."""
        self._advance(cycles, cycles, cycles)

    def _take(self, count):
        answer = bytes(self._answer[:count])
        del self._answer[:count]
        return answer

    def _run(self, wanted):
        if self._advance(wanted, max(wanted, _ROOM // self.lanes), IDLE_CYCLES) < wanted:
            raise SimulationIdle(
                f"the simulated device has been quiet for {IDLE_CYCLES} cycles, after "
                f"{len(self._answer)} of the expected response bytes")

    def _advance(self, wanted, room, idle):
        words    = np.empty((room, self.lanes), np.uint8)
        spans    = ([self._current] if self._current else []) + list(self._queue)
        pointers = (ctypes.POINTER(_Segment) * len(spans))(
            *(ctypes.pointer(span._segment) for span in spans))
        produced = ctypes.c_int64()
        self._library.device_run(
            self._handle, pointers, len(spans), words.ctypes.data, wanted, room,
            ctypes.byref(produced), idle)
        while self._queue and self._queue[0].taken:
            self._current = self._queue.popleft()
        self._answer += words[:produced.value].tobytes()
        return produced.value


def _load(path):
    library = ctypes.CDLL(str(path))
    pointer, i64 = ctypes.c_void_p, ctypes.c_int64
    library.device_lanes.restype  = ctypes.c_int32
    library.device_new.restype    = pointer
    library.device_delete.argtypes = [pointer]
    library.device_reset.argtypes = [pointer]
    library.device_abandon.argtypes  = [pointer]
    library.device_abandons.argtypes = [pointer]
    library.device_stalls.argtypes = [pointer, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint32]
    for name in ("cycles", "words_in", "words_out"):
        function = getattr(library, f"device_{name}")
        function.restype, function.argtypes = i64, [pointer]
    library.device_run.restype  = ctypes.c_int32
    library.device_run.argtypes = [
        pointer, ctypes.POINTER(ctypes.POINTER(_Segment)), i64, pointer, i64, i64,
        ctypes.POINTER(i64), i64]
    return library
