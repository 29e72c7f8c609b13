"""What the loops of the engine ``numpy`` have in common."""

import numpy as np

from tritstream.golden.fixed_point import GROUP
from tritstream.golden.rounding import rec

__all__ = ["levels", "magnitudes_by_place", "squared_error", "sum_places"]


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


def magnitudes_by_place(groups: np.ndarray) -> np.ndarray:
    """Signs change no error; places come first, groups last: (n, 16) to (16, n)."""
    return np.abs(groups).T.copy()


def squared_error(
    magnitudes: np.ndarray, scales: np.ndarray, half: int, importance: np.ndarray | None,
) -> np.ndarray:
    """Sum over the 16 places, in their order: (16, n) and (n,) to (n,)."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        terms = magnitudes - rec(scales, levels(magnitudes, scales, half), half)
        terms *= terms
        if importance is not None:
            terms *= importance
        return sum_places(terms)


def sum_places(terms: np.ndarray) -> np.ndarray:
    """One after the other, which numpy's own sum does not promise: (16, n) to (n,)."""
    total = np.zeros_like(terms[0])
    for term in terms[:GROUP]:
        total += term
    return total
