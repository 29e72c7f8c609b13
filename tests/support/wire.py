"""A device spoken to in bytes: requests and answers written down apart from the project's own."""

import struct
import zlib

import numpy as np

from tritstream.golden.gemv import gemv
from tritstream.golden.tiles import unpack, word_stream
from tritstream.hw.config import DeviceConfig

__all__ = ["CONFIGS", "Job", "Wire", "error", "frame", "pad"]

CONFIGS = {
    "1 lane":    DeviceConfig(lanes=1),
    "2 lanes":   DeviceConfig(lanes=2),
    "8 lanes":   DeviceConfig(lanes=8),
    "16 lanes":  DeviceConfig(lanes=16),
    "2 columns": DeviceConfig(lanes=8, columns=2, max_k=256),
}
IDENTIFY, ACTIVATIONS, SCALES, GEMV, STATUS, RESET = range(6)
INFO, ACK, RESULT, DONE, COUNTERS, ERROR = 0x80, 0x81, 0x82, 0x83, 0x84, 0xFF
NO_HEADER, OPCODE, LENGTH, DEPTH, SIZE, TRAILER, NOT_LOADED = range(1, 8)

K = 48


def pad(data, size):
    return data + bytes(-len(data) % size)


def frame(opcode, sequence=1, arg0=0, arg1=0, payload=b"", spoil_header=0, spoil_trailer=0):
    """Bytes of a request: header, payload, trailer, each of whole 64 bytes."""
    header = struct.pack("<HBBIII", 0x3354, opcode, sequence, arg0, arg1, len(payload))
    header += struct.pack("<I", zlib.crc32(header) ^ spoil_header)
    covered = pad(header, 64) + pad(payload, 64)
    return covered + pad(struct.pack("<I", zlib.crc32(covered) ^ spoil_trailer), 64)


class Job:
    """A random matrix, its scales and activations: bytes to send and sums to get."""

    def __init__(self, lanes, depth=3, blocks=2, columns=1, k=K, seed=0):
        rng = np.random.default_rng([seed, lanes, depth])
        rows, groups = 5 * lanes * blocks, k // 16
        tiles = rng.integers(0, 256, (lanes * blocks, groups, 16 * depth + 3), np.uint8)
        self.mantissas = rng.integers(1, 2**17, 27)
        self.mantissas[rng.integers(27)] = 2**17 - 1
        matrix = unpack(tiles, depth, (rows, k), self.mantissas.astype(np.float32))
        self.x = rng.integers(-128, 128, (columns, k), np.int8)
        self.words = word_stream(tiles, lanes)
        self.sums = gemv(matrix, self.x).reshape(columns, blocks, 5 * lanes)
        self.depth, self.blocks, self.columns, self.groups = depth, blocks, columns, groups

    def tiles(self):
        """Reverse of the word stream."""
        return self.words.transpose(0, 3, 1, 2).reshape(-1, self.groups, 16 * self.depth + 3)

    def activations(self, column=0, **options):
        payload = self.x[column].tobytes()
        return frame(ACTIVATIONS, arg0=column, arg1=len(payload), payload=payload, **options)

    def scales(self, **options):
        return frame(SCALES, payload=self.mantissas.astype("<u4").tobytes(), **options)

    def loads(self):
        return b"".join(map(self.activations, range(self.columns))) + self.scales()

    def gemv(self, payload=None, depth=None, groups=None, columns=None, blocks=None, **options):
        def pick(value, default):
            return default if value is None else value

        arg0 = (pick(depth, self.depth) | pick(groups, self.groups) << 8
                | pick(columns, self.columns) << 24)
        return frame(GEMV, arg0=arg0, arg1=pick(blocks, self.blocks),
                     payload=pick(payload, self.words.tobytes()), **options)

    def results(self, blocks, sequence=1):
        """The RESULT answers of these blocks."""
        return [(RESULT, sequence, block, column, self.sums[column, block].astype("<i8").tobytes())
                for block in blocks for column in range(self.columns)]


class Wire:
    """A device spoken to in bytes; its answers are checked whole."""

    def __init__(self, device, config):
        self.device = device
        self.config = config
        self.lanes  = config.lanes
        self.pulled = 0

    def send(self, *parts):
        """Queue bytes; return the span of each part."""
        return [self.device.push(part) for part in parts]

    def answer(self):
        """(opcode, sequence, arg0, arg1, payload) of the next answer."""
        head = self._pull(20)
        magic, *fields, length, crc = struct.unpack("<HBBIIII", head[:20])
        assert magic == 0x3354
        assert crc == zlib.crc32(head[:16])
        body = self._pull(length)
        tail = self._pull(4)
        assert struct.unpack("<I", tail[:4])[0] == zlib.crc32(head + body)
        assert not any(head[20:] + body[length:] + tail[4:])
        return *fields, body[:length]

    def ask(self, *requests):
        """The first answer to what is sent."""
        self.send(*requests)
        return self.answer()

    def answers(self, count):
        return [self.answer() for _ in range(count)]

    def load(self, job):
        self.send(job.loads())
        for _ in range(job.columns + 1):
            assert self.answer() == (ACK, 1, 0, 0, b"")

    def silent(self, cycles=300):
        """Whether no answer comes; stalls end here."""
        self.device.stall(0)
        self.device.idle(cycles)
        return self.device.words_out * self.lanes == self.pulled

    def check(self, job):
        """A GEMV gives its row sums and DONE."""
        self.send(job.gemv())
        assert self.answers(job.blocks * job.columns) == job.results(range(job.blocks))
        assert self.answer()[:2] == (DONE, 1)

    def counters(self):
        opcode, _, _, _, payload = self.ask(frame(STATUS))
        assert opcode == COUNTERS
        return struct.unpack("<4Q", payload)

    def _pull(self, count):
        size = -(-count // self.lanes) * self.lanes
        self.pulled += size
        return self.device.pull(size)


def error(code, opcode=0, sequence=1):
    return ERROR, sequence, code, opcode, b""
