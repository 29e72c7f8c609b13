"""Matrices of models that were trained ternary: levels and scales, dequantized as they are read."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.computed_tensor import ChunkedTensor
from tritstream.golden.checkpoints.safetensors_reader import DTYPES, Tensor
from tritstream.golden.errors import CheckpointError
from tritstream.golden.fixed_point import GROUP, group_count
from tritstream.golden.matrix import DirectMatrix
from tritstream.golden.row_chunks import row_chunks
from tritstream.golden.scales import DirectScales

__all__ = ["AffineTensor", "CodedTensor", "LevelTensor", "OnlineTensor", "mean_scale"]

#: Codes per byte of :class:`CodedTensor`, and weights per word of :class:`AffineTensor`.
_CODES, _WEIGHTS = 4, 16
#: Code that a ternary matrix does not use.
_UNUSED = 3


@dataclass(frozen=True)
class _Dequantized(ChunkedTensor):
    """Float32 matrix made of a stored tensor: a SourceTensor. ``dequantized`` is as in GGUF."""

    stored: Tensor
    shape:  tuple[int, ...]

    dtype = "F32"
    dequantized = True
    inverse = False

    @property
    def name(self) -> str:
        """Name of the stored tensor."""
        return self.stored.name

    @property
    def path(self) -> Path:
        """File of the stored tensor."""
        return self.stored.path

    @property
    def group(self) -> int:
        """Weights of a row that share a scale."""
        return GROUP * group_count(self.shape[1])

    @abstractmethod
    def stored_scales(self) -> np.ndarray:
        """Return the scales as they are stored, of any float dtype: (N, C), or (1, 1)."""

    @abstractmethod
    def levels(self) -> Iterator[np.ndarray]:
        """Yield levels -1, 0, 1 of rows in order: int8 (rows, K)."""

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield rows in order, float32 (rows, K)."""
        first, scales = 0, self.stored_scales().astype(np.float32)
        if self.inverse:
            scales = np.float32(1) / scales
        for levels in self.levels():
            own = scales if len(scales) == 1 else scales[first:first + len(levels)]
            by_group = levels.reshape(len(levels), own.shape[1], -1)
            yield (by_group * own[..., None]).reshape(levels.shape)
            first += len(levels)

    def ternary(self) -> DirectMatrix | None:
        """Return levels and scales, or None if groups are no multiple of 16 weights."""
        rows, columns = self.shape
        if self.group % GROUP:
            return None
        try:
            scales = DirectScales(self.stored_scales(), rows, self.inverse)
        except ValueError as error:
            raise self._refuse(f"cannot be packed: its {error}") from None
        q = np.zeros((rows, GROUP * group_count(columns)), np.int8)
        first = 0
        for levels in self.levels():
            q[first:first + len(levels), :columns] = levels
            first += len(levels)
        return DirectMatrix(1, (rows, columns), q, scales, self.group)

    def _refuse(self, fault: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {self.name} {fault}; use another copy of the model")


@dataclass(frozen=True)
class _Scaled(_Dequantized):
    """Matrix with one scale, by which its levels are multiplied, or divided if ``inverse``."""

    scale:   Tensor
    inverse: bool

    def stored_scales(self) -> np.ndarray:
        """Return the scale of the matrix: (1, 1)."""
        return self.scale.read().reshape(1, 1)


@dataclass(frozen=True)
class CodedTensor(_Scaled):
    """Matrix of ``quant_method`` bitnet: 2 bits per weight, four blocks of rows in a byte.

    Bits 2i and 2i+1 of row r of the R stored rows are row ``i R + r``; the code is level + 1. Rows
    beyond the shape only fill up the last block.
    """

    def levels(self) -> Iterator[np.ndarray]:
        """Yield levels of rows in order: int8 (rows, K)."""
        count = self.stored.shape[0]
        for block in range(_CODES):
            rows = min(count, self.shape[0] - block * count)
            for chunk in row_chunks(rows, self.shape[1]):
                codes = self.stored.read_rows(chunk) >> np.uint8(2 * block) & 3
                if (codes == _UNUSED).any():
                    raise self._refuse("has code 3, which has no meaning")
                yield codes.astype(np.int8) - np.int8(1)


@dataclass(frozen=True)
class LevelTensor(_Scaled):
    """Matrix of ``quant_method`` bitnet whose levels are stored as floats."""

    def levels(self) -> Iterator[np.ndarray]:
        """Yield levels of rows in order: int8 (rows, K)."""
        for chunk in row_chunks(*self.shape):
            levels = self.stored.read_rows(chunk).astype(np.float32)
            if not np.isin(levels, (-1, 0, 1)).all():
                raise self._refuse("has a scale, but weights other than -1, 0 and 1")
            yield levels.astype(np.int8)


@dataclass(frozen=True)
class OnlineTensor(_Dequantized):
    """Matrix of ``quant_method`` bitnet whose trained weights are rounded when a model is loaded.

    The scale is the mean magnitude, at least 1e-5. The weights are divided by it, rounded to -1, 0
    or 1, and multiplied again, in float32. The result is rounded to the dtype of the weights.
    """

    def stored_scales(self) -> np.ndarray:
        """Return the scale of the matrix, rounded to the dtype of the weights: (1, 1)."""
        with np.errstate(over="ignore"):
            scale = (np.float32(1) / self._factor).astype(DTYPES[self.stored.dtype])
        return scale.reshape(1, 1)

    def levels(self) -> Iterator[np.ndarray]:
        """Yield levels of rows in order: int8 (rows, K)."""
        for chunk in row_chunks(*self.shape):
            rows = self.stored.read_rows(chunk).astype(np.float32)
            yield np.clip(np.rint(rows * self._factor), -1, 1).astype(np.int8)

    @cached_property
    def _factor(self) -> np.float32:
        return np.float32(1) / mean_scale(self.stored)


@dataclass(frozen=True)
class AffineTensor(_Dequantized):
    """Matrix of MLX with 2 bits per weight: ``scale * code + bias`` per group, for ternary models.

    Words of 32 bits hold 16 codes, the first in the lowest bits. The bias must be minus the scale.
    """

    scales: Tensor
    biases: Tensor

    @property
    def group(self) -> int:
        """Weights of a row that share a scale."""
        return self.shape[1] // self.scales.shape[1]

    def stored_scales(self) -> np.ndarray:
        """Return the scales of the groups: (N, C)."""
        stored = self.scales.read()
        if (self.biases.read().astype(np.float32) != -stored.astype(np.float32)).any():
            raise self._refuse("has biases that are not minus its scales, so it is not ternary")
        return stored

    def levels(self) -> Iterator[np.ndarray]:
        """Yield levels of rows in order: int8 (rows, K)."""
        for chunk in row_chunks(*self.shape):
            words = self.stored.read_rows(chunk)
            codes = words[..., None] >> np.arange(0, 2 * _WEIGHTS, 2, dtype=np.uint32) & 3
            if (codes == _UNUSED).any():
                raise self._refuse("has code 3, so it is not ternary")
            yield codes.astype(np.int8).reshape(len(words), -1) - np.int8(1)


def mean_scale(weights: Tensor) -> np.float32:
    """Return the mean magnitude of a matrix, at least 1e-5, added up in float64."""
    total = 0.0
    for chunk in row_chunks(*weights.shape):
        total += float(np.abs(weights.read_rows(chunk).astype(np.float64)).sum())
    return np.float32(max(total / math.prod(weights.shape), 1e-5))
