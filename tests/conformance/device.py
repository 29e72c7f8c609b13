"""A device in software, as docs/protocol.md has it: bytes in, bytes out."""

import struct
import zlib

from conformance.codec import DIGITS, TRIT

__all__ = ["Device", "build_frame"]

_IDENTIFY, _ACTIVATIONS, _SCALES, _GEMV, _STATUS, _RESET = range(6)
_INFO, _ACK, _RESULT, _DONE, _COUNTERS, _ERROR = 0x80, 0x81, 0x82, 0x83, 0x84, 0xFF


def build_frame(align, opcode, sequence, arg0=0, arg1=0, payload=b""):
    """A frame whose parts are padded to ``align`` bytes: 64 of a request, L of an answer."""
    head = struct.pack("<HBBIII", 0x3354, opcode, sequence, arg0, arg1, len(payload))
    covered = _padded(head + struct.pack("<I", zlib.crc32(head)), align) + _padded(payload, align)
    return covered + _padded(struct.pack("<I", zlib.crc32(covered)), align)


class Device:
    """A device; clock, build id, cycles and stalls are 0 in its answers.

    ``feed`` takes any bytes and returns the expected answers.
    """

    def __init__(self, lanes, columns=1, max_k=32768):
        self.lanes, self.columns, self.max_k = lanes, columns, max_k
        self._in = bytearray()
        self._out = bytearray()
        self._hunting = False
        self._x, self._m = {}, None
        self._good = self._bad = self._last = 0

    def feed(self, data):
        self._in += data
        while self._step():
            pass
        answers, self._out = bytes(self._out), bytearray()
        return answers

    def _step(self):
        """Process the start of the input; return False if more input is needed."""
        have, lanes = len(self._in), self.lanes
        if have < lanes:
            return False
        if not any(self._in[:lanes]):
            del self._in[:lanes]
            return True
        if lanes == 1 and self._in[0] == 0x54:
            if have < 2:
                return False
            if self._in[1] != 0x33:
                return self._drop(1 if self._in[1] == 0x54 else 2)
        elif self._in[:2] != b"\x54\x33" or lanes == 1:
            return self._drop(lanes)
        candidate = -(-20 // lanes) * lanes
        if have < candidate:
            return False
        if zlib.crc32(self._in[:16]) != struct.unpack_from("<I", self._in, 16)[0]:
            return self._drop(candidate)
        return self._frame()

    def _drop(self, count):
        del self._in[:count]
        if not self._hunting:
            self._hunting = True
            self._conclude(1, 0, 0)
        return True

    def _frame(self):
        _, opcode, sequence, arg0, arg1, length = struct.unpack_from("<HBBIII", self._in)
        end = 64 + length + -length % 64
        if len(self._in) < end + 64:
            return False
        self._hunting = False
        valid = zlib.crc32(self._in[:end]) == struct.unpack_from("<I", self._in, end)[0]
        payload = bytes(self._in[64:64 + length])
        del self._in[:end + 64]
        self._sequence = sequence
        code = self._refused(opcode, arg0, arg1, payload)
        if not code:
            code = self._carry_out(opcode, arg0, arg1, payload, valid)
        self._conclude(code if valid else 6, sequence, opcode, arg0)
        return True

    def _conclude(self, code, sequence, opcode, arg0=0):
        """Count the frame, and answer it."""
        self._bad += bool(code)
        self._good += not code
        self._last = code or self._last
        if code:
            self._send(sequence, _ERROR, code, 0 if code == 1 else opcode)
        elif opcode == _IDENTIFY:
            sizes = 2, self.lanes, self.columns, self.max_k, 0, 0
            self._send(sequence, _INFO, self.lanes, 0, struct.pack("<6I", *sizes))
        elif opcode == _GEMV:
            self._send(sequence, _DONE, 0, 0, struct.pack("<4Q", 0, 0, 0, self._words))
        elif opcode == _STATUS:
            counters = struct.pack("<4Q", self._good, self._bad, self._last, 0)
            self._send(sequence, _COUNTERS, 0, 0, counters)
        else:
            self._send(sequence, _ACK)
        if opcode == _RESET and not code:
            self._x, self._m = {}, None
            self._good = self._bad = self._last = 0

    def _send(self, sequence, opcode, arg0=0, arg1=0, payload=b""):
        self._out += build_frame(self.lanes, opcode, sequence, arg0, arg1, payload)

    def _refused(self, opcode, arg0, arg1, payload):
        """Return the error code that follows from the header alone, or 0."""
        length = len(payload)
        if opcode > _RESET:
            return 2
        if opcode == _GEMV:
            return self._gemv_refused(arg0, arg1, length)
        if length != {_ACTIVATIONS: arg1, _SCALES: 108}.get(opcode, 0):
            return 3
        if opcode == _ACTIVATIONS and (
                arg0 >= self.columns or not 0 < arg1 <= self.max_k or arg1 % 16):
            return 5
        return 0

    def _gemv_refused(self, arg0, arg1, length):
        depth, chunks, used = arg0 & 255, arg0 >> 8 & 65535, arg0 >> 24
        blocks, most, direct = arg1 & 0xFFFFFF, (arg1 >> 24 & 127) + 1, arg1 >> 31
        if not length or length % self.lanes:
            return 3
        if not 1 <= depth <= 4:
            return 4
        if not (0 < chunks <= self.max_k // 16 and 0 < used <= self.columns and blocks
                and most <= {1: 63, 2: 15, 3: 4, 4: 1}[depth]):
            return 5
        if (self._m is None and not direct) or any(column not in self._x for column in range(used)):
            return 7
        return 5 if any(len(self._x[column]) != 16 * chunks for column in range(used)) else 0

    def _carry_out(self, opcode, arg0, arg1, payload, valid):
        """Load, or send RESULTs; return the error code at the end of the payload, or 0."""
        if opcode == _ACTIVATIONS:
            self._x.pop(arg0, None)
            if valid:
                self._x[arg0] = struct.unpack(f"<{arg1}b", payload)
        elif opcode == _SCALES:
            values = struct.unpack("<27I", payload)
            fits = max(values) < 1 << 17
            self._m = values if fits and valid else None
            return 0 if fits else 5
        elif opcode == _GEMV:
            return self._multiply(arg0, arg1, payload)
        return 0

    def _multiply(self, arg0, arg1, payload):
        depth, chunks, used = arg0 & 255, arg0 >> 8 & 65535, arg0 >> 24
        blocks, most, direct = arg1 & 0xFFFFFF, (arg1 >> 24 & 127) + 1, arg1 >> 31
        groups = [min(most, chunks - first) for first in range(0, chunks, most)]
        size = sum(16 * depth * count + (10 if direct else 3) for count in groups) * self.lanes
        self._words = len(payload) // self.lanes
        for block in range(min(blocks, len(payload) // size)):
            words = payload[block * size:(block + 1) * size]
            for column in range(used):
                sums = self._sums(words, depth, groups, direct, self._x[column])
                self._send(self._sequence, _RESULT, block, column,
                           struct.pack(f"<{len(sums)}q", *sums))
        return 0 if len(payload) == blocks * size else 3

    def _sums(self, words, depth, groups, direct, x):
        """Row sums of a row block, in row order; ``groups`` are their numbers of chunks."""
        sums = [0] * (5 * self.lanes)
        at = column = 0
        for count in groups:
            digits = words[at:at + 16 * count * depth * self.lanes]
            at += len(digits)
            scales = words[at:at + (10 if direct else 3) * self.lanes]
            at += len(scales)
            factors = self._direct(scales) if direct else self._coded(scales)
            for lane in range(self.lanes):
                part = self._part(digits[lane::self.lanes], depth, x[column:])
                for row in range(5 * lane, 5 * lane + 5):
                    sums[row] += factors[row] * part[row % 5]
            column += 16 * count
        return sums

    def _part(self, digits, depth, x):
        """Group sums of five rows."""
        part = [0] * 5
        if not any(digits):
            return part
        for place, byte in enumerate(digits):
            factor = x[place // depth] * 3 ** (place % depth)
            if byte and factor:
                for row, digit in enumerate(DIGITS[byte]):
                    part[row] += TRIT[digit] * factor
        return part

    def _coded(self, scales):
        """Mantissas by row, looked up by the codes in three words."""
        codes = [0] * (5 * self.lanes)
        for place, byte in enumerate(scales):
            for row, digit in enumerate(DIGITS[byte]):
                codes[5 * (place % self.lanes) + row] += digit * 3 ** (place // self.lanes)
        return [self._m[code] for code in codes]

    def _direct(self, scales):
        """Mantissas by row, from ten words."""
        width, found = max(1, self.lanes // 8), {}
        words = [scales[at:at + self.lanes] for at in range(0, len(scales), self.lanes)]
        # Lanes of an output word: row n of a block is at place n mod W.
        runs = [range(low, low + width) for low in range(0, self.lanes, width)]
        for first in range(0, len(runs), 3):
            unit = runs[first:first + 3]
            for place in range(width):
                a = [lane for run in unit for lane in run if 5 * lane % width == place]
                for row in range(5):
                    b = [lane for run in unit for lane in run if (5 * lane + row) % width == place]
                    even, odd = [[words[at][lane] for lane in a] for at in (2 * row, 2 * row + 1)]
                    if len(a) == 1:
                        pairs = [(even[0], odd[0])]
                    else:
                        pairs = [even[:2], odd[:2], (*even[2:], *odd[2:])][:len(a)]
                    for lane, (low, high) in zip(b, pairs, strict=True):
                        found[5 * lane + row] = low + 256 * high
        return [found[row] for row in range(5 * self.lanes)]


def _padded(data, align):
    return data + bytes(-len(data) % align)
