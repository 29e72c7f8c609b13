"""What a device answers to a driver that multiplies one matrix: frames, made and changed."""

import zlib
from dataclasses import dataclass
from random import Random
from struct import pack, unpack_from

import numpy as np

from tritstream.golden.fixed_point import ROWS, row_blocks, tile_bytes
from tritstream.golden.gemv import gemv
from tritstream.golden.quantize import quantize
from tritstream.host.errors import TransportTimeout
from tritstream.host.transports.base import Stored, Transport
from tritstream.hw.protocol import MAGIC, VERSION, Opcode
from tritstream.scripts.assurance.fuzz.mutation import changed_bytes, changed_number

__all__ = ["COLUMNS", "MATRIX", "SUMS", "X", "Tape", "answers_to_all", "changed_answers", "frame",
           "results_in"]

#: Vectors that the device holds.
COLUMNS = 2

_RNG = np.random.default_rng(0)
#: Its rows fill whole row blocks of up to 8 lanes.
MATRIX = quantize(_RNG.standard_normal((40, 20)).astype(np.float32), 2)
X = _RNG.integers(-128, 128, (2, 20), dtype=np.int8)
SUMS = gemv(MATRIX, X)
_HEADER = 20


class Tape(Transport):
    """A transport whose answers are on a tape, and then silence.

    Parameters
    ----------
    data : bytes
        The answers.
    flow_control : bool
        As of a transport.
    """

    def __init__(self, data: bytes, flow_control: bool = True):
        self._data, self._place, self.flow_control = data, 0, flow_control

    async def send(self, data: bytes | memoryview | Stored) -> None:
        """Nobody listens."""

    async def recv(self, count: int) -> bytes:
        """The next bytes; :class:`TransportTimeout` where there are not so many."""
        if count > len(self._data) - self._place:
            raise TransportTimeout("the tape ends")
        self._place += count
        return self._data[self._place - count:self._place]

    def close(self) -> None:
        """Nothing is open."""


def frame(lanes: int, opcode: int, sequence: int, arg0: int = 0, arg1: int = 0,
          payload: bytes = b"") -> bytes:
    """A whole answer of a device of so many lanes."""
    fields = pack("<HBBIII", MAGIC, opcode, sequence & 255, arg0 % (1 << 32), arg1 % (1 << 32),
                  len(payload))
    parts = (fields + pack("<I", zlib.crc32(fields)), payload)
    body = b"".join(part + bytes(-len(part) % lanes) for part in parts)
    return body + pack("<I", zlib.crc32(body)) + bytes(-4 % lanes)


def answers_to_all(lanes: int, first: int = 1, times: int = 1) -> bytes:
    """Answers to IDENTIFY, STATUS, SCALES, both ACTIVATIONS and GEMV, and to as many repetitions.

    ``first`` is the sequence number of the first request.
    """
    info = pack("<6I", VERSION, lanes, COLUMNS, 64, 0, 7)
    found = [frame(lanes, Opcode.INFO, first, lanes, 0, info),
             frame(lanes, Opcode.COUNTERS, first + 1, payload=bytes(32))]
    for turn in range(times):
        found += _product(lanes, first + 2 + 4 * turn)
    return b"".join(found)


def _product(lanes: int, first: int) -> list[bytes]:
    blocks = row_blocks(MATRIX.rows, lanes)
    sums = np.zeros((len(X), blocks * ROWS * lanes), "<i8")
    sums[:, :MATRIX.rows] = SUMS
    found = [frame(lanes, Opcode.ACK, first + turn) for turn in range(1 + len(X))]
    last = first + 1 + len(X)
    for block in range(blocks):
        for column in range(len(X)):
            some = sums[column].reshape(blocks, -1)[block].tobytes()
            found.append(frame(lanes, Opcode.RESULT, last, block, column, some))
    words = blocks * MATRIX.groups * tile_bytes(MATRIX.depth)
    return [*found, frame(lanes, Opcode.DONE, last, payload=pack("<4Q", words + 20, 3, 1, words))]


@dataclass
class _Frame:
    """An answer taken apart."""

    numbers: list[int]      # opcode, sequence, arg0, arg1
    payload: bytes


def results_in(data: bytes, lanes: int) -> set[bytes]:
    """Payloads of all RESULTs with right CRCs that begin anywhere."""
    return {one.payload for _, one in _frames(data, lanes) if one.numbers[0] == Opcode.RESULT}


def changed_answers(data: bytes, lanes: int, rng: Random) -> bytes:
    """Answers of which one is changed, moved, doubled or lost, most often with right CRCs."""
    found = [one for _, one in _frames(data, lanes)]
    if not found or rng.random() < 0.3:
        return changed_bytes(data, rng)
    for _ in range(rng.choice((1, 1, 2, 5))):
        _change(found, rng)
    return b"".join(frame(lanes, one.numbers[0] & 255, *one.numbers[1:], one.payload)
                    for one in found)


def _change(found: list[_Frame], rng: Random) -> None:
    at = rng.randrange(len(found))
    one, what = found[at], rng.random()
    if what < 0.4:
        place = rng.randrange(4)
        one.numbers[place] = changed_number(one.numbers[place], rng)
        if rng.random() < 0.2:
            one.numbers[0] = rng.choice(list(Opcode))
    elif what < 0.7:
        one.payload = changed_bytes(one.payload, rng)
    elif what < 0.8 and len(found) > 1:
        del found[at]
    else:
        copy = _Frame(list(one.numbers), one.payload)
        found.insert(rng.randrange(len(found) + 1), copy if what < 0.9 else found.pop(at))


def _frames(data: bytes, lanes: int) -> list[tuple[int, _Frame]]:
    """Whole answers that begin anywhere, and where."""
    found, magic = [], MAGIC.to_bytes(2, "little")
    at = data.find(magic)
    while 0 <= at <= len(data) - _HEADER:
        _, opcode, sequence, arg0, arg1, length, crc = unpack_from("<HBBIIII", data, at)
        body = -(-_HEADER // lanes) * lanes
        end = at + body + -(-length // lanes) * lanes
        if (crc == zlib.crc32(data[at:at + 16]) and end + 4 <= len(data)
                and unpack_from("<I", data, end)[0] == zlib.crc32(data[at:end])):
            payload = data[at + body:at + body + length]
            found.append((at, _Frame([opcode, sequence, arg0, arg1], payload)))
        at = data.find(magic, at + 1)
    return found
