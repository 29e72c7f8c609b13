"""Tiles and word streams: a matrix as the bytes that a device's lanes eat.

A tile is 5 rows by one group in 16d + 3 bytes. Byte ``j*d + i`` holds digit ``i`` of weight ``j``
of the five rows (row 0 in D0); byte ``16d + i`` holds digit ``i`` of their scale codes. Rows are
padded with zero trits and code 0 to whole tiles, columns with zero trits to whole groups.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from tritstream.golden.fixed_point import (
    GROUP,
    MAX_DEPTH,
    ROWS,
    SCALE_TRITS,
    SCALES,
    half_range,
    row_tiles,
    tiles_shape,
)
from tritstream.golden.kernels import load
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.rounding import FORM, Form
from tritstream.golden.row_chunks import row_chunks, run_in_threads
from tritstream.golden.trit import decode, to_digit, to_trit

__all__ = ["check_tiles", "pack", "packer", "padding_is_zero", "unpack", "word_stream"]


def pack(matrix: TritMatrix, engine: str | None = "numpy") -> np.ndarray:
    """Tiles of a matrix: uint8 (ceil(N/5), ceil(K/16), 16d+3); any engine gives the same."""
    tiles = np.empty(tiles_shape(matrix.shape, matrix.depth), np.uint8)
    pack_rows = packer(matrix.depth, engine)

    def work(chunk: slice) -> None:
        tiles[chunk.start // ROWS:row_tiles(chunk.stop)] = pack_rows(*matrix.take_rows(chunk))

    run_in_threads(work, row_chunks(*matrix.q.shape, ROWS))
    return tiles


def packer(
    depth: int, engine: str | None = None,
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """What makes tiles of integers int8 (rows, Kp) and codes uint8 (rows, Kp/16) of a depth."""
    return partial(load(engine).pack_tiles, lanes=_trit_lanes(depth), code_lanes=_CODE_LANES,
                   depth=depth)


def unpack(
    tiles: np.ndarray, depth: int, shape: tuple[int, int], table: np.ndarray, form: Form = FORM,
) -> TritMatrix:
    """Reverse of :func:`pack`; any byte is taken, and what lies in the padding is left out.

    Raises :class:`ValueError` when the tiles do not have the dtype and shape due.
    """
    check_tiles(tiles, depth, shape)
    rows, groups = shape[0], tiles.shape[1]
    q = np.empty((rows, GROUP * groups), np.int8)
    codes = np.empty((rows, groups), np.uint8)

    def work(chunk: slice) -> None:
        part, count = tiles[chunk.start // ROWS:row_tiles(chunk.stop)], chunk.stop - chunk.start
        weights = part[..., :GROUP * depth].reshape(len(part), GROUP * groups, depth)
        q[chunk] = _unpacked(weights, _TRIT_WORTHS, count) - np.uint8(half_range(depth))
        codes[chunk] = _unpacked(part[..., GROUP * depth:], _CODE_WORTHS, count)

    run_in_threads(work, row_chunks(*q.shape, ROWS))
    q[:, shape[1]:] = 0
    return TritMatrix(depth, tuple(shape), q, codes, table, form)


def padding_is_zero(tiles: np.ndarray, depth: int, shape: tuple[int, int]) -> bool:
    """Whether the rows and columns that only fill up tiles hold zero trits and code 0."""
    check_tiles(tiles, depth, shape)
    spare_rows = -shape[0] % ROWS
    last_rows = decode(tiles[-1])[..., ROWS - spare_rows:]
    used = GROUP - -shape[1] % GROUP
    last_columns = decode(tiles[:, -1, used * depth:GROUP * depth])
    return not last_rows.any() and not last_columns.any()


def word_stream(tiles: np.ndarray, lanes: int) -> np.ndarray:
    """Words of ``lanes`` bytes in the order a device takes them: (blocks, groups, 16d+3, lanes).

    Lane ``l`` of row block ``b`` is row tile ``b * lanes + l``; missing tiles are zeros.
    """
    if lanes < 1:
        raise ValueError(f"lanes must be positive, not {lanes!r}")
    count, groups, size = tiles.shape
    blocks = -(-count // lanes)
    padded = np.zeros((blocks * lanes, groups, size), np.uint8)
    padded[:count] = tiles
    words = padded.reshape(blocks, lanes, groups, size).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(words)


def check_tiles(tiles: np.ndarray, depth: int, shape: tuple[int, int]) -> None:
    """Raise ValueError unless ``tiles`` are those of an N x K matrix of this depth."""
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be two positive integers, not {shape!r}")
    due = tiles_shape(shape, depth)
    if tiles.dtype != np.uint8 or tiles.shape != due:
        raise ValueError(f"tiles of a {shape[0]} x {shape[1]} matrix of depth {depth} must be "
                         f"uint8 {due}, not {tiles.dtype} {tiles.shape}")


def _unpacked(packed: np.ndarray, lanes: np.ndarray, rows: int) -> np.ndarray:
    """Reverse of packing digits: uint8 (row tiles, n, count) to uint8 (rows, n).

    ``lanes`` has what digit ``i`` of the five rows is worth in the bytes of a uint64.
    """
    worth = lanes[0].take(packed[..., 0])
    for i in range(1, packed.shape[-1]):
        worth += lanes[i].take(packed[..., i])
    by_row = np.moveaxis(worth[..., None].view(np.uint8)[..., :ROWS], -1, 1)
    return by_row.reshape(-1, packed.shape[1])[:rows]


def _as_lanes(values: np.ndarray, size: int) -> np.ndarray:
    """Integers of ``size`` bytes, the first of ``values`` (..., n) lowest."""
    wide = np.zeros((*values.shape[:-1], size), np.uint8)
    wide[..., :values.shape[-1]] = values
    return wide.view(np.dtype(f"<u{size}"))[..., 0]


def _trit_lanes(depth: int) -> np.ndarray:
    """Digits of the balanced trits of -h..h, by the low byte of the integer: uint32 (256,)."""
    half = half_range(depth)
    values = np.arange(2 * half + 1)
    lanes = np.zeros(256, np.uint32)
    lanes[values - half] = _as_lanes(to_digit(values[:, None] // _POWERS[:depth] % 3 - 1), 4)
    return lanes


_POWERS = 3 ** np.arange(ROWS)
_CODE_LANES = _as_lanes(np.arange(SCALES)[:, None] // _POWERS[:SCALE_TRITS] % 3, 4)
_WORTHS = _POWERS[:MAX_DEPTH, None, None]                                       # (i, byte, row)
_CODE_WORTHS = _as_lanes(_WORTHS * decode(np.arange(256, dtype=np.uint8)), 8)   # (i, byte)
#: Of trits and 1, so that no lane is negative: the sum is the integer and h.
_TRIT_WORTHS = _as_lanes(_WORTHS * (to_trit(decode(np.arange(256, dtype=np.uint8))) + 1), 8)
