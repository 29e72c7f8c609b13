"""Records that a device reports: INFO, COUNTERS and DONE."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from struct import Struct

from tritstream.golden.fixed_point import GROUP, MAX_K
from tritstream.host.errors import BadAnswer, DeviceError
from tritstream.hw.config import LANE_COUNTS, MAX_COLUMNS
from tritstream.hw.protocol import COUNTER_FIELDS, DONE_FIELDS, INFO_FIELDS, VERSION

__all__ = ["DONE_BYTES", "Counters", "Info", "Stats"]

#: Bytes of the payload of DONE.
DONE_BYTES = 8 * len(DONE_FIELDS)


@dataclass(frozen=True)
class Info:
    """Sizes and identity of a device.

    Members
    -------
    version : int
        Protocol version.
    lanes : int
        Bytes per word, and row tiles per row block.
    columns : int
        Activation vectors that the device holds and multiplies in one pass over the weights.
    max_k : int
        Longest activation vector that the device holds.
    clock_hz : int
        Clock frequency in Hz, 0 for a simulation.
    build_id : int
        Number of the build, chosen when the device was built.
    """

    version:  int
    lanes:    int
    columns:  int
    max_k:    int
    clock_hz: int
    build_id: int

    @classmethod
    def parse(cls, payload: bytes) -> "Info":
        """Read an INFO payload; raises :class:`BadAnswer` when its length is wrong."""
        return cls(*_numbers("INFO", INFO_FIELDS, "I", payload))

    def check_usable(self, lanes: int | None) -> None:
        """Raise :class:`DeviceError` unless this driver can use the device.

        ``lanes`` is the lane count in the header of INFO.
        """
        if not 1 <= self.version <= VERSION:
            raise DeviceError(f"device speaks protocol version {self.version}, this driver "
                              f"versions 1 to {VERSION}: take driver and gateware of the same "
                              "release")
        if (self.lanes not in LANE_COUNTS or self.lanes != lanes
                or not 1 <= self.columns <= MAX_COLUMNS or not GROUP <= self.max_k <= MAX_K):
            raise DeviceError(f"device reports impossible sizes: {self.lanes} lanes, "
                              f"{self.columns} columns, max K {self.max_k}")


@dataclass(frozen=True)
class Counters:
    """Counters of a device since its reset; ``last_error`` is 0 if there was no error."""

    frames_good: int
    frames_bad:  int
    last_error:  int
    cycles:      int

    @classmethod
    def parse(cls, payload: bytes) -> "Counters":
        """Read a COUNTERS payload; raises :class:`BadAnswer` when its length is wrong."""
        return cls(*_numbers("COUNTERS", COUNTER_FIELDS, "Q", payload))


@dataclass(frozen=True)
class Stats:
    """Measured cost of a product, summed over its GEMV frames.

    Members
    -------
    cycles : int
        Cycles from the first payload word of a frame to its last RESULT.
    input_stalls, output_stalls : int
        Cycles in which the device waited for words, and for responses to be taken.
    words : int
        Payload words.
    stream_bytes : int
        Bytes of these words: packed weights with the padding of row blocks.
    frames : int
        GEMV frames that succeeded. Failed frames are not counted in the fields above.
    retries : int
        Failed attempts, including those of loads.
    """

    cycles:        int = 0
    input_stalls:  int = 0
    output_stalls: int = 0
    words:         int = 0
    stream_bytes:  int = 0
    frames:        int = 0
    retries:       int = 0

    @classmethod
    def parse(cls, payload: bytes, lanes: int) -> "Stats":
        """Read the DONE payload of a frame; raises :class:`BadAnswer` when its length is wrong."""
        cycles, input_stalls, output_stalls, words = _numbers("DONE", DONE_FIELDS, "Q", payload)
        return cls(cycles, input_stalls, output_stalls, words, stream_bytes=words * lanes, frames=1)

    def of_frame(self, size: int) -> "Stats":
        """Return these statistics; raises :class:`BadAnswer` unless ``size`` bytes were counted."""
        if self.stream_bytes != size:
            raise BadAnswer(f"DONE counts {self.stream_bytes} bytes of words where {size} were "
                            "sent")
        return self

    def __add__(self, other: "Stats") -> "Stats":
        return Stats.total((self, other))

    @classmethod
    def total(cls, parts: Collection["Stats"]) -> "Stats":
        """Return the sum of any number of statistics."""
        if len(parts) == 1:
            return next(iter(parts))
        return cls(*map(sum, zip(*(vars(part).values() for part in parts), strict=True)))


def _numbers(what: str, names: Sequence[str], code: str, payload: bytes) -> tuple[int, ...]:
    layout = _layout(f"<{len(names)}{code}")
    if len(payload) != layout.size:
        raise BadAnswer(f"{what} has {len(payload)} bytes where {layout.size} are expected")
    return layout.unpack(payload)


@cache
def _layout(form: str) -> Struct:
    return Struct(form)
