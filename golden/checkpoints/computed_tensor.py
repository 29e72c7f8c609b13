"""Tensors whose values are computed a few rows at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from math import prod

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import DTYPES

__all__ = ["ChunkedTensor"]


class ChunkedTensor(ABC):
    """What a :class:`.SourceTensor` needs beside its name, path, dtype and shape."""

    dtype: str
    shape: tuple[int, ...]

    @abstractmethod
    def chunks(self) -> Iterator[np.ndarray]:
        """The values in order, in the dtype, a few megabytes at a time."""

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return prod(self.shape) * DTYPES[self.dtype].itemsize

    def read(self) -> np.ndarray:
        """The whole tensor."""
        whole, place = np.empty(prod(self.shape), DTYPES[self.dtype]), 0
        for chunk in self.chunks():
            whole[place:place + chunk.size] = chunk.ravel()
            place += chunk.size
        return whole.reshape(self.shape)

    def pieces(self) -> Iterator[bytes]:
        """The bytes of :meth:`read`, a few megabytes at a time."""
        for chunk in self.chunks():
            yield chunk.tobytes()
