"""Rows of a matrix, read from its file as they are needed."""

from dataclasses import dataclass

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import DTYPES, Tensor
from tritstream.golden.checkpoints.source_tensor import SourceTensor

__all__ = ["RowReader", "weights_of"]


@dataclass(frozen=True)
class RowReader:
    """Matrix in a file whose rows are read on access: ``reader[2:7]`` returns five rows.

    ``numpy.asarray(reader)`` reads all rows.
    """

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows N and columns K."""
        return self.tensor.shape

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the values."""
        return DTYPES[self.tensor.dtype]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.tensor.read_rows(rows)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self.tensor.read().astype(dtype or self.dtype, copy=False)


def weights_of(tensor: SourceTensor) -> np.ndarray | RowReader:
    """Return the weights of a matrix: a reader if a file holds them in this form, else an array."""
    return RowReader(tensor) if isinstance(tensor, Tensor) else tensor.read()
