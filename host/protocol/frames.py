"""Frames as bytes: requests to send, answers to check. Nothing here waits or remembers.

The layout is that of :mod:`tritstream.hw.protocol`: header, payload and trailer, each padded with zeros, to
64 bytes in a request and to whole words of ``lanes`` bytes in an answer.
"""

from dataclasses import dataclass
from struct import Struct
from zlib import crc32

from tritstream.host.errors import BadAnswer
from tritstream.host.protocol.crc import crc32_combine
from tritstream.hw.protocol import (
    HEADER_BYTES,
    HEADER_CRC_OFFSET,
    MAGIC,
    REQUEST_ALIGN,
    TRAILER_BYTES,
)

__all__ = ["Header", "Answer", "Stored", "padded", "request", "answer_bytes", "rest_bytes",
           "answer", "answers"]

_FIELDS = Struct("<HBBIII")
_CRC    = Struct("<I")


def padded(count: int, align: int) -> int:
    """Smallest multiple of ``align`` that is not below ``count``."""
    return -(-count // align) * align


@dataclass(frozen=True)
class Header:
    """Header of a frame, without magic and CRC; ``length`` is in bytes before padding."""

    opcode:   int
    sequence: int
    arg0:     int
    arg1:     int
    length:   int

    def pack(self) -> bytes:
        """Return the 20 bytes on the wire."""
        fields = _FIELDS.pack(
            MAGIC, self.opcode, self.sequence, self.arg0, self.arg1, self.length)
        return fields + _CRC.pack(crc32(fields))

    @classmethod
    def parse(cls, data: bytes) -> "Header | None":
        """Read a header from the first 20 bytes; None unless both magic and CRC are right."""
        magic, *fields = _FIELDS.unpack_from(data)
        crc, = _CRC.unpack_from(data, HEADER_CRC_OFFSET)
        if magic != MAGIC or crc != crc32(data[:HEADER_CRC_OFFSET]):
            return None
        return cls(*fields)


@dataclass(frozen=True)
class Answer:
    """A whole answer with the right CRCs."""

    header:  Header
    payload: bytes


@dataclass(frozen=True)
class Stored:
    """A payload that the board has in its memory.

    Members
    -------
    address : int
        Its first byte, a multiple of 64.
    length : int
        Bytes before padding; zeros follow in memory, to a multiple of 64.
    crc : int
        CRC-32 with padding.
    """

    address: int
    length:  int
    crc:     int

    @property
    def nbytes(self) -> int:
        """Bytes before padding, as of a view."""
        return self.length

    @property
    def size(self) -> int:
        """Bytes with padding."""
        return padded(self.length, REQUEST_ALIGN)


def request(
    opcode: int, sequence: int, arg0: int = 0, arg1: int = 0,
    payload: bytes | memoryview | Stored = b"",
) -> list[bytes | memoryview | Stored]:
    """Return the buffers of a request, to be sent in order.

    Each is a multiple of 64 bytes. The payload's whole multiples are a view of ``payload``, which
    is any C-contiguous buffer; only what is left over is copied, into the last buffer. A payload
    that is stored goes between the two others as it is.
    """
    if isinstance(payload, Stored):
        head = Header(opcode, sequence, arg0, arg1, payload.length).pack().ljust(
            REQUEST_ALIGN, b"\0")
        crc = crc32_combine(crc32(head), payload.crc, payload.size)
        return [head, payload, _CRC.pack(crc).ljust(REQUEST_ALIGN, b"\0")]
    body = memoryview(payload).cast("B")
    head = Header(opcode, sequence, arg0, arg1, len(body)).pack().ljust(REQUEST_ALIGN, b"\0")
    whole = len(body) - len(body) % REQUEST_ALIGN
    rest = bytes(body[whole:])
    rest = rest.ljust(padded(len(rest), REQUEST_ALIGN), b"\0")
    crc = crc32(rest, crc32(body[:whole], crc32(head)))
    tail = rest + _CRC.pack(crc).ljust(REQUEST_ALIGN, b"\0")
    return [head, body[:whole], tail] if whole else [head, tail]


def answer_bytes(length: int, lanes: int) -> int:
    """Bytes of an answer with a payload of ``length`` bytes, for words of ``lanes`` bytes."""
    return sum(padded(count, lanes) for count in (HEADER_BYTES, length, TRAILER_BYTES))


def rest_bytes(header: Header, lanes: int) -> int:
    """Bytes of an answer that follow the 20 of its header, for words of ``lanes`` bytes."""
    return answer_bytes(header.length, lanes) - HEADER_BYTES


def answer(header: Header, rest: bytes, lanes: int) -> Answer:
    """Check what follows a header, ``rest_bytes(header, lanes)`` bytes, and take out the payload.

    Raises :class:`BadAnswer` when the trailer does not match.
    """
    trailer = len(rest) - padded(TRAILER_BYTES, lanes)
    crc, = _CRC.unpack_from(rest, trailer)
    if crc != crc32(memoryview(rest)[:trailer], crc32(header.pack())):
        raise BadAnswer(f"trailer CRC of answer 0x{header.opcode:02x} is wrong")
    start = padded(HEADER_BYTES, lanes) - HEADER_BYTES
    return Answer(header, rest[start:start + header.length])


def answers(data: bytes, lanes: int, align: int) -> list[Answer]:
    """Whole answers that follow each other, each filled up to a multiple of ``align`` bytes.

    Raises :class:`BadAnswer` when a trailer does not match.
    """
    found = []
    while data:
        header = Header.parse(data)
        size = answer_bytes(header.length, lanes)
        found.append(answer(header, data[HEADER_BYTES:size], lanes))
        data = data[padded(size, align):]
    return found
