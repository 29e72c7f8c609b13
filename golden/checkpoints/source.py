"""Base class of unquantized checkpoints: Hugging Face directories, GGUF files and others."""

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
from tritstream.golden.checkpoints.weight_files import INDEX, SINGLE
from tritstream.golden.errors import CheckpointError
from tritstream.golden.inputs import Inputs
from tritstream.golden.jobs.directory_job import fingerprint

__all__ = [
    "CONFIG",
    "INDEX",
    "MODULES_TO_NOT_CONVERT",
    "SINGLE",
    "CheckpointError",
    "Source",
    "Tensor",
    "is_linear",
]

CONFIG = "config.json"


class Source(ABC):
    """Unquantized checkpoint. Opening it reads headers only.

    Members
    -------
    path : Path
        The directory or file.
    config : dict
        Contents of config.json, as read or as to be written.
    shards : mapping
        :class:`.SourceShard` by file name, sorted.
    sharded : bool
        Whether there is an index, which is possible for a single shard too.
    tensors : mapping
        :class:`.SourceTensor` by name, shard by shard.
    settings : mapping
        Options, in addition to the files, that determine what is written, as JSON can hold them.
    inputs : Inputs
        What the model does with the inputs of its matrices.
    on_demand : bool
        Whether files of weights are there only after :meth:`provide`.
    """

    path:    Path
    config:  dict
    shards:  Mapping[str, SourceShard]
    sharded: bool
    tensors: Mapping[str, SourceTensor]
    settings: Mapping[str, object] = {}
    inputs:   Inputs = Inputs()
    on_demand: bool = False

    @abstractmethod
    def files(self) -> list[Path]:
        """Return all files that the checkpoint is read from."""

    @abstractmethod
    def write_companions(self, directory: Path) -> None:
        """Write the companion files: tokenizer, generation settings, licence."""

    def provide(self, file: str) -> None:  # noqa: B027 - most sources have all files
        """Make the tensors of a file of ``shards`` readable."""

    def fingerprint(self) -> dict[str, list[int]]:
        """Return data that change when a file that determines the output changes, by file name."""
        return fingerprint(self.files())

    def read(self, name: str) -> np.ndarray:
        """Return a complete tensor in its own dtype."""
        return self.tensors[name].read()

    def choose(self, selection: Selection = BY_NAME) -> Choice:
        """Return the matrices to pack, and the reasons for unquantized tensors: :func:`.choose`."""
        return choose(self.path, self.tensors, selection)

    def matrices(
        self, modules_to_not_convert: Sequence[str] = MODULES_TO_NOT_CONVERT,
        include: Sequence[str] = (),
    ) -> dict[str, SourceTensor]:
        """Return the matrices to quantize, selected by name, by module (without ``.weight``).

        Raises :class:`CheckpointError` as :func:`.choose` does.
        """
        return self.choose(Selection(include=include, kept=modules_to_not_convert)).matrices
