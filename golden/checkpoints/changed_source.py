"""Checkpoints whose tensors are made of the tensors of another checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tritstream.golden.checkpoints.slices import Stack
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.errors import CheckpointError

__all__ = ["ChangedSource", "OneFile", "SlicedSource"]

#: Tensors of one file by name.
Tensors = Mapping[str, SourceTensor]


class ChangedSource(Source):
    """Checkpoint with the files of another checkpoint, and changed tensors.

    Parameters
    ----------
    source : Source
        Checkpoint before the change.
    change : callable
        Function from the tensors of one file to the tensors that replace them, both by name.
    """

    def __init__(self, source: Source, change: Callable[[Tensors], dict[str, SourceTensor]]):
        self._source = source
        self.path, self.sharded, self.config = source.path, source.sharded, source.config
        self.settings, self.inputs = source.settings, source.inputs
        self.on_demand = source.on_demand
        self.shards = {file: _Shard(shard.metadata, change(shard.tensors))
                       for file, shard in source.shards.items()}
        self.tensors = {name: tensor for shard in self.shards.values()
                        for name, tensor in shard.tensors.items()}

    def files(self) -> list[Path]:
        """Return the files of the source: :meth:`.Source.files`."""
        return self._source.files()

    def provide(self, file: str) -> None:
        """Make a file of the source readable: :meth:`.Source.provide`."""
        self._source.provide(file)

    def fingerprint(self) -> dict[str, list[int]]:
        """Return the fingerprint of the source: :meth:`.Source.fingerprint`."""
        return self._source.fingerprint()

    def write_companions(self, directory: Path) -> None:
        """Write the companion files of the source: :meth:`.Source.write_companions`."""
        self._source.write_companions(directory)


class OneFile(ChangedSource):
    """One file of a checkpoint, with its tensors as they are."""

    def __init__(self, source: Source, file: str):
        super().__init__(source, dict)
        self.shards = {file: self.shards[file]}
        self.tensors = self.shards[file].tensors


class SlicedSource(ChangedSource):
    """Checkpoint with the matrices of stacks in place of the tensors that hold them.

    Parameters
    ----------
    source : Source
        Checkpoint as it is stored.
    stacks : mapping
        Matrices by the name of the tensor that holds them: see :func:`.stack_of`.

    Raises :class:`CheckpointError` if a tensor has the name of one of these matrices.
    """

    def __init__(self, source: Source, stacks: Mapping[str, Stack]):
        for name, stack in stacks.items():
            for matrix in stack.matrices.values():
                if matrix.name in source.tensors:
                    raise CheckpointError(f"{source.path}: {matrix.name} has the name of a matrix "
                                          f"of {name}; rename it in the source")
        super().__init__(source, lambda tensors: {
            matrix.name: matrix for name, tensor in tensors.items()
            for matrix in (stacks[name].matrices.values() if name in stacks else [tensor])})


@dataclass(frozen=True)
class _Shard:
    metadata: Mapping[str, str]
    tensors:  Tensors
