"""Frames as bytes: build requests, check responses. These functions keep no state.

The layout is defined by :mod:`tritstream.hw.protocol`: header, payload and trailer. Each is padded
with zeros, in a request to 64 bytes, in a response to a multiple of ``lanes`` bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from struct import Struct
from typing import NamedTuple, overload
from zlib import crc32

from tritstream.host.errors import BadAnswer
from tritstream.host.protocol.crc import crc32_combine
from tritstream.host.transports.base import Stored
from tritstream.hw.protocol import (
    HEADER_BYTES,
    HEADER_CRC_OFFSET,
    MAGIC,
    REQUEST_ALIGN,
    TRAILER_BYTES,
)

__all__ = [
    "Answer",
    "Header",
    "answer",
    "answer_bytes",
    "answers",
    "joined",
    "padded",
    "payload_crc",
    "plain_header",
    "request",
    "rest_bytes",
    "valid_count",
    "valid_crc",
]

_FIELDS = Struct("<HBBIII")
_CRC    = Struct("<I")

#: Bytes of the longest buffer that is copied in order to be sent with others.
_SHORT = 1 << 15


def padded(count: int, align: int) -> int:
    """Return ``count`` rounded up to a multiple of ``align``."""
    return -(-count // align) * align


class Header(NamedTuple):
    """Header of a frame without magic and CRC. ``length`` is in bytes, before padding."""

    opcode:   int
    sequence: int
    arg0:     int
    arg1:     int
    length:   int

    def pack(self) -> bytes:
        """Return the 20 bytes that are sent."""
        fields = _FIELDS.pack(
            MAGIC, self.opcode, self.sequence, self.arg0, self.arg1, self.length)
        return fields + _CRC.pack(crc32(fields))

    @classmethod
    def parse(cls, data: bytes | bytearray) -> "Header | None":
        """Read a header from the first 20 bytes; return None if magic or CRC is wrong."""
        magic, *fields = _FIELDS.unpack_from(data)
        crc, = _CRC.unpack_from(data, HEADER_CRC_OFFSET)
        if magic != MAGIC or crc != crc32(data[:HEADER_CRC_OFFSET]):
            return None
        return cls(*fields)


class Answer(NamedTuple):
    """A complete response with valid CRCs."""

    header:  Header
    payload: bytes


@overload
def request(
    opcode: int, sequence: int, arg0: int = 0, arg1: int = 0, payload: bytes | memoryview = b"",
    payload_crc: int | None = None,
) -> Sequence[bytes | memoryview]: ...


@overload
def request(
    opcode: int, sequence: int, arg0: int = 0, arg1: int = 0,
    payload: bytes | memoryview | Stored = b"", payload_crc: int | None = None,
) -> Sequence[bytes | memoryview | Stored]: ...


def request(
    opcode: int, sequence: int, arg0: int = 0, arg1: int = 0,
    payload: bytes | memoryview | Stored = b"", payload_crc: int | None = None,
) -> Sequence[bytes | memoryview | Stored]:
    """Return the buffers of a request, to be sent in order.

    The size of each buffer is a multiple of 64 bytes. Short bytes are in one buffer with header and
    trailer. Otherwise, ``payload`` is any C-contiguous buffer. The second buffer is a view of it,
    except for the last bytes that do not fill 64: they are copied into the last buffer. A stored
    payload is the second of three items. ``payload_crc`` is the
    result of :func:`payload_crc` if it is known, so that the bytes need not be read.
    """
    if isinstance(payload, Stored):
        head, crc = _head(opcode, sequence, arg0, arg1, payload.length)
        return [head, payload, _trailer(crc32_combine(crc, payload.crc, payload.size))]
    if isinstance(payload, bytes) and len(payload) <= _SHORT:
        head, crc = _head(opcode, sequence, arg0, arg1, len(payload))
        short = payload + bytes(-len(payload) % REQUEST_ALIGN)
        return [b"".join((head, short, _trailer(crc32(short, crc))))]
    body = memoryview(payload).cast("B")
    head, crc = _head(opcode, sequence, arg0, arg1, len(body))
    whole = len(body) - len(body) % REQUEST_ALIGN
    rest = _rest(body)
    if payload_crc is None:
        crc = crc32(rest, crc32(body[:whole], crc))
    else:
        crc = crc32_combine(crc, payload_crc, whole + len(rest))
    tail = rest + _trailer(crc)
    return [head, body[:whole], tail] if whole else [head, tail]


def payload_crc(payload: bytes | memoryview) -> int:
    """Return the CRC-32 of the payload of a request, with its padding."""
    body = memoryview(payload).cast("B")
    return crc32(_rest(body), crc32(body[:len(body) - len(body) % REQUEST_ALIGN]))


def joined(
    buffers: Iterable[bytes | memoryview | Stored],
) -> Iterator[bytes | memoryview | Stored]:
    """Yield buffers in order, with short ones joined, because each takes a call of the system."""
    short: list[bytes | memoryview] = []
    for buffer in buffers:
        if isinstance(buffer, Stored) or len(buffer) > _SHORT:
            if short:
                yield b"".join(short)
                short = []
            yield buffer
        else:
            short.append(buffer)
    if short:
        yield b"".join(short)


@lru_cache(maxsize=1 << 14)
def _head(*fields: int) -> tuple[bytes, int]:
    """Return the first part of a request, 64 bytes, and its CRC-32."""
    head = Header(*fields).pack().ljust(REQUEST_ALIGN, b"\0")
    return head, crc32(head)


def _trailer(crc: int) -> bytes:
    return _CRC.pack(crc).ljust(REQUEST_ALIGN, b"\0")


def _rest(body: memoryview) -> bytes:
    """Return the last bytes of a payload that do not fill 64, padded."""
    short = len(body) % REQUEST_ALIGN
    return bytes(body[-short:]).ljust(REQUEST_ALIGN, b"\0") if short else b""


@lru_cache(maxsize=1024)
def plain_header(opcode: int, sequence: int, length: int) -> bytes:
    """Return the header of a response without arguments, as devices send it."""
    return Header(opcode, sequence, 0, 0, length).pack()


@lru_cache(maxsize=1024)
def answer_bytes(length: int, lanes: int) -> int:
    """Return the size of a response with ``length`` payload bytes, for ``lanes`` bytes per word."""
    return sum(padded(count, lanes) for count in (HEADER_BYTES, length, TRAILER_BYTES))


def rest_bytes(header: Header, lanes: int) -> int:
    """Return the bytes of a response after its 20 header bytes, for ``lanes`` bytes per word."""
    return answer_bytes(header.length, lanes) - HEADER_BYTES


def answer(header: Header, rest: bytes, lanes: int) -> Answer:
    """Check the ``rest_bytes(header, lanes)`` bytes after a header, and extract the payload.

    Raises :class:`BadAnswer` when the trailer CRC is wrong.
    """
    trailer = len(rest) - padded(TRAILER_BYTES, lanes)
    crc, = _CRC.unpack_from(rest, trailer)
    if crc != crc32(memoryview(rest)[:trailer], crc32(header.pack())):
        raise BadAnswer(f"trailer CRC of answer 0x{header.opcode:02x} is wrong")
    start = padded(HEADER_BYTES, lanes) - HEADER_BYTES
    return Answer(header, rest[start:start + header.length])


def valid_count(data: bytes, size: int, lanes: int) -> int:
    """Return how many of the responses of ``size`` bytes each have a valid trailer, up to the first
    that has not.

    If all are valid, one CRC-32 of all bytes says so. A single damaged response always changes it,
    several together keep it as rarely (one in 2^32) as a damaged response keeps its own.
    """
    count, view = len(data) // size, memoryview(data)
    if crc32(data) == valid_crc(size, lanes, count):
        return count
    for index in range(count):
        end = (index + 1) * size - padded(TRAILER_BYTES, lanes)
        if _CRC.pack(crc32(view[index * size:end])) != view[end:end + TRAILER_BYTES]:
            return index
    return count


def valid_crc(size: int, lanes: int, count: int) -> int:
    """Return the CRC-32 of any ``count`` valid responses of ``size`` bytes, with zeros as padding.

    The CRC-32 of bytes that their own CRC-32 follows does not depend on the bytes.
    """
    known = _known_crcs(size, padded(TRAILER_BYTES, lanes))
    while len(known) <= count:
        known.append(crc32_combine(known[-1], known[1], size))
    return known[count]


@cache
def _known_crcs(size: int, trailer: int) -> list[int]:
    """Return the results of :func:`valid_crc` that are known so far, by ``count``."""
    return [0, crc32(bytes(trailer))]


def answers(data: bytes, lanes: int, align: int) -> list[Answer]:
    """Parse consecutive responses, each padded to a multiple of ``align`` bytes.

    Raises :class:`BadAnswer` when a header or a trailer is invalid.
    """
    parsed = []
    while data:
        header = Header.parse(data)
        if header is None:
            raise BadAnswer("answer starts with no valid header")
        size = answer_bytes(header.length, lanes)
        parsed.append(answer(header, data[HEADER_BYTES:size], lanes))
        data = data[padded(size, align):]
    return parsed
