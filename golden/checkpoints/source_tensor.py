"""Interfaces of a source checkpoint: readable tensors, and the files that hold them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from tritstream.golden.matrix import DirectMatrix

__all__ = ["SourceShard", "SourceTensor", "Ternary"]


class SourceTensor(Protocol):
    """A readable tensor: stored in a file like :class:`.Tensor`, converted or computed.

    ``dtype`` is named as in safetensors. ``path`` is the file to name in messages. ``size`` is the
    total length of :meth:`pieces` in bytes. :meth:`read` returns the complete tensor.
    """

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def path(self) -> Path: ...
    @property
    def size(self) -> int: ...
    def read(self) -> np.ndarray: ...
    def pieces(self) -> Iterator[bytes]: ...


@runtime_checkable
class Ternary(Protocol):
    """A tensor whose source may state levels -1, 0, 1 and scales of groups of weights."""

    def ternary(self) -> DirectMatrix | None:
        """Return levels and scales as the source stores them, or None if it does not.

        Raises :class:`.CheckpointError` for scales that are negative or not finite.
        """


class SourceShard(Protocol):
    """Contents of one file of a checkpoint: tensors by name, and ``__metadata__``."""

    @property
    def metadata(self) -> Mapping[str, str]: ...
    @property
    def tensors(self) -> Mapping[str, SourceTensor]: ...
