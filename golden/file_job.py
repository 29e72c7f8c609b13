"""Result file of long work under construction, in a directory that survives an interruption."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from tritstream.golden.atomic_write import PARTIAL
from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.directory_job import JOURNAL
from tritstream.golden.jobs.journal import Journal
from tritstream.golden.jobs.replacing import check_replaceable
from tritstream.golden.quantizers.moments import fault_of_moments
from tritstream.golden.write_errors import writing

__all__ = ["FileJob"]

#: Name of the file until it is complete.
_RESULT = "result.safetensors"
#: Files, by glob, that jobs write next to the journal.
_OURS = (_RESULT, f".{_RESULT}.*{PARTIAL}", "sums-[01].safetensors", "inputs-*.safetensors",
         "derivatives-*.safetensors", "quantized-*.safetensors")
#: Name of the journal's record of a complete file.
_WRITTEN = "written"


class FileJob:
    """File under construction: a context manager that closes it.

    All files are written in the directory ``OUT.partial``, which is removed when OUT is complete.

    Parameters
    ----------
    output : Path
        File to create, OUT.
    parameters : mapping
        All inputs that determine the bytes of the output: JSON values by name. Errors about an
        unfinished job report the first parameter that differs.
    force : bool
        Whether to replace ``output`` if it is the file of such a job, and to discard the
        unfinished job of other parameters.

    Raises :class:`CheckpointError` if ``output`` exists, if ``OUT.partial`` belongs to another job,
    or if writing fails.

    Members
    -------
    partial : Path
        The directory ``OUT.partial``.
    result : Path
        Path of the file in ``partial``.
    work : str
        Name of the work, for messages.
    fault : callable
        Returns why a file is not the result of such work, or None.
    finished : bool
        Whether an earlier run of the same job finished except for removing ``partial``.
    """

    work = "calibration"
    fault: Callable[[Path], str | None] = staticmethod(fault_of_moments)

    def __init__(self, output: Path, parameters: Mapping[str, object], *, force: bool = False):
        self.output, self.partial = output, output.with_name(f"{output.name}.partial")
        self.result = self.partial / _RESULT
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
                                      f"that {self.work}, choose another output, or force")
            self._check_output(force)
            self._discard()
        self._records = self._journal.begin(parameters)
        self.finished = _WRITTEN in self._records and (
            self.result.exists() or self.output.exists())
        if self.finished:
            self._name()
        else:
            self._check_output(force)

    def _check_output(self, force: bool) -> None:
        if self.output.is_dir():
            raise CheckpointError(f"{self.output}: is a directory; give the name of a file")
        check_replaceable(self.output, force, self.fault)

    def _check_strangers(self) -> None:
        """Raise if ``partial`` holds other files, because they must not be removed."""
        ours = {JOURNAL, *(path.name for path in self._files())}
        for name in sorted({path.name for path in self.partial.iterdir()} - ours):
            raise CheckpointError(f"{self.partial}: holds {name}, which no {self.work} wrote; "
                                  "move it, or choose another output")

    def _difference(self, parameters: dict) -> str:
        """Return a description of the first parameter that differs from the unfinished job's."""
        theirs = self._journal.lines[0]
        for name, value in parameters.items():
            if theirs.get(name) != value:
                return (f"was left by a {self.work} with another {name} "
                        f"({theirs.get(name)!s:.80}, not {value!s:.80})")
        return "was left by another job"

    def _record(self, name: str, record: dict) -> None:
        self._journal.record(name, record)
        self._records[name] = record

    def _complete(self) -> None:
        """Record that the file in ``partial`` is complete, and rename it."""
        self._record(_WRITTEN, {})
        self._name()

    def _name(self) -> None:
        """Rename the file to ``output``, unless already done; remove the journal last."""
        with writing(self.output):
            if self.result.exists():
                self.result.replace(self.output)
            self._discard()
            (self.partial / JOURNAL).unlink()
            self.partial.rmdir()

    def _discard(self) -> None:
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """Return the paths of all files but the journal, incomplete ones included."""
        return [path for pattern in _OURS for path in sorted(self.partial.glob(pattern))]
