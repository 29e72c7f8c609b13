"""Tiles: the bytes that lanes eat.

A tile is five rows by one group: byte ``j d + i`` is digit i of weight j of the five rows, bytes
``16 d + i`` are digit i of their scale codes. A matrix (N, K) is an array of tiles
``(ceil(N / 5), K / 16, 16 d + 3)``, missing rows being zero trits and code 0. A device with L
lanes eats words of L bytes, lane l serving row tile ``b L + l`` of row block b.
"""

import numpy as np

from .fixed import GROUP, SCALE_TRITS, check_depth
from .matrix import TritMatrix
from .trit import TRITS_PER_BYTE, decode, encode, to_digit, to_trit

__all__ = [
    "ROWS", "check_shape", "pack", "padding_is_zero", "row_blocks", "row_tiles", "tile_bytes",
    "tiles_shape", "unpack", "word_stream",
]

#: Rows of a tile.
ROWS = TRITS_PER_BYTE


def tile_bytes(depth: int) -> int:
    """Bytes of a tile: ``16 d + 3``."""
    return GROUP * check_depth(depth) + SCALE_TRITS


def row_tiles(rows: int) -> int:
    """Tiles that cover ``rows`` rows."""
    return -(-rows // ROWS)


def row_blocks(rows: int, lanes: int) -> int:
    """Row blocks of ``5 lanes`` rows that cover ``rows`` rows."""
    return -(-rows // (ROWS * lanes))


def tiles_shape(shape: tuple[int, int], depth: int) -> tuple[int, int, int]:
    """Shape of the tiles of a matrix ``(N, K)``."""
    return row_tiles(shape[0]), -(-shape[1] // GROUP), tile_bytes(depth)


def _split(q, depth):
    """Balanced digits (..., depth) of integer weights, the lowest first."""
    digits = []
    for _ in range(depth):
        digit = (q + 1) % 3 - 1
        digits.append(digit)
        q = (q - digit) // 3
    return np.stack(digits, axis=-1)


def pack(matrix: TritMatrix) -> np.ndarray:
    """Tiles of a matrix, uint8 ``(ceil(N / 5), K / 16, 16 d + 3)``."""
    depth = matrix.depth
    tiles, groups, _ = tiles_shape(matrix.shape, depth)
    packed = np.empty((tiles, groups, tile_bytes(depth)), np.uint8)
    # Row tiles are independent: some at a time keep the temporaries small.
    step = max(1, (1 << 20) // (ROWS * GROUP * groups))
    for low in range(0, tiles, step):
        high = min(low + step, tiles)
        q = _rows(matrix.q, low, high).reshape(high - low, ROWS, groups, GROUP)
        codes = _rows(matrix.codes, low, high).reshape(high - low, ROWS, groups)
        weights = to_digit(_split(q, depth)).transpose(0, 2, 3, 4, 1)   # tile group j i row
        scales = np.stack([codes // 3**i % 3 for i in range(SCALE_TRITS)], axis=-1)
        packed[low:high, :, :GROUP * depth] = encode(weights).reshape(high - low, groups, -1)
        packed[low:high, :, GROUP * depth:] = encode(scales.transpose(0, 2, 3, 1))
    return packed


def _rows(values, low, high):
    """Rows of tiles ``low..high``, with zero rows after the last."""
    rows = values[ROWS * low:ROWS * high]
    return np.pad(rows, ((0, ROWS * (high - low) - len(rows)), (0, 0)))


def check_shape(tiles: np.ndarray, depth: int, shape: tuple[int, int]) -> None:
    """Raise ValueError unless ``tiles`` are those of a matrix of this depth and shape."""
    wanted = tiles_shape(shape, depth)
    if tiles.dtype != np.uint8 or tiles.shape != wanted:
        raise ValueError(
            f"tiles of a {shape[0]} x {shape[1]} matrix at depth {depth} must be uint8 {wanted}, "
            f"not {tiles.dtype} {tiles.shape}")


def unpack(tiles: np.ndarray, depth: int, shape: tuple[int, int],
           table: np.ndarray) -> TritMatrix:
    """The matrix of tiles; padding is dropped.

    Raises
    ------
    ValueError
        Tiles, depth and shape do not fit, or the table is not 27 positive float32.
    """
    check_shape(tiles, depth, shape)
    q, codes = _digits(tiles, depth)
    return TritMatrix(depth, tuple(shape), q[:shape[0]], codes[:shape[0]], table)


def _digits(tiles, depth):
    """Integer weights int8 and codes uint8 of all rows, padding rows as well."""
    count, groups, _ = tiles.shape
    trits = to_trit(decode(tiles[:, :, :GROUP * depth]))        # tile group j*d+i row
    trits = trits.reshape(count, groups, GROUP, depth, ROWS)
    q = np.zeros((count, groups, GROUP, ROWS), np.int8)
    for digit in reversed(range(depth)):
        q = 3 * q + trits[:, :, :, digit]
    scales = decode(tiles[:, :, GROUP * depth:])                # tile group i row
    codes = scales[:, :, 0] + 3 * scales[:, :, 1] + 9 * scales[:, :, 2]
    q = q.transpose(0, 3, 1, 2).reshape(count * ROWS, groups * GROUP)
    return q, codes.transpose(0, 2, 1).reshape(count * ROWS, groups)


def padding_is_zero(tiles: np.ndarray, depth: int, shape: tuple[int, int]) -> bool:
    """Whether rows past N and columns past K hold nothing but zero trits and code 0."""
    check_shape(tiles, depth, shape)
    last_q, last_codes = _digits(tiles[-1:], depth)
    rows = shape[0] - ROWS * (len(tiles) - 1)
    edge_q, _ = _digits(tiles[:, -1:], depth)
    columns = shape[1] - GROUP * (tiles.shape[1] - 1)
    return not (last_q[rows:].any() or last_codes[rows:].any() or edge_q[:, columns:].any())


def word_stream(tiles: np.ndarray, lanes: int) -> np.ndarray:
    """What a device with ``lanes`` lanes eats: uint8 ``(blocks, groups, 16 d + 3, lanes)``."""
    count, groups, size = tiles.shape
    blocks = -(-count // lanes)
    padded = np.zeros((blocks * lanes, groups, size), np.uint8)
    padded[:count] = tiles
    return np.ascontiguousarray(
        padded.reshape(blocks, lanes, groups, size).transpose(0, 2, 3, 1))
