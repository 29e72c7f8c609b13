"""Resumable calibration: sums over the windows read so far are saved next to the output."""

import time
from collections.abc import Mapping
from operator import index
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import Shard
from tritstream.golden.checkpoints.safetensors_writer import write_arrays
from tritstream.golden.errors import CheckpointError
from tritstream.golden.file_job import FileJob
from tritstream.golden.jobs.journal import understood
from tritstream.golden.packed.verify import check_sum
from tritstream.golden.quantizers.moments import Moment, write_moments

__all__ = ["CalibrationJob"]

#: Files of sums, written alternately, so that one of them is complete at any time.
_SUMS = ("sums-0.safetensors", "sums-1.safetensors")
#: Name of the journal's record of saved sums.
_READ = "read"
#: Least ratio of the time between two saves to the time of a save. Sums of a 0.5B model are 1.4 GB.
_SHARE = 10


class CalibrationJob(FileJob):
    """Calibration of a complete model, window by window: a :class:`.FileJob`.

    Sums over the windows read so far are saved in at most two files. After an interruption, the
    same job resumes from the sums.

    Members
    -------
    windows : int
        Number of windows whose sums :meth:`restore` found.
    """

    def __init__(self, output: Path, parameters: Mapping[str, object], *, force: bool = False):
        self._saved, self._took, self.windows = time.monotonic(), 0.0, 0
        super().__init__(output, parameters, force=force)

    def restore(self, sums: Mapping[str, np.ndarray]) -> int:
        """Fill arrays with the saved sums, and return the number of windows in the sums.

        If the sums are missing or damaged, the arrays are filled with zeros, and the number is 0.
        """
        read = self._records.get(_READ)
        if read is not None:
            windows, file, checksums = understood(_kept, read, self.partial)
            try:
                _fill(sums, Shard(self.partial / file), checksums)
                self.windows = windows
            except (CheckpointError, OSError):
                for values in sums.values():
                    values[...] = 0
        return self.windows

    def offer(self, sums: Mapping[str, np.ndarray], windows: int) -> None:
        """Save the sums of the first ``windows`` windows, unless sums were saved shortly before."""
        start = time.monotonic()
        if start - self._saved < _SHARE * self._took:
            return
        last = self._records.get(_READ, {}).get("file")
        file = _SUMS[last == _SUMS[0]]
        checksums = write_arrays(self.partial / file, sums, {})
        self._record(_READ, {"windows": windows, "file": file, "checksums": checksums})
        self._saved = time.monotonic()
        self._took = self._saved - start

    def finish(self, moments: Mapping[str, Moment], made_of: Mapping) -> None:
        """Write the statistics, rename the file to ``output`` and remove ``partial``."""
        write_moments(self.result, moments, made_of)
        self._complete()


def _kept(record: dict) -> tuple[int, str, dict[str, int]]:
    """Return the number of windows, the file name and the CRC-32s in a journal record."""
    checksums = {name: index(checksum) for name, checksum in record["checksums"].items()}
    if record["file"] not in _SUMS:
        raise ValueError
    return index(record["windows"]), record["file"], checksums


def _fill(sums: Mapping[str, np.ndarray], shard: Shard, checksums: Mapping[str, int]) -> None:
    """Copy sums to arrays; raise :class:`CheckpointError` if they are not as they were written."""
    if shard.tensors.keys() != sums.keys() or checksums.keys() != sums.keys():
        raise CheckpointError(f"{shard.path}: holds other sums")
    for name, values in sums.items():
        tensor = shard.tensors[name]
        if tensor.shape != values.shape or list(check_sum(tensor, checksums[name])):
            raise CheckpointError(f"{shard.path}: {name} is damaged")
        values[...] = tensor.read()
