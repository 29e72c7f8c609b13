"""Rows of a matrix as groups of 16 weights, of an array or straight from a file."""

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
    """Rows of a matrix times a power of two, as float32: ``shifted[2:7]`` is multiplied when read.

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

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.ldexp(self.weights[rows].astype(np.float32), self.shift)


def take_groups(
    weights: WeightRows, rows: slice, name: str | None = None,
) -> np.ndarray:
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
        _check_finite(padded, part, rows.start, name)
    return padded.reshape(-1, GROUP)


def _check_finite(rows: np.ndarray, weights: np.ndarray, first: int, name: str) -> None:
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        value = weights[row, column]
        beyond = " as float32" if np.isfinite(value) else ""
        raise ValueError(f"{name} must be finite{beyond}, not {value} at row {first + row}, "
                         f"column {column}")
