"""Frames as bytes: requests and responses, built without the driver's code.

The layout is the one of :mod:`tritstream.hw.protocol`. Every builder can also build damaged frames,
because most of what the reference model judges is invalid.
"""

from dataclasses import dataclass
from struct import pack, unpack_from
from typing import NamedTuple
from zlib import crc32

from tritstream.golden.fixed_point import GROUP
from tritstream.hw.protocol import (
    HEADER_BYTES,
    HEADER_CRC_OFFSET,
    MAGIC,
    REQUEST_ALIGN,
    TRAILER_BYTES,
    Opcode,
)

__all__ = ["Exchange", "GemvSizes", "Header", "Response", "frame", "header", "padded",
           "parse_header"]


def padded(data: bytes, size: int = REQUEST_ALIGN) -> bytes:
    """Return ``data`` with zeros up to a multiple of ``size`` bytes."""
    return data + bytes(-len(data) % size)


class GemvSizes(NamedTuple):
    """Fields of the arguments of a GEMV; ``length`` is in chunks of 16 columns per group."""

    depth:   int
    chunks:  int
    columns: int
    blocks:  int
    length:  int
    direct:  bool

    @property
    def scale_words(self) -> int:
        """Scale words per group."""
        return 10 if self.direct else 3

    @property
    def groups(self) -> int:
        """Groups per row."""
        return -(-self.chunks // self.length)

    @property
    def block_words(self) -> int:
        """Words of one row block."""
        return GROUP * self.depth * self.chunks + self.scale_words * self.groups


class Header(NamedTuple):
    """Fields of a header; ``length`` is the size of the payload in bytes, without padding."""

    opcode:   int
    sequence: int
    arg0:     int
    arg1:     int
    length:   int

    @property
    def trailer(self) -> int:
        """Offset of the trailer in a request, in bytes."""
        return REQUEST_ALIGN + self.length + -self.length % REQUEST_ALIGN

    @property
    def size(self) -> int:
        """Size of a request in bytes: header, payload and trailer, each with its padding."""
        return self.trailer + REQUEST_ALIGN

    @property
    def sizes(self) -> GemvSizes:
        """Sizes of a GEMV."""
        return GemvSizes(self.arg0 & 0xFF, self.arg0 >> 8 & 0xFFFF, self.arg0 >> 24,
                         self.arg1 & 0xFFFFFF, (self.arg1 >> 24 & 0x7F) + 1, bool(self.arg1 >> 31))


def header(opcode: int, sequence: int, arg0: int = 0, arg1: int = 0, length: int = 0, *,
                 magic: int = MAGIC, fault: int = 0) -> bytes:
    """Return the 20 bytes of a header; its CRC is XORed with ``fault``."""
    fields = pack("<HBBIII", magic, opcode, sequence, arg0, arg1, length)
    return fields + pack("<I", crc32(fields) ^ fault)


def frame(opcode: int, sequence: int, arg0: int = 0, arg1: int = 0, payload: bytes = b"", *,
                align: int = REQUEST_ALIGN, length: int | None = None,
                header_fault: int = 0, trailer_fault: int = 0) -> bytes:
    """Return a frame whose three parts are each padded to ``align`` bytes.

    The header states ``length`` in place of the payload's size. Both CRCs are XORed with their
    faults.
    """
    stated = len(payload) if length is None else length
    head = header(opcode, sequence, arg0, arg1, stated, fault=header_fault)
    covered = padded(head, align) + padded(payload, align)
    return covered + padded(pack("<I", crc32(covered) ^ trailer_fault), align)


def parse_header(data: bytes | bytearray, offset: int = 0) -> Header | None:
    """Return the header at ``offset``, or None if there is no valid one."""
    if len(data) < offset + HEADER_BYTES or data[offset:offset + 2] != MAGIC.to_bytes(2, "little"):
        return None
    crc, = unpack_from("<I", data, offset + HEADER_CRC_OFFSET)
    if crc != crc32(data[offset:offset + HEADER_CRC_OFFSET]):
        return None
    return Header(*unpack_from("<BBIII", data, offset + 2))


@dataclass(frozen=True)
class Response:
    """A response of a device.

    A model cannot know all numbers of DONE and COUNTERS, because some depend on time. Their
    ``counts`` are the known ones: the words; or valid frames, invalid frames, the last error, and
    the number of RESETs, which no device reports. ``payload`` is empty then.
    """

    opcode:   int
    sequence: int
    arg0:     int = 0
    arg1:     int = 0
    payload:  bytes = b""
    counts:   tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Name in reports: the opcode's, or ERROR with its code."""
        return f"ERROR {self.arg0}" if self.opcode == Opcode.ERROR else Opcode(self.opcode).name

    @property
    def length(self) -> int:
        """Size of the payload in bytes."""
        return 32 if self.counts else len(self.payload)

    def content(self, cycles: int = 0, stalls: tuple[int, int] = (0, 0)) -> bytes:
        """Return the payload, with these cycles and stalls in DONE, and cycles in COUNTERS."""
        match self.opcode:
            case Opcode.DONE:
                return pack("<4Q", cycles, *stalls, *self.counts)
            case Opcode.COUNTERS:
                return pack("<4Q", *self.counts[:3], cycles)
        return self.payload

    def header(self) -> bytes:
        """Return the 20 bytes of the header."""
        return header(self.opcode, self.sequence, self.arg0, self.arg1, self.length)

    def frame(self, lanes: int, payload: bytes | None = None) -> bytes:
        """Return the frame of a device with words of ``lanes`` bytes."""
        return frame(self.opcode, self.sequence, self.arg0, self.arg1,
                           self.content() if payload is None else payload, align=lanes)

    def sizes(self, lanes: int) -> tuple[int, int, int]:
        """Sizes of header, payload and trailer on the wire, in bytes."""
        header, payload, trailer = (
            -(-size // lanes) * lanes for size in (HEADER_BYTES, self.length, TRAILER_BYTES))
        return header, payload, trailer

    def __str__(self) -> str:
        return f"{self.name} of sequence {self.sequence}, arguments {self.arg0}, {self.arg1}"


class Exchange(NamedTuple):
    """A request that has ended and all responses to it.

    ``header`` is None where words were dropped; the response is then an ERROR, or there is none.
    """

    header:    Header | None
    payload:   bytes
    responses: list[Response]
