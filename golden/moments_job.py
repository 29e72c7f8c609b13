"""Calibration file under construction, in a directory that survives an interruption."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tritstream.golden.atomic_write import PARTIAL
from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.directory_job import JOURNAL
from tritstream.golden.jobs.journal import Journal
from tritstream.golden.jobs.replacing import check_replaceable
from tritstream.golden.quantizers.moments import fault_of_moments
from tritstream.golden.write_errors import writing

__all__ = ["MomentsJob"]

#: Name of the calibration file until it is complete.
_MOMENTS = "moments.safetensors"
#: Files, by glob, that calibrations write next to the journal.
_OURS = (_MOMENTS, f".{_MOMENTS}.*{PARTIAL}", "sums-[01].safetensors", "inputs-*.safetensors",
         "derivatives-*.safetensors")
#: Name of the journal's record of complete statistics.
_WRITTEN = "written"


class MomentsJob:
    """File of calibration statistics under construction: a context manager that closes it.

    All files are written in the directory ``OUT.partial``, which is removed when OUT is complete.

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
    moments : Path
        Path of the statistics in ``partial``.
    finished : bool
        Whether an earlier run of the same job finished except for removing ``partial``.
    """

    def __init__(self, output: Path, parameters: Mapping[str, object], *, force: bool = False):
        self.output, self.partial = output, output.with_name(f"{output.name}.partial")
        self.moments = self.partial / _MOMENTS
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def _begin(self, parameters: dict, force: bool) -> None:
        if self._journal.lines and not self._journal.is_of(parameters):
            if not force:
                raise CheckpointError(f"{self.partial}: {self._difference(parameters)}; finish "
                                      "that calibration, choose another output, or force")
            self._check_output(force)
            self._discard()
        self._records = self._journal.begin(parameters)
        self.finished = _WRITTEN in self._records and (
            self.moments.exists() or self.output.exists())
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
        ours = {JOURNAL, *(path.name for path in self._files())}
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

    def _complete(self) -> None:
        """Record that the statistics in ``partial`` are complete, and rename them."""
        self._record(_WRITTEN, {})
        self._name()

    def _name(self) -> None:
        """Rename the statistics to ``output``, unless already done; remove the journal last."""
        with writing(self.output):
            if self.moments.exists():
                self.moments.replace(self.output)
            self._discard()
            (self.partial / JOURNAL).unlink()
            self.partial.rmdir()

    def _discard(self) -> None:
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """Return the paths of all files but the journal, incomplete ones included."""
        return [path for pattern in _OURS for path in sorted(self.partial.glob(pattern))]
