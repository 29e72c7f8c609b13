"""Resumable calibration layer by layer: vectors between the layers and statistics, on the disk."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from operator import index
from pathlib import Path
from zlib import crc32

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import Shard
from tritstream.golden.checkpoints.safetensors_writer import ShardWriter, array_writer
from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.journal import understood
from tritstream.golden.moments_job import MomentsJob
from tritstream.golden.quantizers.moments import (
    Moment,
    moment_arrays,
    moment_shapes,
    moments_metadata,
)

__all__ = ["LayerCalibrationJob"]

#: Fields of the journal's records: CRC-32s of vectors, and of statistics, by name.
_VECTORS, _STATISTICS = "vectors", "statistics"


class LayerCalibrationJob(MomentsJob):
    """Calibration of a model of which one layer at a time is in memory: a :class:`.MomentsJob`.

    A calibration is a sequence of steps. Each step reads the vectors of earlier steps from files,
    and writes its own vectors to the file ``STEP.safetensors``. A step may also write statistics,
    each to its place in the calibration file, whose header is written last. After an interruption,
    the same job continues with the first step that is not finished.
    """

    def allocate(self, shapes: Mapping[str, tuple[int, int]], made_of: Mapping) -> None:
        """Create the calibration file for matrices (N, K) by name; statistics are zeros.

        If the file of an earlier run is gone, no step counts as finished.
        """
        arrays = {part: size for name, shape in shapes.items()
                  for part, size in moment_shapes(name, shape).items()}
        self._writer = array_writer(self.moments, arrays, moments_metadata(made_of))
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
        moments: Callable[[], Mapping[str, Moment]],
    ) -> None:
        """Write the vectors of a step, then its statistics, and record that the step is finished.

        Parameters
        ----------
        step : str
            Name of the step.
        vectors : iterable of numpy.ndarray
            Vectors of each window, float32 (T, H). Each array is written before the next one is
            requested.
        shapes : sequence
            Shape of each of these arrays.
        moments : callable
            Returns statistics by name of the matrix. Called after the last vectors were written.
        """
        writer = array_writer(self._path(step), dict(zip(_names(), shapes, strict=False)), {})
        writer.allocate()
        written = _write(writer, zip(_names(), vectors, strict=False))
        writer.finish(written)
        arrays = {part: values for name, moment in moments().items()
                  for part, values in moment_arrays(self.output, name, moment).items()}
        self._record(step, {_VECTORS: written, _STATISTICS: _write(self._writer, arrays.items())})

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
                                      "calibrate again")
            yield values

    def remove(self, step: str) -> None:
        """Remove the vectors of a step, which no further step reads."""
        self._path(step).unlink(missing_ok=True)

    def finish(self) -> None:
        """Complete the calibration file, rename it to ``output`` and remove ``partial``."""
        self._writer.finish({name: checksum for record in self._records.values()
                             for name, checksum in understood(
                                 _checksums, record, self.partial)[_STATISTICS].items()})
        self._complete()

    def _path(self, step: str) -> Path:
        return self.partial / f"{step}.safetensors"


def _names() -> Iterator[str]:
    """Yield the names of the vectors of each window in a file."""
    return map(str, count())


def _write(writer: ShardWriter, arrays: Iterable[tuple[str, np.ndarray]]) -> dict[str, int]:
    """Write arrays, and return their CRC-32s by name."""
    return {name: writer.write(name, [np.ascontiguousarray(values, "<f4")])
            for name, values in arrays}


def _checksums(record: dict) -> dict[str, dict[str, int]]:
    return {kind: {name: index(checksum) for name, checksum in record[kind].items()}
            for kind in (_VECTORS, _STATISTICS)}
