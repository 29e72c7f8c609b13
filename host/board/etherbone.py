"""Etherbone packets in LiteEth's dialect: 32-bit words to and from a bus, over UDP.

A packet has one record: words to write at consecutive addresses, then addresses to read. The
response carries the words that were read, and a number from the request, whose field Etherbone
calls the return address. All fields are big-endian.
"""

from struct import Struct

import numpy as np

__all__ = ["MOST_WORDS", "answer", "request"]

#: Most words that a packet writes or reads. LiteEth holds 256 including addresses, one frame.
MOST_WORDS = 240

_HEAD   = Struct(">HBBI")
_RECORD = Struct(">BBBB")
_WORD   = Struct(">I")
_MAGIC, _VERSION, _SIZES, _BYTES = 0x4E6F, 0x10, 0x44, 0x0F


def request(number: int, address: int, data: bytes | memoryview, reads: list[int]) -> bytes:
    """Build a packet that writes words ``data`` from ``address`` on, then reads ``reads``.

    At least one address must be read, because a packet without a read gets no response.
    """
    words = np.frombuffer(data, dtype="<u4")
    if not (0 < len(reads) <= MOST_WORDS and len(words) + len(reads) <= MOST_WORDS + 1):
        raise ValueError(f"a packet does not hold {len(words)} words and {len(reads)} reads")
    writes = _WORD.pack(address) + words.astype(">u4").tobytes() if len(words) else b""
    return (_HEAD.pack(_MAGIC, _VERSION, _SIZES, 0)
            + _RECORD.pack(0, _BYTES, len(words), len(reads)) + writes
            + _WORD.pack(number) + np.array(reads, dtype=">u4").tobytes())


def answer(packet: bytes) -> tuple[int, bytes] | None:
    """Return number and words of a response, or None for an invalid packet."""
    if len(packet) < _HEAD.size + _RECORD.size + _WORD.size:
        return None
    magic, flags, *_ = _HEAD.unpack_from(packet)
    _, _, count, reads = _RECORD.unpack_from(packet, _HEAD.size)
    number, = _WORD.unpack_from(packet, _HEAD.size + _RECORD.size)
    start = _HEAD.size + _RECORD.size + _WORD.size
    if magic != _MAGIC or flags >> 4 != 1 or reads or not 0 < count <= (len(packet) - start) // 4:
        return None
    words = np.frombuffer(packet, dtype=">u4", count=count, offset=start)
    return number, words.astype("<u4").tobytes()
