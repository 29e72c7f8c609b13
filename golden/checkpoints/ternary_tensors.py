"""Matrices of models that were trained ternary, dequantized as they are read."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.computed_tensor import ChunkedTensor
from tritstream.golden.checkpoints.safetensors_reader import DTYPES, Tensor
from tritstream.golden.errors import CheckpointError
from tritstream.golden.row_chunks import row_chunks

__all__ = ["AffineTensor", "CodedTensor", "LevelTensor", "OnlineTensor", "mean_scale"]

#: Codes per byte of :class:`CodedTensor`, and weights per word of :class:`AffineTensor`.
_CODES, _WEIGHTS = 4, 16
#: Code that a ternary matrix does not use.
_UNUSED = 3

#: Multiplies levels -1, 0, 1 by the scale of the matrix: float32 to float32.
Scaling = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class _Dequantized(ChunkedTensor):
    """Float32 matrix made of a stored tensor: a SourceTensor. ``dequantized`` is as in GGUF."""

    stored: Tensor
    shape:  tuple[int, ...]

    dtype = "F32"
    dequantized = True

    @property
    def name(self) -> str:
        """Name of the stored tensor."""
        return self.stored.name

    @property
    def path(self) -> Path:
        """File of the stored tensor."""
        return self.stored.path

    def _refuse(self, fault: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {self.name} {fault}; use another copy of the model")


@dataclass(frozen=True)
class CodedTensor(_Dequantized):
    """Matrix of ``quant_method`` bitnet: 2 bits per weight, four blocks of rows in a byte.

    Bits 2i and 2i+1 of row r of the R stored rows are row ``i R + r``; the code is level + 1. Rows
    beyond the shape only fill up the last block.
    """

    scaling: Scaling

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield rows in order, float32 (rows, K)."""
        count = self.stored.shape[0]
        for block in range(_CODES):
            rows = min(count, self.shape[0] - block * count)
            for chunk in row_chunks(rows, self.shape[1]):
                codes = self.stored.read_rows(chunk) >> np.uint8(2 * block) & 3
                if (codes == _UNUSED).any():
                    raise self._refuse("has code 3, which has no meaning")
                yield self.scaling(codes.astype(np.float32) - 1)


@dataclass(frozen=True)
class LevelTensor(_Dequantized):
    """Matrix of ``quant_method`` bitnet whose levels are stored as floats."""

    scaling: Scaling

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield rows in order, float32 (rows, K)."""
        for chunk in row_chunks(*self.shape):
            levels = self.stored.read_rows(chunk).astype(np.float32)
            if not np.isin(levels, (-1, 0, 1)).all():
                raise self._refuse("has a scale, but weights other than -1, 0 and 1")
            yield self.scaling(levels)


@dataclass(frozen=True)
class OnlineTensor(_Dequantized):
    """Matrix of ``quant_method`` bitnet whose trained weights are rounded when a model is loaded.

    The scale is the mean magnitude, at least 1e-5. The weights are divided by it, rounded to -1, 0
    or 1, and multiplied again, in float32. The result is rounded to the dtype of the weights.
    """

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield rows in order, float32 (rows, K)."""
        factor = np.float32(1) / mean_scale(self.stored)
        for chunk in row_chunks(*self.shape):
            rows = self.stored.read_rows(chunk).astype(np.float32)
            levels = np.clip(np.rint(rows * factor), -1, 1)
            yield (levels / factor).astype(DTYPES[self.stored.dtype]).astype(np.float32)


@dataclass(frozen=True)
class AffineTensor(_Dequantized):
    """Matrix of MLX with 2 bits per weight: ``scale * code + bias`` per group, for ternary models.

    Words of 32 bits hold 16 codes, the first in the lowest bits. The bias must be minus the scale.
    """

    scales: Tensor
    biases: Tensor

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield rows in order, float32 (rows, K)."""
        for chunk in row_chunks(*self.shape):
            scales = self.scales.read_rows(chunk).astype(np.float32)
            if (self.biases.read_rows(chunk).astype(np.float32) != -scales).any():
                raise self._refuse("has biases that are not minus its scales, so it is not ternary")
            words = self.stored.read_rows(chunk)
            codes = words[..., None] >> np.arange(0, 2 * _WEIGHTS, 2, dtype=np.uint32) & 3
            if (codes == _UNUSED).any():
                raise self._refuse("has code 3, so it is not ternary")
            levels = codes.astype(np.float32).reshape(*scales.shape, -1) - 1
            yield (levels * scales[..., None]).reshape(len(words), -1)


def mean_scale(weights: Tensor) -> np.float32:
    """Return the mean magnitude of a matrix, at least 1e-5, added up in float64."""
    total = 0.0
    for chunk in row_chunks(*weights.shape):
        total += float(np.abs(weights.read_rows(chunk).astype(np.float64)).sum())
    return np.float32(max(total / math.prod(weights.shape), 1e-5))
