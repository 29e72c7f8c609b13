"""Rows of a matrix as groups of 16 weights."""

import numpy as np

from golden.fixed import GROUP

__all__ = ["group_count", "take_groups"]


def group_count(columns: int) -> int:
    """Groups of a row, the last one padded."""
    return -(-columns // GROUP)


def take_groups(weights: np.ndarray, rows: slice, name: str | None = None) -> np.ndarray:
    """Some rows of weights (N, K) of any float dtype: float32 (n, 16), row by row, zero-padded.

    With a name, raises :class:`ValueError` that tells it, and the first place of a value that is
    not finite as float32.
    """
    part = weights[rows]
    with np.errstate(over="ignore"):
        if part.shape[1] % GROUP:
            padded = np.zeros((len(part), GROUP * group_count(part.shape[1])), np.float32)
            padded[:, :part.shape[1]] = part
        else:
            padded = part.astype(np.float32)
    if name is not None:
        _check_finite(padded, rows.start, name)
    return padded.reshape(-1, GROUP)


def _check_finite(rows: np.ndarray, first: int, name: str) -> None:
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(f"{name} must be finite, not {rows[row, column]} at row "
                         f"{first + row}, column {column}")
