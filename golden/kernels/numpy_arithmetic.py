"""Arithmetic shared by the loops of the engine ``numpy``."""

import numpy as np

from tritstream.golden.fixed_point import GROUP
from tritstream.golden.rounding import rec

__all__ = ["levels", "scale_steps", "squared_error", "sum_in_order", "transposed_magnitudes"]


def levels(weights: np.ndarray, scales: np.ndarray, half: int) -> np.ndarray:
    """Return the nearest integer weights, as float32.

    ``rint(clip(w / s, -1, 1) * half)``, and 0 where ``s`` is 0. ``weights`` and ``scales`` are
    float32 and broadcast against each other.
    """
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        ratio = weights / scales
    np.copyto(ratio, np.float32(0), where=scales == 0)
    np.clip(ratio, np.float32(-1), np.float32(1), out=ratio)
    ratio *= np.float32(half)
    return np.rint(ratio, out=ratio)


def scale_steps(table: np.ndarray, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``half / s``, at most the largest float32, and ``s / half`` of each scale s > 0."""
    with np.errstate(over="ignore"):
        inverse = np.minimum(np.float32(half) / table, np.finfo(np.float32).max)
    return inverse, table / np.float32(half)


def transposed_magnitudes(groups: np.ndarray) -> np.ndarray:
    """Return magnitudes with groups last: (n, 16) to (16, n). Signs do not change an error."""
    return np.abs(groups).T.copy()


def squared_error(
    magnitudes: np.ndarray, scales: np.ndarray, half: int, importance: np.ndarray | None,
) -> np.ndarray:
    """Return the squared error of each group for its scale: (16, n) and (n,) to (n,)."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        terms = magnitudes - rec(scales, levels(magnitudes, scales, half), half)
        terms *= terms
        if importance is not None:
            terms *= importance
        return sum_in_order(terms)


def sum_in_order(terms: np.ndarray) -> np.ndarray:
    """Return sums over the first axis, in its order: (16, n) to (n,).

    ``numpy.sum`` does not guarantee an order.
    """
    total = np.zeros_like(terms[0])
    for term in terms[:GROUP]:
        total += term
    return total
