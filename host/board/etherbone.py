"""Etherbone packets as LiteEth speaks them: words of 32 bits to and from a bus, over UDP.

A packet has one record: words to write at rising addresses, then addresses to read. The answer
returns the words read, under the number that was given as the address to return them to. Numbers
are big-endian.
"""

from struct import Struct

import numpy as np

__all__ = ["MOST_WORDS", "answer", "request"]

#: Words a packet writes or reads at most: LiteEth holds 256 with addresses, in a frame of Ethernet.
MOST_WORDS = 240

_HEAD   = Struct(">HBBI")
_RECORD = Struct(">BBBB")
_WORD   = Struct(">I")
_MAGIC, _VERSION, _SIZES, _BYTES = 0x4E6F, 0x10, 0x44, 0x0F


def request(number: int, address: int, data: bytes | memoryview, reads: list[int]) -> bytes:
    """A packet that writes ``data``, whole words, from ``address`` on, and then reads words.

    At least one word is read, so that there is an answer.
    """
    words = np.frombuffer(data, dtype="<u4")
    if not (0 < len(reads) <= MOST_WORDS and len(words) + len(reads) <= MOST_WORDS + 1):
        raise ValueError(f"a packet does not hold {len(words)} words and {len(reads)} reads")
    writes = _WORD.pack(address) + words.astype(">u4").tobytes() if len(words) else b""
    return (_HEAD.pack(_MAGIC, _VERSION, _SIZES, 0)
            + _RECORD.pack(0, _BYTES, len(words), len(reads)) + writes
            + _WORD.pack(number) + np.array(reads, dtype=">u4").tobytes())


def answer(packet: bytes) -> tuple[int, bytes] | None:
    """Number and words of an answer, None for a packet that is none."""
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
