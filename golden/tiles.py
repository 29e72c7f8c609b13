"""Tiles and word streams: a matrix as the bytes that a device's lanes eat.

A tile is 5 rows by one group in 16d + 3 bytes. Byte ``j*d + i`` holds digit ``i`` of weight ``j``
of the five rows (row 0 in D0); byte ``16d + i`` holds digit ``i`` of their scale codes. Rows are
padded with zero trits and code 0 to whole tiles, columns with zero trits to whole groups.
"""

import math

import numpy as np

from golden.chunks import row_chunks
from golden.fixed import GROUP, SCALE_TRITS, SCALES, half_range
from golden.forms import FORM, Form
from golden.quantize import TritMatrix
from golden.trit import TRITS_PER_BYTE, decode, encode, to_digit, to_trit

__all__ = [
    "ROWS", "check_tiles", "pack", "packed_bits", "padding_is_zero", "row_blocks", "row_tiles",
    "tile_bytes", "tiles_shape", "unpack", "word_stream",
]

#: Rows of a tile: one for each trit of a byte.
ROWS = TRITS_PER_BYTE


def tile_bytes(depth: int) -> int:
    """Bytes of a tile."""
    half_range(depth)
    return GROUP * depth + SCALE_TRITS


def row_tiles(rows: int) -> int:
    """Tiles that ``rows`` rows take, top to bottom."""
    return -(-rows // ROWS)


def row_blocks(rows: int, lanes: int) -> int:
    """Row blocks of ``lanes`` row tiles each that ``rows`` rows take."""
    return -(-row_tiles(rows) // lanes)


def tiles_shape(shape: tuple[int, int], depth: int) -> tuple[int, int, int]:
    """Shape of the tiles of an N x K matrix: (row tiles, groups, bytes)."""
    return row_tiles(shape[0]), -(-shape[1] // GROUP), tile_bytes(depth)


def packed_bits(shape: tuple[int, int], depth: int) -> float:
    """Bits of tiles a weight of a matrix ``(N, K)``, padding included, table not."""
    return 8 * math.prod(tiles_shape(shape, depth)) / math.prod(shape)


def pack(matrix: TritMatrix) -> np.ndarray:
    """Tiles of a matrix: uint8 (ceil(N/5), ceil(K/16), 16d+3)."""
    depth = matrix.depth
    tiles = np.empty(tiles_shape(matrix.shape, depth), np.uint8)
    digits = _digits_of_integers(depth)
    for chunk in row_chunks(matrix.rows, depth * matrix.q.shape[1], ROWS):
        out = tiles[chunk.start // ROWS:row_tiles(chunk.stop)]
        weights = _interleave(digits[matrix.q[chunk] + half_range(depth)])
        out[..., :GROUP * depth] = weights.reshape(*out.shape[:2], GROUP * depth)
        out[..., GROUP * depth:] = _interleave(_CODE_DIGITS[matrix.codes[chunk]])
    return tiles


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
    powers = (3 ** np.arange(depth)).astype(np.int8)
    for chunk in row_chunks(rows, depth * GROUP * groups, ROWS):
        part = tiles[chunk.start // ROWS:row_tiles(chunk.stop)]
        weights = part[..., :GROUP * depth].reshape(len(part), GROUP * groups, depth)
        count = chunk.stop - chunk.start
        q[chunk] = (to_trit(_deinterleave(weights)[:count]) @ powers)
        codes[chunk] = _deinterleave(part[..., GROUP * depth:])[:count] @ _CODE_POWERS
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


def _digits_of_integers(depth: int) -> np.ndarray:
    """Digits of the balanced trits of -h..h: uint8 (2h+1, depth)."""
    half = half_range(depth)
    values = np.arange(2 * half + 1)[:, None] // 3 ** np.arange(depth) % 3
    return to_digit(values - 1)


def _interleave(digits: np.ndarray) -> np.ndarray:
    """Bytes of the digits of rows: (rows, n, i) to (row tiles, n, i), five rows a byte."""
    tiles = row_tiles(len(digits))
    padded = np.zeros((tiles * ROWS, *digits.shape[1:]), np.uint8)
    padded[:len(digits)] = digits
    split = padded.reshape(tiles, ROWS, *digits.shape[1:])
    return encode(np.moveaxis(split, 1, -1)).reshape(tiles, *digits.shape[1:])


def _deinterleave(packed: np.ndarray) -> np.ndarray:
    """Reverse of :func:`_interleave`: (row tiles, n, i) to (5 * row tiles, n, i)."""
    digits = np.moveaxis(decode(packed), -1, 1)
    return digits.reshape(ROWS * len(packed), *packed.shape[1:])


_CODE_POWERS = (3 ** np.arange(SCALE_TRITS)).astype(np.uint8)
_CODE_DIGITS = (np.arange(SCALES)[:, None] // _CODE_POWERS % 3).astype(np.uint8)
