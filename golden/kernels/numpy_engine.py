"""The engine ``numpy``: the reference that other engines must equal bit for bit.

:class:`tritstream.golden.kernels.Kernels` documents the functions.
"""

import numpy as np

from tritstream.golden.fixed_point import GROUP, SCALE_TRITS, SCALES, TRITS_PER_BYTE
from tritstream.golden.kernels.numpy_arithmetic import (
    levels,
    squared_error,
    sum_in_order,
    transposed_magnitudes,
)
from tritstream.golden.kernels.numpy_search import feed_back, grid_errors, level_sums, own_errors
from tritstream.golden.trit import BYTE_OF_NUMBER

__all__ = [
    "CANDIDATES", "CHUNK", "best_codes", "choose_scales", "count_levels", "feed_back", "find_codes",
    "find_levels", "grid_errors", "level_sums", "own_errors", "pack_tiles", "square_sums",
]

#: Small chunks, because there are many temporaries and second-level caches should hold them.
CHUNK = 1
#: Indices of the candidate scales in a group's ascending magnitudes, in the order of trial.
#: :mod:`tritstream.golden.quantize` says where they come from.
CANDIDATES = (10, 12, 14, 15)


def choose_scales(groups, half):
    magnitudes = transposed_magnitudes(groups)
    ascending = np.sort(magnitudes, axis=0)
    candidates = ascending[list(CANDIDATES)]
    index, _ = _least(magnitudes, candidates, half)
    return np.take_along_axis(candidates, index[None].astype(np.intp), axis=0)[0]


def find_codes(scales, edges):
    # side="left" counts edges strictly below a scale; the comparison is in float64.
    return np.searchsorted(edges, scales.astype(np.float64), side="left").astype(np.uint8)


def find_levels(groups, scales, half):
    return levels(groups, scales[:, None], half).astype(np.int8)


def best_codes(groups, table, half, importance=None):
    magnitudes = transposed_magnitudes(groups)
    if importance is not None:
        importance = importance[np.arange(len(groups)) % len(importance)].T.copy()
    scales = np.broadcast_to(table[:, None], (SCALES, len(groups)))
    return _least(magnitudes, scales, half, importance)


def square_sums(groups, q, codes, values):
    half = values.shape[1] // 2
    actual = values.take(values.shape[1] * codes.astype(np.int32)[:, None] + q + half)
    wanted = groups.astype(np.float64)
    return sum_in_order(np.square(wanted - actual).T), sum_in_order(np.square(wanted).T)


def count_levels(q, half):
    counts = np.bincount((q.astype(np.int64) + half).ravel(), minlength=2 * half + 1)
    return counts.astype(np.int64)


def pack_tiles(q, codes, digits, code_digits, depth):
    packed = _pack_digits(codes, code_digits, SCALE_TRITS)
    weights = _pack_digits(q, digits, depth).reshape(*packed.shape[:2], GROUP * depth)
    return np.concatenate([weights, packed], axis=2)


def _pack_digits(integers: np.ndarray, digits: np.ndarray, count: int) -> np.ndarray:
    """Pack a digit of five rows into each byte: (rows, n) to uint8 (tiles, n, count)."""
    tiles = -(-len(integers) // TRITS_PER_BYTE)
    padded = np.zeros((tiles * TRITS_PER_BYTE, integers.shape[1]), np.uint8)
    padded[:len(integers)] = integers.view(np.uint8)
    by_row = digits.take(padded).reshape(-1, TRITS_PER_BYTE, integers.shape[1])
    # The four bytes of a uint32 are four base-3 numbers, one per digit. Five digits are below
    # 256, so no byte carries into the next, and one addition serves all four.
    numbers = by_row[:, -1]
    for row in range(TRITS_PER_BYTE - 2, -1, -1):
        numbers = 3 * numbers + by_row[:, row]
    return BYTE_OF_NUMBER.take(numbers[..., None].view(np.uint8)[..., :count])


def _least(
    magnitudes: np.ndarray, scales: np.ndarray, half: int, importance: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the first scale (c, n) with the least error, and the error: (n,) each."""
    index = np.zeros(magnitudes.shape[1], np.uint8)
    least = squared_error(magnitudes, scales[0], half, importance)
    for number, candidate in enumerate(scales[1:], 1):
        error = squared_error(magnitudes, candidate, half, importance)
        better = error < least
        np.copyto(index, np.uint8(number), where=better)
        np.copyto(least, error, where=better)
    return index, least
