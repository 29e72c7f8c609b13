"""Counts of scale codes and of zero trits in a packed matrix."""

import numpy as np

from tritstream.golden.fixed_point import GROUP, SCALES
from tritstream.golden.matrix import Encoded

__all__ = ["code_counts", "share_of_zeros"]


def code_counts(q: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the number of groups per code, groups of zeros not counted: int64 (27,)."""
    held = q.reshape(*codes.shape, GROUP).view(np.uint64).any(axis=-1)
    return np.bincount(codes[held], minlength=SCALES)


def share_of_zeros(counts: np.ndarray, matrix: Encoded) -> float:
    """Return the share of zeros among the trits of a matrix.

    ``counts`` is the number of occurrences of each integer, padding included: int64 (2h + 1,).
    """
    counts, padding = counts.copy(), -matrix.shape[1] % GROUP
    counts[len(counts) // 2] -= padding * matrix.shape[0]
    digits = np.arange(counts.size)[:, None] // 3 ** np.arange(matrix.depth) % 3
    zeros = int(counts @ (digits == 1).sum(axis=1))
    return zeros / (matrix.depth * int(counts.sum()))
