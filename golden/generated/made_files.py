"""Checkpoints whose files of weights are computed when they are needed."""

from pathlib import Path

from tritstream.golden.checkpoints.changed_source import ChangedSource
from tritstream.golden.checkpoints.convert import shard_writer
from tritstream.golden.checkpoints.safetensors_reader import Tensor
from tritstream.golden.checkpoints.sharding import Part
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.row_chunks import run_in_threads
from tritstream.golden.write_errors import writing

__all__ = ["MadeFiles"]


class MadeFiles(ChangedSource):
    """Files of a source that is computed, each written to a directory by :meth:`provide`.

    The user of the files deletes them. A process writes each file once, whether or not an earlier
    process has written it, so the files need not survive a crash of the machine.

    Parameters
    ----------
    source : Source
        Source without files, whose ``settings`` determine all tensors.
    directory : Path
        Directory for the files, which is created.

    Members
    -------
    written : set of str
        Names of the files that this process has written.
    """

    def __init__(self, source: Source, directory: Path):
        super().__init__(source, dict)
        self._computed = self.shards
        self.written: set[str] = set()
        self.path, self.on_demand = directory, True
        self.shards = {file: self._stored(file) for file in self._computed}
        self.tensors = {name: tensor for shard in self.shards.values()
                        for name, tensor in shard.tensors.items()}
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)

    def files(self) -> list[Path]:
        """Return the paths of all files of weights, whether or not they are there."""
        return [self.path / file for file in self.shards]

    def fingerprint(self) -> dict[str, list[int]]:
        """Return nothing, because ``settings`` determine the files."""
        return {}

    def provide(self, file: str) -> None:
        """Write a file, unless this process has written it."""
        if file in self.written:
            return
        shard, path = self._computed[file], self.path / file
        writer = shard_writer(path.with_name(f"{file}.part"), shard)
        writer.allocate()

        def write(tensor: SourceTensor) -> None:
            writer.place(tensor.name).write(tensor.pieces(), durable=False)

        run_in_threads(write, shard.tensors.values())
        writer.finish(dict.fromkeys(shard.tensors, 0), durable=False)
        with writing(path):
            writer.path.replace(path)
        self.written.add(file)

    def _stored(self, file: str) -> Part:
        shard = self._computed[file]
        writer = shard_writer(self.path / file, shard)
        places = {name: writer.place(name) for name in shard.tensors}
        return Part(shard.metadata, {
            name: Tensor(name, tensor.dtype, tensor.shape, places[name].path, places[name].start,
                         places[name].size) for name, tensor in shard.tensors.items()})
