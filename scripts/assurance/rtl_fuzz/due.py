"""Headers of requests, and the answers that are due to them."""

from dataclasses import dataclass
from struct import pack, unpack_from
from zlib import crc32

from tritstream.hw.protocol import HEADER_BYTES, MAGIC, REQUEST_ALIGN, Opcode

__all__ = ["Due", "Head", "told"]


@dataclass(frozen=True)
class Head:
    """A request's header that counted, and how many bytes the frame takes to its very end."""

    opcode:   int
    sequence: int
    arg0:     int
    arg1:     int
    length:   int

    @property
    def trailer(self) -> int:
        """Where the trailer begins."""
        return REQUEST_ALIGN + self.length + -self.length % REQUEST_ALIGN

    @property
    def size(self) -> int:
        """Bytes of header, payload and trailer, each with its padding."""
        return self.trailer + REQUEST_ALIGN

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Depth, groups and columns of a GEMV."""
        return self.arg0 & 0xFF, self.arg0 >> 8 & 0xFFFF, self.arg0 >> 24


@dataclass(frozen=True)
class Due:
    """An answer that is due. Of DONE and COUNTERS ``counts`` has what can be known of the payload:
    the words, or frames good, frames bad, the last error, and how many RESETs there have been.
    """

    opcode:   int
    sequence: int
    arg0:     int = 0
    arg1:     int = 0
    payload:  bytes = b""
    counts:   tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """For reports."""
        return f"ERROR {self.arg0}" if self.opcode == Opcode.ERROR else Opcode(self.opcode).name

    @property
    def length(self) -> int:
        """Bytes of the payload."""
        return 32 if self.opcode in (Opcode.DONE, Opcode.COUNTERS) else len(self.payload)

    def header(self) -> bytes:
        """The header's bytes, without padding."""
        fields = pack("<HBBIII", MAGIC, self.opcode, self.sequence, self.arg0, self.arg1,
                      self.length)
        return fields + pack("<I", crc32(fields))

    def __str__(self) -> str:
        return f"{self.name} of sequence {self.sequence}, arguments {self.arg0}, {self.arg1}"


def told(said: bytes) -> str:
    """What an answer says it is, or its first bytes if it is none."""
    if unpack_from("<H", said)[0] != MAGIC:
        return said[:HEADER_BYTES].hex()
    _, opcode, sequence, arg0, arg1, length = unpack_from("<HBBIII", said)
    return (f"answer 0x{opcode:02x} of sequence {sequence}, arguments {arg0}, {arg1}, "
            f"{length} bytes,")
