"""Rows of a matrix, read from its file as they are needed."""

from dataclasses import dataclass

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import DTYPES, Tensor
from tritstream.golden.checkpoints.source_tensor import SourceTensor

__all__ = ["RowReader", "weights_of"]


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


def weights_of(tensor: SourceTensor) -> np.ndarray | RowReader:
    """Weights of a matrix, read by rows where they lie in a file as they are."""
    return RowReader(tensor) if isinstance(tensor, Tensor) else tensor.read()
