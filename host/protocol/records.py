"""What a device says of itself: INFO, COUNTERS, DONE as records."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from struct import Struct

from tritstream.host.errors import BadAnswer
from tritstream.hw.protocol import COUNTER_FIELDS, DONE_FIELDS, INFO_FIELDS

__all__ = ["Info", "Counters", "Stats"]


@dataclass(frozen=True)
class Info:
    """How a device was built.

    Members
    -------
    version : int
        Protocol version.
    lanes : int
        Bytes in a word, and row tiles in a row block.
    columns : int
        Activation vectors it holds, and multiplies in one pass over the weights.
    max_k : int
        Longest activation vector it holds.
    clock_hz : int
        Clock, 0 for a simulation.
    build_id : int
        Number its builder chose.
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
        return cls(**_numbers("INFO", INFO_FIELDS, "I", payload))


@dataclass(frozen=True)
class Counters:
    """What a device counted since its reset; ``last_error`` is 0 when there was none."""

    frames_good: int
    frames_bad:  int
    last_error:  int
    cycles:      int

    @classmethod
    def parse(cls, payload: bytes) -> "Counters":
        """Read a COUNTERS payload; raises :class:`BadAnswer` when its length is wrong."""
        return cls(**_numbers("COUNTERS", COUNTER_FIELDS, "Q", payload))


@dataclass(frozen=True)
class Stats:
    """What a product cost, summed over its GEMV frames.

    Members
    -------
    cycles : int
        From the first payload word of a frame to its last RESULT.
    input_stalls, output_stalls : int
        Cycles waited for words to come and for answers to be taken.
    words : int
        Payload words.
    stream_bytes : int
        Bytes of these words: packed weights, with the padding of row blocks.
    frames : int
        GEMV frames that succeeded; those that failed count nowhere above.
    retries : int
        Tries that failed, of loads too.
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
        """Read a DONE payload as one frame; raises :class:`BadAnswer` when its length is wrong."""
        numbers = _numbers("DONE", DONE_FIELDS, "Q", payload)
        return cls(**numbers, stream_bytes=numbers["words"] * lanes, frames=1)

    def of_frame(self, size: int) -> "Stats":
        """The same; raises :class:`BadAnswer` unless they are of a frame of ``size`` bytes."""
        if self.stream_bytes != size:
            raise BadAnswer(f"DONE counts {self.stream_bytes} bytes of words where {size} were "
                            "sent")
        return self

    def __add__(self, other: "Stats") -> "Stats":
        names = [field.name for field in fields(self)]
        return Stats(*(getattr(self, name) + getattr(other, name) for name in names))


def _numbers(what: str, names: Sequence[str], code: str, payload: bytes) -> dict[str, int]:
    layout = Struct(f"<{len(names)}{code}")
    if len(payload) != layout.size:
        raise BadAnswer(f"{what} has {len(payload)} bytes where {layout.size} are due")
    return dict(zip(names, layout.unpack(payload), strict=True))
