"""Row sums collected from the RESULT responses to one GEMV frame."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple
from zlib import crc32

import numpy as np

from tritstream.golden.fixed_point import ROWS
from tritstream.host.errors import BadAnswer
from tritstream.host.protocol.crc import crc32_combine
from tritstream.host.protocol.frames import (
    Answer,
    Header,
    answer_bytes,
    padded,
    plain_header,
    valid_count,
    valid_crc,
)
from tritstream.host.protocol.records import DONE_BYTES
from tritstream.hw.protocol import HEADER_BYTES, Opcode

__all__ = ["Results"]


class Results:
    """Row sums of some row blocks. RESULTs may come in any order, but each only once.

    Parameters
    ----------
    blocks, columns : int
        Number of row blocks and of activation columns of the frame.
    lanes : int
        Lanes of the device.
    """

    def __init__(self, blocks: int, columns: int, lanes: int):
        self._blocks, self._columns, self._lanes = blocks, columns, lanes
        self._by_place = np.empty((blocks * columns, ROWS * lanes), dtype="<i8")
        self._start = padded(HEADER_BYTES, lanes)
        #: RESULTs that came in order, as they should, and places of all others.
        self._in_order = 0
        self._others: set[int] = set()

    @property
    def sums(self) -> np.ndarray:
        """Row sums, int64 (columns, blocks, 5 * lanes), when :meth:`close` raises nothing."""
        return self._by_place.reshape(self._blocks, self._columns, -1).transpose(1, 0, 2)

    def add(self, answer: Answer) -> None:
        """Add a RESULT.

        Raises :class:`BadAnswer` when its block, column or length does not fit this frame, or when
        the same RESULT was added before.
        """
        block, column = answer.header.arg0, answer.header.arg1
        size = self._by_place[0].nbytes
        if block >= self._blocks or column >= self._columns:
            raise BadAnswer(f"RESULT of block {block}, column {column} in a frame of "
                            f"{self._blocks} blocks, {self._columns} columns")
        if len(answer.payload) != size:
            raise BadAnswer(f"RESULT has {len(answer.payload)} bytes where {size} are expected")
        place = block * self._columns + column
        if place < self._in_order or place in self._others:
            raise BadAnswer(f"second RESULT of block {block}, column {column}")
        if place == self._in_order and not self._others:
            self._in_order += 1
        else:
            self._others.add(place)
        self._by_place[place] = np.frombuffer(answer.payload, dtype="<i8")

    def add_all(self, received: bytearray, sequence: int) -> int:
        """Add the RESULTs at the start of some bytes, and return the number of their bytes.

        Only RESULTs that are complete and valid are added, and only those that a device sends
        next: request ``sequence``, blocks and columns in order. The others are left to :meth:`add`.
        """
        length, lanes = self._by_place[0].nbytes, self._lanes
        size = answer_bytes(length, lanes)
        count = min(len(received) // size, len(self._by_place) - self._in_order)
        if count == 0 or self._others:
            return 0
        data = bytes(memoryview(received)[:count * size])
        frames = np.frombuffer(data, np.uint8).reshape(count, size)
        valid = min(valid_count(data, size, lanes), _first_difference(
            frames[:, :HEADER_BYTES], self._due_headers(sequence, count)))
        self._store(frames[:valid])
        return valid * size

    def _due_headers(self, sequence: int, count: int) -> np.ndarray:
        """Return the headers of the next RESULTs, uint8 (count, 20)."""
        headers = _headers(self._blocks, self._columns, self._by_place[0].nbytes)
        return headers[self._in_order:self._in_order + count] ^ _changes("sequence")[sequence]

    def _store(self, frames: np.ndarray) -> None:
        """Keep the row sums of the next RESULTs, which are frames, uint8 (n, bytes)."""
        place, sums = self._in_order, self._by_place.view(np.uint8)
        self._in_order += len(frames)
        sums[place:self._in_order] = frames[:, self._start:self._start + sums.shape[1]]

    def take_all(
        self, received: bytearray, loads: Sequence[int], sequence: int,
    ) -> bytes | None:
        """Take all that is due if it has come: ACKs of loads, RESULTs and DONE of ``sequence``.

        Returns the payload of DONE and removes the bytes, if every response is as devices send it.
        Otherwise, returns None and changes nothing.
        """
        length, count = self._by_place[0].nbytes, len(self._by_place) - self._in_order
        due = _due(len(loads), count, length, self._lanes)
        if self._others or len(received) < due.size:
            return None
        data = bytes(memoryview(received)[:due.size])
        frames = np.frombuffer(data, np.uint8, count * due.result, due.results).reshape(
            count, due.result)
        if (crc32(data) != due.crc or frames[:, :HEADER_BYTES].tobytes() != self._due_headers(
                sequence, count).tobytes()
                or not data.startswith(plain_header(Opcode.DONE, sequence, DONE_BYTES), due.done)
                or not all(data.startswith(plain_header(Opcode.ACK, load, 0), at * due.ack)
                           for at, load in enumerate(loads))):
            return None
        self._store(frames)
        del received[:due.size]
        return data[due.counts:due.counts + DONE_BYTES]

    def close(self) -> None:
        """Raise :class:`BadAnswer` unless every RESULT was added."""
        total = len(self._by_place)
        if missing := total - self._in_order - len(self._others):
            raise BadAnswer(f"DONE with {missing} of {total} RESULTs missing")


class _Due(NamedTuple):
    """Layout of the responses to a GEMV, in bytes.

    Size of an ACK, offset of the RESULTs and size of one, offsets of DONE and of its payload, size
    and CRC-32 of all.
    """

    ack:     int
    results: int
    result:  int
    done:    int
    counts:  int
    size:    int
    crc:     int


@lru_cache(maxsize=1024)
def _due(loads: int, count: int, length: int, lanes: int) -> _Due:
    """Return the layout of the ACKs of some loads, ``count`` RESULTs, and DONE.

    ``length`` is the number of bytes of a RESULT's payload.
    """
    ack, result, done = (answer_bytes(size, lanes) for size in (0, length, DONE_BYTES))
    crc = valid_crc(ack, lanes, loads)
    for each, times in ((result, count), (done, 1)):
        crc = crc32_combine(crc, valid_crc(each, lanes, times), times * each)
    first = loads * ack + count * result
    return _Due(ack, loads * ack, result, first, first + padded(HEADER_BYTES, lanes), first + done,
                crc)


def _first_difference(found: np.ndarray, due: np.ndarray) -> int:
    """Return the index of the first row, uint8 (n, bytes), that differs; n if none does."""
    if found.tobytes() == due.tobytes():
        return len(found)
    return int((found == due).all(axis=1).argmin())


@lru_cache(maxsize=256)
def _headers(blocks: int, columns: int, length: int) -> np.ndarray:
    """Return the headers of all RESULTs of a frame with sequence number 0, uint8 (n, 20)."""
    block, column = np.divmod(np.arange(blocks * columns), columns)
    headers = np.frombuffer(Header(Opcode.RESULT, 0, 0, 0, length).pack(), np.uint8)
    for shift in range(0, 32, 8):
        headers = headers ^ _changes("arg0", shift)[block >> shift & 0xFF]
    return headers ^ _changes("arg1", 0)[column]


@cache
def _changes(name: str, shift: int = 0) -> np.ndarray:
    """Return what each value of a byte of a field changes in a header, uint8 (256, 20).

    A CRC is linear, so the changes do not depend on the other bytes.
    """
    empty = Header(0, 0, 0, 0, 0)
    return np.stack([np.frombuffer(empty._replace(**{name: value << shift}).pack(), np.uint8)
                     for value in range(256)]) ^ np.frombuffer(empty.pack(), np.uint8)
