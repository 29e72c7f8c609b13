"""Products of a decoder layer in the memory of a channel, with the rows that they must give."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tritstream.golden.fixed_point import GROUP, MANTISSA_BITS, ROWS, SCALES, row_tiles
from tritstream.golden.gemv import gemv
from tritstream.golden.tiles import unpack as unpack_tiles
from tritstream.golden.tiles import word_stream
from tritstream.host.layout.prepare import FRAME_BYTES, cuts
from tritstream.host.protocol.frames import Answer, answer_bytes, request
from tritstream.host.protocol.operands import mantissa_bytes
from tritstream.host.transports.base import Stored
from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.protocol import GemvArguments, Opcode

__all__ = ["Frame", "layer_list", "mismatches", "response_bytes"]


@dataclass(frozen=True)
class Frame:
    """A request and what answers it.

    Members
    -------
    segments : list of bytes-like
        Parts of the request, each for a descriptor.
    sequence : int
        Sequence number.
    sums : numpy.ndarray or None
        Expected row sums of a GEMV, int64 (blocks, 5L).
    """

    segments: list[bytes | memoryview]
    sequence: int
    sums:     np.ndarray | None = None


def layer_list(
    groups: Sequence[Sequence[tuple[int, int]]], depth: int, config: AxiConfig, channel: int,
    seed: int,
) -> list[Frame]:
    """Return the requests of a channel for random matrices (N, K), as the driver would send them.

    The channels share the rows of each matrix. All matrices of a group read the same activations,
    which are loaded once. Words are cut to frames like those of the driver.
    """
    frames: list[Frame] = []
    lanes = config.lanes
    rng   = np.random.default_rng([seed, channel])
    for shapes in groups:
        shares = [_share(row_tiles(rows), config, channel) for rows, _ in shapes]
        counts = [share.stop - share.start for share in shares]
        if not any(counts):
            continue
        x = rng.integers(-128, 128, shapes[0][1], np.int8)
        frames.append(_frame(frames, Opcode.ACTIVATIONS, 0, len(x), x.tobytes()))
        for count in filter(None, counts):
            frames += _product(frames, rng, x, depth, lanes, count)
    return frames


def _product(
    before: Sequence[Frame], rng: np.random.Generator, x: np.ndarray, depth: int, lanes: int,
    count: int,
) -> list[Frame]:
    """Return SCALES and GEMVs of a random matrix of ``count`` row tiles."""
    chunks = len(x) // GROUP
    tiles = rng.integers(0, 256, (count, chunks, GROUP * depth + 3), np.uint8)
    mantissas = rng.integers(1, 1 << MANTISSA_BITS, SCALES)
    mantissas[0] = (1 << MANTISSA_BITS) - 1
    matrix = unpack_tiles(tiles, depth, (ROWS * count, len(x)), mantissas.astype(np.float32))
    words  = word_stream(tiles, lanes)
    sums   = np.zeros((len(words), ROWS * lanes), np.int64)
    sums.reshape(-1)[:ROWS * count] = gemv(matrix, x)
    frames = [_frame(before, Opcode.SCALES, 0, 0, mantissa_bytes(mantissas))]
    for first, blocks in cuts(len(words), words[0].nbytes, FRAME_BYTES):
        arguments = GemvArguments(depth, chunks, 1, blocks).pack()
        payload = words[first:first + blocks].data.cast("B")
        frames.append(_frame([*before, *frames], Opcode.GEMV, *arguments, payload,
                             sums[first:first + blocks]))
    return frames


def _frame(
    before: Sequence[Frame], opcode: int, arg0: int, arg1: int, payload: bytes | memoryview,
    sums: np.ndarray | None = None,
) -> Frame:
    sequence = len(before) % 255 + 1
    parts = [part for part in request(opcode, sequence, arg0, arg1, payload)
             if not isinstance(part, Stored)]
    return Frame(parts if opcode == Opcode.GEMV else [b"".join(parts)], sequence, sums)


def response_bytes(frames: Sequence[Frame], lanes: int) -> int:
    """Return the size of all responses."""
    def of(frame: Frame) -> int:
        if frame.sums is None:
            return answer_bytes(0, lanes)
        blocks, rows = frame.sums.shape
        return blocks * answer_bytes(8 * rows, lanes) + answer_bytes(32, lanes)
    return sum(map(of, frames))


def _share(tiles: int, config: AxiConfig, channel: int) -> slice:
    """Return the row tiles of a channel: as many whole row blocks as each of the others."""
    count = config.lanes * -(-tiles // (config.lanes * config.channels))
    return slice(min(tiles, channel * count), min(tiles, (channel + 1) * count))


def mismatches(frames: Sequence[Frame], found: Sequence[Answer]) -> int:
    """Return how many rows differ from golden.

    Raises :class:`ValueError` if a response is missing or is not the expected one.
    """
    wrong, given = 0, iter(found)
    for frame in frames:
        if frame.sums is None:
            _take(given, Opcode.ACK, frame.sequence)
            continue
        for block, sums in enumerate(frame.sums):
            payload = _take(given, Opcode.RESULT, frame.sequence, block)
            wrong += int(np.count_nonzero(np.frombuffer(payload, "<i8") != sums))
        _take(given, Opcode.DONE, frame.sequence)
    if next(given, None):
        raise ValueError("there are more responses than expected")
    return wrong


def _take(given: Iterator[Answer], opcode: int, sequence: int, arg0: int = 0) -> bytes:
    answer = next(given, None)
    expected = Opcode(opcode), sequence, arg0
    if not answer or answer.header[:3] != expected:
        raise ValueError(f"response {answer and answer.header} in place of {expected}")
    return answer.payload
