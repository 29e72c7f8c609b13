"""Counts of scale codes and of zero trits in a packed matrix."""

import numpy as np

from tritstream.golden.fixed_point import GROUP, SCALES
from tritstream.golden.matrix import Encoded, ScaledMatrix

__all__ = ["code_counts", "share_of_zeros"]


def code_counts(q: np.ndarray, codes: np.ndarray, group: int = GROUP) -> np.ndarray:
    """Return the number of groups per code, groups of zeros not counted: int64 (27,)."""
    held = q.reshape(len(q), -1, GROUP).view(np.uint64).any(axis=-1)
    if group > GROUP:
        held = np.logical_or.reduceat(held, np.arange(codes.shape[1]) * (group // GROUP), axis=1)
    return np.bincount(codes[held], minlength=SCALES)


def share_of_zeros(counts: np.ndarray, matrix: Encoded | ScaledMatrix) -> float:
    """Return the share of zeros among the trits of a matrix.

    ``counts`` is the number of occurrences of each integer, padding included: int64 (2h + 1,).
    """
    counts, padding = counts.copy(), -matrix.shape[1] % GROUP
    counts[len(counts) // 2] -= padding * matrix.shape[0]
    digits = np.arange(counts.size)[:, None] // 3 ** np.arange(matrix.depth) % 3
    zeros = int(counts @ (digits == 1).sum(axis=1))
    return zeros / (matrix.depth * int(counts.sum()))
