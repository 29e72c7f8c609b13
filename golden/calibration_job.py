"""Resumable calibration: sums over the windows read so far are saved next to the output."""

import time
from collections.abc import Mapping
from operator import index
from pathlib import Path

import numpy as np

from tritstream.golden.atomic_write import PARTIAL
from tritstream.golden.checkpoints.safetensors_reader import Shard
from tritstream.golden.checkpoints.safetensors_writer import write_arrays
from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.directory_job import JOURNAL
from tritstream.golden.jobs.journal import Journal, understood
from tritstream.golden.jobs.replacing import check_replaceable
from tritstream.golden.packed.verify import check_sum
from tritstream.golden.quantizers.moments import Moment, fault_of_moments, write_moments
from tritstream.golden.write_errors import writing

__all__ = ["CalibrationJob"]

#: Files of sums, written alternately, so that one of them is complete at any time.
_SUMS = ("sums-0.safetensors", "sums-1.safetensors")
_MOMENTS = "moments.safetensors"
#: Names of the journal's records.
_READ, _WRITTEN = "read", "written"
#: Least ratio of the time between two saves to the time of a save. Sums of a 0.5B model are 1.4 GB.
_SHARE = 10


class CalibrationJob:
    """File of calibration statistics under construction: a context manager that closes it.

    Sums over the windows read so far are saved in the directory ``OUT.partial``, in at most two
    files. The directory is removed when OUT is complete. After an interruption, the same job
    resumes from the sums.

    Parameters
    ----------
    output : Path
        File to create, OUT.
    parameters : mapping
        All inputs that determine the bytes of the output: JSON values by name. Errors about an
        unfinished job report the first parameter that differs.
    force : bool
        Whether to replace ``output`` if it holds calibration statistics, and to discard the
        unfinished job of other parameters.

    Raises :class:`CheckpointError` if ``output`` exists, if ``OUT.partial`` belongs to another job,
    or if writing fails.

    Members
    -------
    partial : Path
        The directory ``OUT.partial``.
    finished : bool
        Whether an earlier run of the same job finished except for removing ``partial``.
    windows : int
        Number of windows whose sums :meth:`restore` found.
    """

    def __init__(self, output: Path, parameters: Mapping[str, object], *, force: bool = False):
        self.output, self.partial = output, output.with_name(f"{output.name}.partial")
        self._saved, self._took, self.windows = time.monotonic(), 0.0, 0
        if not self.partial.exists():
            self._check_output(force)
        with writing(self.partial):
            self.partial.mkdir(parents=True, exist_ok=True)
        self._check_strangers()
        self._journal = Journal(self.partial / JOURNAL, self.partial)
        try:
            self._begin(dict(parameters), force)
        except BaseException:
            self._journal.close()
            raise

    def __enter__(self) -> "CalibrationJob":
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

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
        write_moments(self.partial / _MOMENTS, moments, made_of)
        self._record(_WRITTEN, {})
        self._name()

    def _begin(self, parameters: dict, force: bool) -> None:
        if self._journal.lines and not self._journal.is_of(parameters):
            if not force:
                raise CheckpointError(f"{self.partial}: {self._difference(parameters)}; finish "
                                      "that calibration, choose another output, or force")
            self._check_output(force)
            self._discard()
        self._records = self._journal.begin(parameters)
        self.finished = _WRITTEN in self._records and (
            (self.partial / _MOMENTS).exists() or self.output.exists())
        if self.finished:
            self._name()
        else:
            self._check_output(force)

    def _check_output(self, force: bool) -> None:
        if self.output.is_dir():
            raise CheckpointError(f"{self.output}: is a directory; give the name of a file")
        check_replaceable(self.output, force, fault_of_moments)

    def _check_strangers(self) -> None:
        """Raise if ``partial`` holds other files, because they must not be removed."""
        ours = {JOURNAL, *_SUMS, *(path.name for path in self._moments())}
        for name in sorted({path.name for path in self.partial.iterdir()} - ours):
            raise CheckpointError(f"{self.partial}: holds {name}, which no calibration wrote; move "
                                  "it, or choose another output")

    def _difference(self, parameters: dict) -> str:
        """Return a description of the first parameter that differs from the unfinished job's."""
        theirs = self._journal.lines[0]
        for name, value in parameters.items():
            if theirs.get(name) != value:
                return (f"was left by a calibration with another {name} "
                        f"({theirs.get(name)!s:.80}, not {value!s:.80})")
        return "was left by another job"

    def _record(self, name: str, record: dict) -> None:
        self._journal.record(name, record)
        self._records[name] = record

    def _name(self) -> None:
        """Rename the statistics to ``output``, unless already done; remove the journal last."""
        moments = self.partial / _MOMENTS
        with writing(self.output):
            if moments.exists():
                moments.replace(self.output)
            self._discard()
            (self.partial / JOURNAL).unlink()
            self.partial.rmdir()

    def _discard(self) -> None:
        for path in (*(self.partial / name for name in _SUMS), *self._moments()):
            path.unlink(missing_ok=True)

    def _moments(self) -> list[Path]:
        """Return the paths of the statistics and of incomplete files that interruptions left."""
        return [self.partial / _MOMENTS, *self.partial.glob(f".{_MOMENTS}.*{PARTIAL}")]


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
