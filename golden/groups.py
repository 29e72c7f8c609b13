"""Rows of a matrix as groups of 16 weights, of an array or straight from a file."""

from dataclasses import dataclass

import numpy as np

from golden.fixed import GROUP
from golden.shards import DTYPES, Tensor
from golden.sources import SourceTensor

__all__ = ["RowReader", "ShiftedRows", "group_count", "take_groups", "weights_of"]


@dataclass(frozen=True)
class RowReader:
    """A matrix in a file, of which rows are read when they are asked for: ``reader[2:7]``.

    ``numpy.asarray`` of it reads all.
    """

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, as of an array."""
        return self.tensor.shape

    @property
    def dtype(self) -> np.dtype:
        """What the values are."""
        return DTYPES[self.tensor.dtype]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.tensor.read_rows(rows)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self.tensor.read().astype(dtype or self.dtype, copy=False)


@dataclass(frozen=True, eq=False)
class ShiftedRows:
    """Rows of a matrix times a power of two, as float32: ``shifted[2:7]`` is multiplied when read.

    Members
    -------
    weights : numpy.ndarray or RowReader
        Weights (N, K) of any float dtype, finite as float32.
    shift : int
        Exponent of the power of two.
    """

    weights: np.ndarray | RowReader
    shift:   int

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows N and columns K."""
        return tuple(self.weights.shape)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.ldexp(self.weights[rows].astype(np.float32), self.shift)


def weights_of(tensor: SourceTensor) -> np.ndarray | RowReader:
    """Weights of a matrix, read by rows where they lie in a file as they are."""
    return RowReader(tensor) if isinstance(tensor, Tensor) else tensor.read()


def group_count(columns: int) -> int:
    """Groups of a row, the last one padded."""
    return -(-columns // GROUP)


def take_groups(
    weights: np.ndarray | RowReader, rows: slice, name: str | None = None,
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
