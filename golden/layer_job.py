"""Resumable work layer by layer: vectors between the layers and results, on the disk."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from operator import index
from pathlib import Path
from zlib import crc32

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import Shard
from tritstream.golden.checkpoints.safetensors_writer import Entry, ShardWriter, array_entries
from tritstream.golden.errors import CheckpointError
from tritstream.golden.file_job import FileJob
from tritstream.golden.jobs.journal import understood
from tritstream.golden.quantizers.reconstruction import fault_of_reconstruction

__all__ = ["LayerJob", "ReconstructionJob"]

#: Fields of the journal's records: CRC-32s of vectors, and of results, by name.
_VECTORS, _RESULTS = "vectors", "results"


class LayerJob(FileJob):
    """Work on a model of which one layer at a time is in memory: a :class:`.FileJob`.

    The work is a sequence of steps. Each step reads the vectors of earlier steps from files, and
    writes its own vectors to the file ``STEP.safetensors``. A step may also have results, each of
    which is written to its place in the output, whose header is written last. After an
    interruption, the same job continues with the first step that is not finished.
    """

    def allocate(self, entries: Iterable[Entry], metadata: Mapping[str, str]) -> None:
        """Create the output with all its arrays, of zeros.

        If the file of an earlier run is gone, no step counts as finished.
        """
        self._writer = ShardWriter(self.result, entries, lambda _: dict(metadata))
        if not self._writer.whole:
            for name in list(self._records):
                self._journal.record(name, None)
            self._records.clear()
        self._writer.allocate()

    def __contains__(self, step: str) -> bool:
        """Whether a step is finished."""
        return step in self._records

    def run(
        self, step: str, vectors: Iterable[np.ndarray], shapes: Sequence[tuple[int, int]],
        results: Callable[[], Mapping[str, np.ndarray]],
    ) -> None:
        """Write the vectors of a step, then its results, and record that the step is finished.

        Parameters
        ----------
        step : str
            Name of the step.
        vectors : iterable of numpy.ndarray
            Vectors of each window, float32 (T, H). Each array is written before the next one is
            requested.
        shapes : sequence
            Shape of each of these arrays.
        results : callable
            Returns arrays of the output by name. Called after the last vectors were written.
        """
        entries = array_entries(dict(zip(_names(), shapes, strict=False)))
        writer = ShardWriter(self._path(step), entries, lambda _: {})
        writer.allocate()
        written = _write(writer, zip(_names(), vectors, strict=False))
        writer.finish(written)
        self._record(step, {_VECTORS: written,
                            _RESULTS: _write(self._writer, results().items())})

    def read(self, step: str) -> Iterator[np.ndarray]:
        """Yield the vectors of each window that a finished step wrote.

        Raises :class:`CheckpointError` if they are not as they were written.
        """
        checksums = understood(_checksums, self._records[step], self.partial)[_VECTORS]
        shard = Shard(self._path(step))
        for name, checksum in checksums.items():
            values = shard.tensors[name].read() if name in shard.tensors else None
            if values is None or crc32(values.data) != checksum:
                raise CheckpointError(f"{shard.path}: is damaged; remove {self.partial}, and "
                                      "start again")
            yield values

    def remove(self, step: str) -> None:
        """Remove the vectors of a step, which no further step reads."""
        self._path(step).unlink(missing_ok=True)

    def finish(self) -> None:
        """Complete the output, rename it and remove ``partial``."""
        self._writer.finish({name: checksum for record in self._records.values()
                             for name, checksum in understood(
                                 _checksums, record, self.partial)[_RESULTS].items()})
        self._complete()

    def _path(self, step: str) -> Path:
        return self.partial / f"{step}.safetensors"


class ReconstructionJob(LayerJob):
    """Reconstruction of matrices, layer by layer."""

    work = "reconstruction"
    fault = staticmethod(fault_of_reconstruction)


def _names() -> Iterator[str]:
    """Yield the names of the vectors of each window in a file."""
    return map(str, count())


def _write(writer: ShardWriter, arrays: Iterable[tuple[str, np.ndarray]]) -> dict[str, int]:
    """Write arrays, and return their CRC-32s by name."""
    return {name: writer.write(name, [np.ascontiguousarray(values)])
            for name, values in arrays}


def _checksums(record: dict) -> dict[str, dict[str, int]]:
    return {kind: {name: index(checksum) for name, checksum in record[kind].items()}
            for kind in (_VECTORS, _RESULTS)}
