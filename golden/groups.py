"""Rows of a matrix as groups of weights, from an array or directly from a file."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tritstream.golden.fixed_point import GROUP, group_count

__all__ = ["ShiftedRows", "WeightRows", "take_groups"]


class WeightRows(Protocol):
    """Weights (N, K) of any float dtype, read by rows: an array or a reader of a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class ShiftedRows:
    """Rows of a matrix times a power of two, as float32, multiplied when they are read.

    Members
    -------
    weights : WeightRows
        Weights (N, K) of any float dtype, finite as float32.
    shift : int
        Exponent of the power of two.
    """

    weights: WeightRows
    shift:   int

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows N and columns K."""
        return tuple(self.weights.shape)

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the rows: float32."""
        return np.dtype(np.float32)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.ldexp(self.weights[rows].astype(np.float32), self.shift)


def take_groups(
    weights: WeightRows, rows: slice, name: str | None = None, group: int = GROUP,
) -> np.ndarray:
    """Return the groups of some rows: float32 (n, group), row by row, zero-padded.

    ``weights`` (N, K) have any float dtype. With a name, raises :class:`ValueError` for a value
    that is not finite as float32. The message has the name, and the row and column of the value.
    """
    taken = weights[rows]
    with np.errstate(over="ignore"):
        if taken.shape[1] % group:
            width = group * group_count(taken.shape[1], group)
            padded = np.zeros((len(taken), width), np.float32)
            padded[:, :taken.shape[1]] = taken
        else:
            padded = taken.astype(np.float32)
    if name is not None:
        _check_finite(padded, taken, rows.start, name)
    return padded.reshape(-1, group)


def _check_finite(rows: np.ndarray, weights: np.ndarray, first: int, name: str) -> None:
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        value = weights[row, column]
        beyond = " as float32" if np.isfinite(value) else ""
        raise ValueError(f"{name} must be finite{beyond}, not {value} at row {first + row}, "
                         f"column {column}")
