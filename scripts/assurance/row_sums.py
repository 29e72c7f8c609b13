"""Row sums of a word stream, computed from docs/packed-format.md without the golden model."""

from collections.abc import Sequence

import numpy as np

from tritstream.golden.fixed_point import GROUP, ROWS, tile_bytes

__all__ = ["row_sums"]


def _digits(byte: int) -> tuple[int, int, int, int, int]:
    """Return D0..D4 of an ASTC trit block, as in the Khronos Data Format Specification."""
    if byte >> 2 & 7 == 7:
        c, d3, d4 = (byte >> 5) << 2 | byte & 3, 2, 2
    elif byte >> 5 & 3 == 3:
        c, d3, d4 = byte & 31, byte >> 7, 2
    else:
        c, d3, d4 = byte & 31, byte >> 5 & 3, byte >> 7
    if c & 3 == 3:
        return (c >> 3 & 1) << 1 | (c >> 2 & 1) & ~(c >> 3) & 1, c >> 4, 2, d3, d4
    if c >> 2 & 3 == 3:
        return c & 3, 2, 2, d3, d4
    return (c >> 1 & 1) << 1 | c & 1 & ~(c >> 1) & 1, c >> 2 & 3, c >> 4, d3, d4


_DIGITS = np.array([_digits(byte) for byte in range(256)], np.int8)
_TRITS = np.array([0, 1, -1], np.int8)[_DIGITS]


def row_sums(words: bytes, depth: int, groups: int, lanes: int, vectors: Sequence[np.ndarray],
             mantissas: np.ndarray) -> np.ndarray:
    """Return the row sums of complete row blocks, int64 (blocks, vectors, 5 lanes).

    Parameters
    ----------
    words : bytes
        Word stream of the row blocks, ``groups * tile_bytes(depth) * lanes`` bytes per block.
    depth, groups, lanes : int
        Trits per weight, groups per row, bytes per word.
    vectors : sequence of numpy.ndarray
        Activations, int64 (K,), one vector per column.
    mantissas : numpy.ndarray
        Fixed-point scales, int64 (27,).
    """
    tiles = np.frombuffer(words, np.uint8).reshape(-1, groups, tile_bytes(depth), lanes)
    sums = np.empty((len(tiles), len(vectors), lanes * ROWS), np.int64)
    for block, tile in enumerate(tiles):
        weights, codes = _weights(tile[:, :GROUP * depth], depth), tile[:, GROUP * depth:]
        scales = mantissas[np.einsum("gilr,i->glr", _DIGITS[codes], [1, 3, 9])]
        for column, x in enumerate(vectors):
            products = np.einsum("gjlr,gj->glr", weights, x.reshape(groups, GROUP))
            sums[block, column] = (products * scales).sum(axis=0).reshape(-1)
    return sums


def _weights(planes: np.ndarray, depth: int) -> np.ndarray:
    """Integers of a row block, int8 (groups, 16, lanes, 5); the lowest trit comes first."""
    groups, _, lanes = planes.shape
    trits = _TRITS[planes].reshape(groups, GROUP, depth, lanes, ROWS)
    return sum((trits[:, :, place] * np.int8(3 ** place) for place in range(1, depth)),
               start=trits[:, :, 0])
