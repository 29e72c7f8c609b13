"""The engine ``numpy``: what the others must equal, bit for bit."""

import numpy as np

from golden.fixed import GROUP, SCALE_TRITS, SCALES
from golden.forms import rec
from golden.trit import BYTE_OF_NUMBER, TRITS_PER_BYTE

__all__ = [
    "CANDIDATES", "CHUNK", "best_codes", "choose_scales", "count_levels", "find_codes",
    "find_levels", "levels", "pack_tiles", "square_sums", "squared_error",
]

#: Temporaries are many: second-level caches should hold them.
CHUNK = 1
#: Places of the candidate scales among the ascending magnitudes of a group, in order of trial.
CANDIDATES = (10, 12, 14, 15)


def levels(weights: np.ndarray, scales: np.ndarray, half: int) -> np.ndarray:
    """Nearest integer weights, as float32: ``rint(clip(w / s, -1, 1) * half)``, 0 where s is 0.

    ``weights`` and ``scales`` are float32 and broadcast against each other.
    """
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        ratio = weights / scales
    np.copyto(ratio, np.float32(0), where=scales == 0)
    np.clip(ratio, np.float32(-1), np.float32(1), out=ratio)
    ratio *= np.float32(half)
    return np.rint(ratio, out=ratio)


def choose_scales(groups, half):
    magnitudes = _magnitudes(groups)
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
    magnitudes = _magnitudes(groups)
    if importance is not None:
        importance = importance[np.arange(len(groups)) % len(importance)].T.copy()
    scales = np.broadcast_to(table[:, None], (SCALES, len(groups)))
    return _least(magnitudes, scales, half, importance)


def square_sums(groups, q, codes, values):
    half = values.shape[1] // 2
    stand = values.take(values.shape[1] * codes.astype(np.int32)[:, None] + q + half)
    wanted = groups.astype(np.float64)
    return _sum_places(np.square(wanted - stand).T), _sum_places(np.square(wanted).T)


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


def _magnitudes(groups: np.ndarray) -> np.ndarray:
    """Signs change no error; places come first, groups last: (n, 16) to (16, n)."""
    return np.abs(groups).T.copy()


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


def squared_error(
    magnitudes: np.ndarray, scales: np.ndarray, half: int, importance: np.ndarray | None,
) -> np.ndarray:
    """Sum over the 16 places, in their order: (16, n) and (n,) to (n,)."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        terms = magnitudes - rec(scales, levels(magnitudes, scales, half), half)
        terms *= terms
        if importance is not None:
            terms *= importance
        return _sum_places(terms)


def _sum_places(terms: np.ndarray) -> np.ndarray:
    """One after the other, which numpy's own sum does not promise: (16, n) to (n,)."""
    total = np.zeros_like(terms[0])
    for term in terms[:GROUP]:
        total += term
    return total
