"""The engine ``numpy``: what the others must equal, bit for bit."""

import numpy as np

from tritstream.golden.fixed_point import GROUP, SCALE_TRITS, SCALES, TRITS_PER_BYTE
from tritstream.golden.kernels.numpy_arithmetic import (
    levels,
    magnitudes_by_place,
    squared_error,
    sum_places,
)
from tritstream.golden.kernels.numpy_search import feed_back, grid_errors
from tritstream.golden.trit import BYTE_OF_NUMBER

__all__ = [
    "CANDIDATES", "CHUNK", "best_codes", "choose_scales", "count_levels", "feed_back", "find_codes",
    "find_levels", "grid_errors", "pack_tiles", "square_sums",
]

#: Temporaries are many: second-level caches should hold them.
CHUNK = 1
#: Places of the candidate scales among the ascending magnitudes of a group, in order of trial.
CANDIDATES = (10, 12, 14, 15)


def choose_scales(groups, half):
    magnitudes = magnitudes_by_place(groups)
    ascending = np.sort(magnitudes, axis=0)
    candidates = ascending[list(CANDIDATES)]
    place, _ = _least(magnitudes, candidates, half)
    return np.take_along_axis(candidates, place[None].astype(np.intp), axis=0)[0]


def find_codes(scales, edges):
    # side="left" counts the edges strictly smaller; in float64, as the edges are.
    return np.searchsorted(edges, scales.astype(np.float64), side="left").astype(np.uint8)


def find_levels(groups, scales, half):
    return levels(groups, scales[:, None], half).astype(np.int8)


def best_codes(groups, table, half, importance=None):
    magnitudes = magnitudes_by_place(groups)
    if importance is not None:
        importance = importance[np.arange(len(groups)) % len(importance)].T.copy()
    scales = np.broadcast_to(table[:, None], (SCALES, len(groups)))
    return _least(magnitudes, scales, half, importance)


def square_sums(groups, q, codes, values):
    half = values.shape[1] // 2
    stand = values.take(values.shape[1] * codes.astype(np.int32)[:, None] + q + half)
    wanted = groups.astype(np.float64)
    return sum_places(np.square(wanted - stand).T), sum_places(np.square(wanted).T)


def count_levels(q, half):
    counts = np.bincount((q.astype(np.int64) + half).ravel(), minlength=2 * half + 1)
    return counts.astype(np.int64)


def pack_tiles(q, codes, lanes, code_lanes, depth):
    packed = _pack_digits(codes, code_lanes, SCALE_TRITS)
    weights = _pack_digits(q, lanes, depth).reshape(*packed.shape[:2], GROUP * depth)
    return np.concatenate([weights, packed], axis=2)


def _pack_digits(integers: np.ndarray, lanes: np.ndarray, count: int) -> np.ndarray:
    """Digits of five rows to a byte: (rows, n) to uint8 (tiles, n, count)."""
    tiles = -(-len(integers) // TRITS_PER_BYTE)
    padded = np.zeros((tiles * TRITS_PER_BYTE, integers.shape[1]), np.uint8)
    padded[:len(integers)] = integers.view(np.uint8)
    digits = lanes.take(padded).reshape(-1, TRITS_PER_BYTE, integers.shape[1])
    # As five digits are less than 256, the base-3 numbers of all bytes add up at once.
    numbers = digits[:, -1]
    for row in range(TRITS_PER_BYTE - 2, -1, -1):
        numbers = 3 * numbers + digits[:, row]
    return BYTE_OF_NUMBER.take(numbers[..., None].view(np.uint8)[..., :count])


def _least(
    magnitudes: np.ndarray, scales: np.ndarray, half: int, importance: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Which of the scales (c, n) has the least error, the first of several, and that error."""
    place = np.zeros(magnitudes.shape[1], np.uint8)
    least = squared_error(magnitudes, scales[0], half, importance)
    for number, one in enumerate(scales[1:], 1):
        error = squared_error(magnitudes, one, half, importance)
        better = error < least
        np.copyto(place, np.uint8(number), where=better)
        np.copyto(least, error, where=better)
    return place, least
