"""What a source checkpoint consists of: tensors that can be read, and the files that hold them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

__all__ = ["SourceShard", "SourceTensor"]


class SourceTensor(Protocol):
    """A tensor that can be read; as :class:`Tensor`, but wherever its values come from.

    ``path`` is the file to name in messages, ``size`` what :meth:`pieces` adds up to.
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


class SourceShard(Protocol):
    """Tensors that go into one file of a checkpoint, by name, and the metadata of that file."""

    @property
    def metadata(self) -> Mapping[str, str]: ...
    @property
    def tensors(self) -> Mapping[str, SourceTensor]: ...
