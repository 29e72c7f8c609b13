"""Calibrations that survive a kill: sums of the windows that were read, kept beside the output."""

import os
import time
from collections.abc import Mapping
from operator import index
from pathlib import Path

import numpy as np

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

#: Files of sums, written in turns, so that one of them is whole at any time.
_SUMS = ("sums-0.safetensors", "sums-1.safetensors")
_MOMENTS = "moments.safetensors"
#: Names in the journal.
_READ, _WRITTEN = "read", "written"
#: Sums are kept as often as takes a tenth of the time at most: those of a 0.5B are 1.4 GB.
_SHARE = 10


class CalibrationJob:
    """One file of moments in the making; a context that lets go of it at its end.

    Sums of the windows that were read are kept under ``OUT.partial``, which holds two files of them
    at most, and is removed when OUT has its name. The same job resumes there after a kill.

    Parameters
    ----------
    output : Path
        The file to be.
    parameters : mapping
        What decides every byte of it: values as JSON by name; a name that differs is told.
    force : bool
        Replace ``output`` if it holds moments, and discard what another job left.

    Raises :class:`CheckpointError` when ``output`` exists, when another job's rest is in the way,
    and whenever something cannot be written.

    Members
    -------
    partial : Path
        The directory.
    finished : bool
        Whether an earlier run of the same job had done all but remove ``partial``.
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
        """Fill arrays with the sums that were kept; returns of how many windows they are.

        If sums are missing or damaged, the arrays are zeros, and the number is 0.
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
        """Keep the sums of the first windows, unless the last ones were kept just now."""
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
        """Write the file of moments, give it its name and remove ``partial``."""
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
        """Only what a calibration wrote may be removed."""
        ours = {JOURNAL, *_SUMS, *(path.name for path in self._moments())}
        for name in sorted({path.name for path in self.partial.iterdir()} - ours):
            raise CheckpointError(f"{self.partial}: holds {name}, which no calibration wrote; move "
                                  "it, or choose another output")

    def _difference(self, parameters: dict) -> str:
        """Which parameter another job had, as far as it can be named."""
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
        """Give the moments their name, unless a kill came after that; the journal goes last."""
        moments = self.partial / _MOMENTS
        with writing(self.output):
            if moments.exists():
                os.replace(moments, self.output)
            self._discard()
            (self.partial / JOURNAL).unlink()
            self.partial.rmdir()

    def _discard(self) -> None:
        for path in (*(self.partial / name for name in _SUMS), *self._moments()):
            path.unlink(missing_ok=True)

    def _moments(self) -> list[Path]:
        """The file of moments, and what kills left of it half-written."""
        return [self.partial / _MOMENTS, *self.partial.glob(f"{_MOMENTS}.*partial")]


def _kept(record: dict) -> tuple[int, str, dict[str, int]]:
    """Windows, file and CRC-32s of a record."""
    checksums = {name: index(checksum) for name, checksum in record["checksums"].items()}
    if record["file"] not in _SUMS:
        raise ValueError
    return index(record["windows"]), record["file"], checksums


def _fill(sums: Mapping[str, np.ndarray], shard: Shard, checksums: Mapping[str, int]) -> None:
    """Copy sums into arrays; raises :class:`CheckpointError` unless they are what was written."""
    if shard.tensors.keys() != sums.keys() or checksums.keys() != sums.keys():
        raise CheckpointError(f"{shard.path}: holds other sums")
    for name, values in sums.items():
        tensor = shard.tensors[name]
        if tensor.shape != values.shape or list(check_sum(tensor, checksums[name])):
            raise CheckpointError(f"{shard.path}: {name} is damaged")
        values[...] = tensor.read()
