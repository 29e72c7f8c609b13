"""Where the tensors of a checkpoint come from: a Hugging Face directory, or another kind of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.choice import (
    BY_NAME,
    MODULES_TO_NOT_CONVERT,
    Choice,
    Selection,
    choose,
    is_linear,
)
from tritstream.golden.checkpoints.safetensors_reader import Tensor
from tritstream.golden.checkpoints.source_tensor import SourceShard, SourceTensor
from tritstream.golden.errors import CheckpointError

__all__ = [
    "CONFIG", "CheckpointError", "INDEX", "MODULES_TO_NOT_CONVERT", "SINGLE", "Source", "Tensor",
    "is_linear",
]

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class Source(ABC):
    """An unquantized checkpoint; reads nothing but headers until asked.

    Members
    -------
    path : Path
        The directory or file.
    config : dict
        What config.json holds, or will.
    shards : mapping
        :class:`SourceShard` by file name, sorted.
    sharded : bool
        Whether there is an index, however many shards.
    tensors : mapping
        :class:`SourceTensor` by name, shard by shard.
    settings : mapping
        Choices, besides the files, that decide what is written, as JSON can hold them.
    """

    path:    Path
    config:  dict
    shards:  Mapping[str, SourceShard]
    sharded: bool
    tensors: Mapping[str, SourceTensor]
    settings: Mapping[str, object] = {}

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that all of it comes from."""

    @abstractmethod
    def write_companions(self, directory: Path) -> None:
        """Write the files that go with the weights: tokenizer, generation settings, licence."""

    def read(self, name: str) -> np.ndarray:
        """A whole tensor, in its own dtype."""
        return self.tensors[name].read()

    def choose(self, selection: Selection = BY_NAME) -> Choice:
        """Matrices to be packed, and why each other tensor is kept: tritstream.golden.checkpoints.choice.choose."""
        return choose(self.path, self.tensors, selection)

    def matrices(
        self, modules_to_not_convert: Sequence[str] = MODULES_TO_NOT_CONVERT,
        include: Sequence[str] = (),
    ) -> dict[str, SourceTensor]:
        """Matrices to be quantized by their names alone, by module (without ``.weight``).

        Raises :class:`CheckpointError` as :func:`tritstream.golden.checkpoints.choice.choose`.
        """
        return self.choose(Selection(include=include, kept=modules_to_not_convert)).matrices


