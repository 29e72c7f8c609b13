"""Responses of a device to a driver that multiplies one matrix, valid and changed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from struct import unpack_from
from zlib import crc32

import numpy as np

from tritstream.golden.fixed_point import GROUP, mantissas
from tritstream.golden.gemv import gemv
from tritstream.golden.quantize import quantize
from tritstream.golden.tiles import pack, word_stream
from tritstream.host.errors import TransportTimeout
from tritstream.host.transports.base import Stored, Transport
from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import HEADER_BYTES, MAGIC, TRAILER_BYTES, Opcode
from tritstream.scripts.assurance.device_model import DeviceModel
from tritstream.scripts.assurance.frames import Response, frame, parse_header
from tritstream.scripts.assurance.fuzz.mutation import changed_bytes, changed_number

__all__ = [
    "COLUMNS",
    "MATRIX",
    "SUMS",
    "Tape",
    "X",
    "answers_to_all",
    "changed_answers",
    "results_in",
]

#: Number of vectors that the device can hold, and their greatest length.
COLUMNS, _MAX_K = 2, 64

_RNG = np.random.default_rng(0)
#: The rows fill all row blocks of up to 8 lanes.
MATRIX = quantize(_RNG.standard_normal((40, 20)).astype(np.float32), 2)
X = _RNG.integers(-128, 128, (2, 20), dtype=np.int8)
SUMS = gemv(MATRIX, X)
_MAGIC = re.compile(re.escape(MAGIC.to_bytes(2, "little")))


class Tape(Transport):
    """A transport that replays responses, then stays silent.

    Parameters
    ----------
    data : bytes
        All responses.
    flow_control : bool
        Whether the transport has flow control.
    """

    def __init__(self, data: bytes, flow_control: bool = True):
        self._data, self._place, self.flow_control = data, 0, flow_control

    async def send(self, data: bytes | memoryview | Stored) -> None:
        """Ignore the request."""

    async def recv(self, count: int) -> bytes:
        """Return the next bytes; raises :class:`TransportTimeout` at the end of the tape."""
        if count > len(self._data) - self._place:
            raise TransportTimeout("the tape ends")
        self._place += count
        return self._data[self._place - count:self._place]

    def close(self) -> None:
        """Do nothing: a tape holds no resource."""


def answers_to_all(lanes: int, first: int = 1, times: int = 1) -> bytes:
    """Responses to IDENTIFY, STATUS, and ``times`` times SCALES, both ACTIVATIONS and GEMV.

    ``first`` is the sequence number of the first request.
    """
    model = DeviceModel(DeviceConfig(lanes, COLUMNS, _MAX_K, build_id=7))
    requests = [(Opcode.IDENTIFY, 0, 0, b""), (Opcode.STATUS, 0, 0, b""), *_product(lanes) * times]
    found = b""
    for sequence, (opcode, arg0, arg1, payload) in enumerate(requests, first):
        for response in model.feed(frame(opcode, sequence & 255, arg0, arg1, payload)):
            found += response.frame(lanes, _content(response))
    return found


def _product(lanes: int) -> list[tuple[int, int, int, bytes]]:
    """Opcode, arguments and payload of the requests of a product."""
    words = word_stream(pack(MATRIX), lanes)
    x = np.zeros((len(X), GROUP * MATRIX.groups), np.int8)
    x[:, :MATRIX.columns] = X
    vectors = [(Opcode.ACTIVATIONS, column, len(row), row.tobytes())
               for column, row in enumerate(x)]
    sizes = MATRIX.depth | MATRIX.groups << 8 | len(X) << 24
    return [(Opcode.SCALES, 0, 0, mantissas(MATRIX.table).astype("<u4").tobytes()),
            *vectors, (Opcode.GEMV, sizes, len(words), words.tobytes())]


def _content(response: Response) -> bytes:
    """Payload of a response; DONE has cycles and stalls that a device could have."""
    if response.opcode != Opcode.DONE:
        return bytes(response.length) if response.counts else response.payload
    return response.content(response.counts[0] + 20, (3, 1))


@dataclass
class _Frame:
    """Fields of a response."""

    numbers: list[int]      # opcode, sequence, arg0, arg1
    payload: bytes

    def bytes(self, lanes: int) -> bytes:
        """Return the frame; fields that are too large are cut off."""
        opcode, sequence, arg0, arg1 = self.numbers
        return frame(opcode & 255, sequence & 255, arg0 % (1 << 32), arg1 % (1 << 32),
                     self.payload, align=lanes)


def results_in(data: bytes, lanes: int) -> set[bytes]:
    """Return the payloads of all RESULTs with valid CRCs, at any offset."""
    return {one.payload for one in _frames(data, lanes) if one.numbers[0] == Opcode.RESULT}


def changed_answers(data: bytes, lanes: int, rng: Random) -> bytes:
    """Change, move, repeat or drop responses; their CRCs are valid most of the time."""
    found = list(_frames(data, lanes))
    if not found or rng.random() < 0.3:
        return changed_bytes(data, rng)
    for _ in range(rng.choice((1, 1, 2, 5))):
        _change(found, rng)
    return b"".join(one.bytes(lanes) for one in found)


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


def _frames(data: bytes, lanes: int) -> Iterator[_Frame]:
    """Yield complete responses with valid CRCs, at any offset."""
    for found in _MAGIC.finditer(data):
        start = found.start()
        header = parse_header(data, start)
        if header is None:
            continue
        opcode, sequence, arg0, arg1, length = header
        payload = start + -(-HEADER_BYTES // lanes) * lanes
        end = payload + -(-length // lanes) * lanes
        if (end + TRAILER_BYTES <= len(data)
                and unpack_from("<I", data, end)[0] == crc32(data[start:end])):
            yield _Frame([opcode, sequence, arg0, arg1], data[payload:payload + length])
