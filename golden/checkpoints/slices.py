"""Matrices of experts that a checkpoint stores as one tensor with three dimensions.

A tensor T with shape (E, N, K), or (E, K, N), holds the matrices of E experts. Matrix ``e`` has the
module name ``T.e``, and (N, K) is its shape in both cases.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.computed_tensor import ChunkedTensor
from tritstream.golden.checkpoints.safetensors_reader import Tensor
from tritstream.golden.checkpoints.source_tensor import SourceTensor

__all__ = ["AXES", "INPUTS_FIRST", "OUTPUTS_FIRST", "Stack", "slice_module", "stack_of",
           "stacked_shape"]

#: Axes of a slice in their order: outputs N and inputs K, or inputs K and outputs N.
OUTPUTS_FIRST, INPUTS_FIRST = AXES = ("NK", "KN")


@dataclass(frozen=True)
class Stack:
    """Matrices ``T.e.weight`` (N, K) of a tensor, by module name, and the axes of a slice."""

    axes:     str
    matrices: dict[str, SourceTensor]


def stack_of(tensor: SourceTensor, axes: str) -> Stack | None:
    """Return the matrices of a tensor with three dimensions, in the order of the experts.

    ``axes`` is one of :data:`AXES`. Returns None for a tensor that is not in a safetensors file,
    or has another number of dimensions.
    """
    if not isinstance(tensor, Tensor) or len(tensor.shape) != 3 or 0 in tensor.shape:
        return None
    size = tensor.size // tensor.shape[0]
    modules = [slice_module(tensor.name, index) for index in range(tensor.shape[0])]
    stored = [replace(tensor, name=f"{module}.weight", shape=tensor.shape[1:],
                      offset=tensor.offset + index * size, size=size)
              for index, module in enumerate(modules)]
    matrices = stored if axes == OUTPUTS_FIRST else map(_Transposed, stored)
    return Stack(axes, dict(zip(modules, matrices, strict=True)))


def slice_module(name: str, index: int) -> str:
    """Return the module name of one matrix of a tensor."""
    return f"{name}.{index}"


def stacked_shape(count: int, shape: tuple[int, ...], axes: str) -> tuple[int, ...]:
    """Return the shape of a tensor that holds ``count`` matrices of a shape (N, K)."""
    return (count, *(shape if axes == OUTPUTS_FIRST else shape[::-1]))


@dataclass(frozen=True)
class _Transposed(ChunkedTensor):
    """Transposed matrix (N, K) of a stored matrix (K, N): a SourceTensor."""

    stored: Tensor

    @property
    def name(self) -> str:
        return self.stored.name

    @property
    def dtype(self) -> str:
        return self.stored.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape[::-1]

    @property
    def path(self) -> Path:
        return self.stored.path

    def chunks(self) -> Iterator[np.ndarray]:
        yield np.ascontiguousarray(self.stored.read().T)
