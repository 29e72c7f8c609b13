"""Row sums of a word stream, computed from the documents without the golden model."""

from collections.abc import Sequence

import numpy as np

from tritstream.golden.fixed_point import GROUP, ROWS
from tritstream.scripts.assurance.frames import GemvSizes

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


def row_sums(words: bytes, sizes: GemvSizes, lanes: int, vectors: Sequence[np.ndarray],
             mantissas: np.ndarray) -> np.ndarray:
    """Return the row sums of complete row blocks, int64 (blocks, vectors, 5 lanes).

    Parameters
    ----------
    words : bytes
        Word stream of the row blocks, ``sizes.block_words * lanes`` bytes per block.
    sizes : GemvSizes
        Sizes of the GEMV.
    lanes : int
        Bytes per word.
    vectors : sequence of numpy.ndarray
        Activations, int64 (K,), one vector per column.
    mantissas : numpy.ndarray
        Fixed-point scales of the codes, int64 (27,).
    """
    blocks = np.frombuffer(words, np.uint8).reshape(-1, sizes.block_words, lanes)
    sums = np.zeros((len(blocks), len(vectors), lanes, ROWS), np.int64)
    for block, total in zip(blocks, sums, strict=True):
        for chunk in range(0, sizes.chunks, sizes.length):
            columns = GROUP * min(sizes.length, sizes.chunks - chunk)
            body, tail, block = np.split(block, [columns * sizes.depth,
                                                 columns * sizes.depth + sizes.scale_words])
            scales = (_direct_mantissas(tail) if sizes.direct else
                      mantissas[np.einsum("ilr,i->lr", _DIGITS[tail], [1, 3, 9])])
            weights = _weights(body, sizes.depth)
            for column, x in enumerate(vectors):
                part = x[GROUP * chunk:GROUP * chunk + columns]
                total[column] += np.einsum("jlr,j->lr", weights, part) * scales
    return sums.reshape(len(blocks), len(vectors), lanes * ROWS)


def _direct_mantissas(words: np.ndarray) -> np.ndarray:
    """Return the mantissas in the ten scale words of a group: uint8 (10, lanes) to (lanes, 5)."""
    lanes = words.shape[1]
    places, found = max(1, lanes // 8), np.zeros((lanes, ROWS), np.int64)
    runs = np.arange(lanes).reshape(-1, places)
    for place, row in np.ndindex(places, ROWS):
        # The lane of each run whose row 0, or this row, is at the place of a result word.
        from_lane = [run[ROWS * run % places == place][0] for run in runs]
        to_lane = [run[(ROWS * run + row) % places == place][0] for run in runs]
        for first in range(0, len(runs), 3):
            pair = words[2 * row:2 * row + 2, from_lane[first:first + 3]].astype(np.int64)
            # Two bytes of each word are one mantissa; the third bytes of both are another.
            if pair.shape[1] == 1:
                values = [pair[0, 0] | pair[1, 0] << 8]
            else:
                values = [*(pair[:, 0] | pair[:, 1] << 8), *(pair[0, 2:] | pair[1, 2:] << 8)]
            found[to_lane[first:first + 3], row] = values
    return found


def _weights(planes: np.ndarray, depth: int) -> np.ndarray:
    """Integers of a group, int8 (columns, lanes, 5); the lowest trit comes first."""
    trits = _TRITS[planes].reshape(-1, depth, planes.shape[1], ROWS)
    return sum((trits[:, place] * np.int8(3 ** place) for place in range(1, depth)),
               start=trits[:, 0])
