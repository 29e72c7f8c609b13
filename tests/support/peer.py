"""A fake device for the driver's tests: the frames of docs/protocol, and faults to inject.

It shares no code with the driver or the golden model: its parser, its trit decoder and its sums
were written from the specification. It says nothing about the RTL, which has its own tests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import pack, unpack_from
from zlib import crc32

import numpy as np

from tritstream.host.errors import TransportClosed, TransportTimeout
from tritstream.host.transports.base import Transport

__all__ = ["Fault", "Peer", "Request", "build_frame"]

_ACTIVATIONS, _SCALES, _GEMV = 1, 2, 3


def build_frame(align, opcode, sequence, arg0=0, arg1=0, payload=b""):
    """A whole frame with its parts padded to ``align`` bytes."""
    fields = pack("<HBBIII", 0x3354, opcode, sequence, arg0, arg1, len(payload))
    body = b"".join(part + bytes(-len(part) % align)
                    for part in (fields + pack("<I", crc32(fields)), payload))
    return body + pack("<I", crc32(body)) + bytes(-4 % align)


def _digits_of_byte(t):
    """D0..D4 of an ASTC trit block, as the Khronos Data Format Specification has it."""
    if t >> 2 & 7 == 7:
        c, d3, d4 = (t >> 5) << 2 | t & 3, 2, 2
    elif t >> 5 & 3 == 3:
        c, d3, d4 = t & 31, t >> 7, 2
    else:
        c, d3, d4 = t & 31, t >> 5 & 3, t >> 7
    if c & 3 == 3:
        return (c >> 3 & 1) << 1 | (c >> 2 & 1) & ~(c >> 3) & 1, c >> 4, 2, d3, d4
    if c >> 2 & 3 == 3:
        return c & 3, 2, 2, d3, d4
    return (c >> 1 & 1) << 1 | c & 1 & ~(c >> 1) & 1, c >> 2 & 3, c >> 4, d3, d4


_DIGITS = np.array([_digits_of_byte(t) for t in range(256)], dtype=np.int64)
_TRIT = np.array([0, 1, -1])


@dataclass
class Request:
    """A frame whose header counted."""

    opcode: int
    sequence: int
    arg0: int
    arg1: int
    payload: bytes


#: From the peer, a request and the answers due to the answers given.
Fault = Callable[["Peer", Request, list[bytes]], list[bytes]]


class Peer(Transport):
    """A transport with a fake device at its other end.

    Members
    -------
    requests : list of Request
        Frames whose header counted, in order.
    faults : dict
        What to do to the answers of a request, by its place in ``requests``.
    sent : list
        The buffers given to :meth:`send`.
    flips, losses : set of int
        Bytes of everything sent that are inverted, or lost, on the way.
    errors : list of int
        Codes of the errors the peer found by itself.
    out : bytearray
        Answers not yet taken.
    silent, closed : bool
        Answer nothing from now on; be unplugged.
    """

    def __init__(self, lanes=8, columns=1, max_k=64, version=1, build_id=77):
        self.lanes, self.columns, self.max_k = lanes, columns, max_k
        self.version, self.build_id = version, build_id
        self.requests, self.faults, self.sent, self.errors = [], {}, [], []
        self.flips, self.losses = set(), set()
        self.out = bytearray()
        self.silent = self.closed = False
        self._in, self._taken, self._hunting = bytearray(), 0, False
        self.forget()
        self._good = self._bad = self._last = 0

    @property
    def log(self):
        """Opcodes of the requests so far."""
        return [request.opcode for request in self.requests]

    def forget(self):
        """Lose activations and scales."""
        self._x, self._m = {}, None

    async def send(self, data):
        if self.closed:
            raise TransportClosed("the peer was unplugged")
        assert len(data) > 0 and len(data) % 64 == 0
        self.sent.append(data)
        self._in += bytes(
            byte ^ 0xff if offset in self.flips else byte
            for offset, byte in enumerate(bytes(data), self._taken) if offset not in self.losses)
        self._taken += len(data)
        while self._step():
            pass

    async def recv(self, count):
        if self.closed:
            raise TransportClosed("the peer was unplugged")
        if len(self.out) < count:
            raise TransportTimeout("no answer within 1 s")
        data = bytes(self.out[:count])
        del self.out[:count]
        return data

    def close(self):
        """Nothing is open."""

    def answer(self, request, opcode, arg0=0, arg1=0, payload=b""):
        """An answer to a request."""
        return build_frame(self.lanes, opcode, request.sequence, arg0, arg1, payload)

    def error(self, request, code):
        """An ERROR in answer to a request."""
        return self.answer(request, 0xff, code, request.opcode)

    def _step(self):
        """Deal with what stands at the front of the input; False when more has to come."""
        words = -(-20 // self.lanes) * self.lanes
        if len(self._in) >= self.lanes and not any(self._in[:self.lanes]):
            del self._in[:self.lanes]
            return True
        if len(self._in) < words:
            return False
        magic, opcode, sequence, arg0, arg1, length, crc = unpack_from("<HBBIIII", self._in)
        if magic != 0x3354 or crc != crc32(self._in[:16]):
            if not self._hunting:
                self.errors.append(1)
                self.out += build_frame(self.lanes, 0xff, 0, 1)
            self._hunting = True
            del self._in[:words if magic == 0x3354 else self.lanes]
            return True
        trailer = 64 + length + -length % 64
        if len(self._in) < trailer + 64:
            return False
        self._hunting = False
        good = unpack_from("<I", self._in, trailer)[0] == crc32(self._in[:trailer])
        payload = bytes(self._in[64:64 + length])
        del self._in[:trailer + 64]
        self._take(Request(opcode, sequence, arg0, arg1, payload), good)
        return True

    def _take(self, request, good):
        code = self._refusal(request) if good else 6
        if code == 6:
            self.forget()
        self.errors += [code] * bool(code)
        self._good, self._bad = self._good + (not code), self._bad + bool(code)
        self._last = code or self._last
        answers = [self.error(request, code)] if code else self._obey(request)
        fault = self.faults.get(len(self.requests))
        self.requests.append(request)
        if fault:
            answers = fault(self, request, answers)
        if not self.silent:
            self.out += b"".join(answers)

    def _refusal(self, request):
        """Error code, or 0."""
        length, arg0 = len(request.payload), request.arg0
        if request.opcode > 5:
            return 2
        if request.opcode == _ACTIVATIONS:
            self._x.pop(arg0, None)
            if length != request.arg1:
                return 3
            return 5 if length % 16 or not 0 < length <= self.max_k or arg0 >= self.columns else 0
        if request.opcode == _SCALES:
            self._m = None
            values = np.frombuffer(request.payload, "<u4")
            return 3 if length != 108 else 5 if values.max() >= 1 << 17 else 0
        return self._gemv_refusal(request) if request.opcode == _GEMV else 3 if length else 0

    def _gemv_refusal(self, request):
        depth, groups, columns = _gemv_sizes(request)
        if not 1 <= depth <= 4:
            return 4
        if len(request.payload) != request.arg1 * groups * (16 * depth + 3) * self.lanes:
            return 3
        if not (groups and request.arg1 and 1 <= columns <= self.columns):
            return 5
        if self._m is None or any(column not in self._x for column in range(columns)):
            return 7
        return 5 if any(len(self._x[column]) != 16 * groups for column in range(columns)) else 0

    def _obey(self, request):
        match request.opcode:
            case 0:
                info = self.version, self.lanes, self.columns, self.max_k, 0, self.build_id
                return [self.answer(request, 0x80, self.lanes, 0, pack("<6I", *info))]
            case 1:
                self._x[request.arg0] = np.frombuffer(request.payload, np.int8).astype(np.int64)
            case 2:
                self._m = np.frombuffer(request.payload, "<u4").astype(np.int64)
            case 3:
                return self._multiply(request)
            case 4:
                counters = pack("<4Q", self._good, self._bad, self._last, self._taken)
                return [self.answer(request, 0x84, payload=counters)]
            case 5:
                self.forget()
                self._good = self._bad = self._last = 0
        return [self.answer(request, 0x81)]

    def _multiply(self, request):
        depth, groups, columns = _gemv_sizes(request)
        words = np.frombuffer(request.payload, np.uint8)
        # (blocks, groups, byte of tile, lanes, rows of tile)
        digits = _DIGITS[words.reshape(-1, groups, 16 * depth + 3, self.lanes)]
        trits = _TRIT[digits[:, :, :16 * depth]]
        trits = trits.reshape(-1, groups, 16, depth, self.lanes, 5)
        q = np.einsum("bgjilr,i->bgjlr", trits, 3 ** np.arange(depth))
        codes = np.einsum("bgilr,i->bglr", digits[:, :, 16 * depth:], 3 ** np.arange(3))
        answers = []
        for column in range(columns):
            x = self._x[column].reshape(groups, 16)
            sums = (np.einsum("bgjlr,gj->bglr", q, x) * self._m[codes]).sum(axis=1)
            answers += [
                (block, column, row_sums.astype("<i8").tobytes())
                for block, row_sums in enumerate(sums)
            ]
        beats = len(words) // self.lanes
        done = pack("<4Q", beats + 20, 3, 1, beats)
        return [self.answer(request, 0x82, *answer) for answer in sorted(answers)] + [
            self.answer(request, 0x83, payload=done)]


def _gemv_sizes(request):
    """Depth, groups and columns used."""
    return request.arg0 & 0xff, request.arg0 >> 8 & 0xffff, request.arg0 >> 24
