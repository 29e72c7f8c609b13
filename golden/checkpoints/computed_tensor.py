"""Base classes of tensors whose values are computed, from another tensor or row by row."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.checkpoints.source_tensor import SourceTensor

__all__ = ["ChangedTensor", "ChunkedTensor"]


@dataclass(frozen=True)
class ChangedTensor:
    """Base class of a :class:`.SourceTensor` with the name and the shape of another one."""

    source: SourceTensor

    @property
    def name(self) -> str:
        """Name of the source tensor."""
        return self.source.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the source tensor."""
        return self.source.shape

    @property
    def path(self) -> Path:
        """File of the source tensor."""
        return self.source.path


class _Computed(Protocol):
    """Members that a subclass of :class:`ChunkedTensor` has, as fields or as properties."""

    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def chunks(self) -> Iterator[np.ndarray]: ...


class ChunkedTensor(ABC):
    """Base class that makes a :class:`.SourceTensor` of a generator of values.

    A subclass has ``name``, ``path``, ``dtype`` (as safetensors calls it) and ``shape``, and
    defines :meth:`chunks`.
    """

    @abstractmethod
    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the values in order, as arrays of the dtype, a few megabytes at a time."""

    @property
    def size(self: _Computed) -> int:
        """Size of the tensor in bytes."""
        return prod(self.shape) * DTYPES[self.dtype].itemsize

    def read(self: _Computed) -> np.ndarray:
        """Return the complete tensor."""
        values, start = np.empty(prod(self.shape), DTYPES[self.dtype]), 0
        for chunk in self.chunks():
            values[start:start + chunk.size] = chunk.ravel()
            start += chunk.size
        return values.reshape(self.shape)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes of :meth:`read`, a few megabytes at a time."""
        for chunk in self.chunks():
            yield chunk.tobytes()
