"""A device that tests speak to in bytes, and requests with the responses that are expected."""

import struct
from functools import partial

import numpy as np

from tritstream.golden.gemv import gemv
from tritstream.golden.tiles import unpack, word_stream
from tritstream.hw.config import DeviceConfig

from support.frames import build_frame, split_frame
from support.gemv_words import GemvWords

__all__ = ["CONFIGS", "Job", "ModeJob", "Wire", "error", "frame"]

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


#: A request: every part takes whole 64 bytes.
frame = partial(build_frame, 64)


class Job:
    """Random matrix, scales and activations: bytes to send, and the expected sums."""

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
        """Return the tiles of the word stream."""
        return self.words.transpose(0, 3, 1, 2).reshape(-1, self.groups, 16 * self.depth + 3)

    def activations(self, column=0, **options):
        payload = self.x[column].tobytes()
        return frame(ACTIVATIONS, arg0=column, arg1=len(payload), payload=payload, **options)

    def scales(self, **options):
        return frame(SCALES, payload=self.mantissas.astype("<u4").tobytes(), **options)

    def loads(self):
        return b"".join(map(self.activations, range(self.columns))) + self.scales()

    #: Bits 24-31 of arg1: chunks per group minus one, and direct mantissas.
    mode = 0

    def gemv(self, payload=None, depth=None, groups=None, columns=None, blocks=None, mode=None,
             **options):
        def pick(value, default):
            return default if value is None else value

        arg0 = (pick(depth, self.depth) | pick(groups, self.groups) << 8
                | pick(columns, self.columns) << 24)
        return frame(GEMV, arg0=arg0, arg1=pick(blocks, self.blocks) | pick(mode, self.mode) << 24,
                     payload=pick(payload, self.words.tobytes()), **options)

    def results(self, blocks, sequence=1):
        """Return the RESULTs of these row blocks."""
        return [(RESULT, sequence, block, column, self.sums[column, block].astype("<i8").tobytes())
                for block in blocks for column in range(self.columns)]


class ModeJob(Job):
    """Random words with groups of any length and either kind of scales: sizes as in a GEMV."""

    def __init__(self, lanes, arguments, seed=0, table=None):
        made = GemvWords(lanes, arguments, seed, table)
        self.x, self.mantissas, self.words, self.sums = made.x, made.table, made.words, made.sums
        self.depth, self.blocks = arguments.depth, arguments.blocks
        self.columns, self.groups = arguments.columns, arguments.chunks
        self.mode = arguments.pack()[1] >> 24


class Wire:
    """Device that is spoken to in bytes; every byte of a response is checked."""

    def __init__(self, device, config):
        self.device = device
        self.config = config
        self.lanes  = config.lanes
        self.pulled = 0

    def send(self, *parts):
        """Queue bytes; return the span of each part."""
        return [self.device.push(part) for part in parts]

    def answer(self):
        """Return (opcode, sequence, arg0, arg1, payload) of the next response."""
        return split_frame(self._pull, self.lanes)

    def ask(self, *requests):
        """Send requests and return the first response."""
        self.send(*requests)
        return self.answer()

    def answers(self, count):
        return [self.answer() for _ in range(count)]

    def load(self, job):
        self.send(job.loads())
        for _ in range(job.columns + 1):
            assert self.answer() == (ACK, 1, 0, 0, b"")

    def silent(self, cycles=300):
        """Return whether no response comes; ends all stalls."""
        self.device.stall(0)
        self.device.idle(cycles)
        return self.device.words_out * self.lanes == self.pulled

    def check(self, job):
        """Check that a GEMV returns its row sums and DONE."""
        self.send(job.gemv())
        assert self.answers(job.blocks * job.columns) == job.results(range(job.blocks))
        assert self.answer()[:2] == (DONE, 1)

    def counters(self):
        opcode, _, _, _, payload = self.ask(frame(STATUS))
        assert opcode == COUNTERS
        return struct.unpack("<4Q", payload)

    def _pull(self, size):
        self.pulled += size
        return self.device.pull(size)


def error(code, opcode=0, sequence=1):
    return ERROR, sequence, code, opcode, b""
