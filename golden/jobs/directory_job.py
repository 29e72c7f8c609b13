"""Directories written in resumable steps: OUT.partial with a journal, renamed to OUT."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from tritstream.golden.atomic_write import json_text, sync
from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.journal import Journal, read_records
from tritstream.golden.jobs.replacing import (
    check_replaceable,
    discard,
    files_of_job,
    own_files,
    write_manifest,
)
from tritstream.golden.write_errors import writing

__all__ = ["CONSUMED", "JOURNAL", "Job", "check_apart", "check_out", "copy_files", "fingerprint",
           "recorded", "write_json"]

#: Name of the journal. It is hidden, so that it is never copied along with the weights.
JOURNAL = ".journal.jsonl"
#: Member of a record that is true if the job deleted a file whose contents the output holds.
CONSUMED = "consumed"


class Job:
    """Output directory under construction, written to ``OUT.partial`` and renamed on success.

    Leaving the context closes the journal. All files are written in ``partial``, and
    :meth:`finish` renames it. When the same job runs again, ``done`` has the records of
    :meth:`record`.

    Parameters
    ----------
    out : Path
        Path of the output directory.
    parameters : dict
        Parameters that determine every byte of the output, as JSON: the identity of the job.
    force : bool
        Replace ``out``, and discard the partial output of another job, if tritstream wrote all
        their files: :func:`tritstream.golden.jobs.replacing.check_replaceable`.

    Raises :class:`CheckpointError` if ``out`` or the partial output of another job exists, if
    ``force`` would replace a file that tritstream did not write, and if a file cannot be written.

    Members
    -------
    partial : Path
        Directory to write in.
    done : dict
        Records of the finished steps, by name.
    """

    def __init__(self, out: Path, parameters: dict, *, force: bool = False):
        self.out = out
        self.partial = _partial(out)
        self._parameters, self._force = parameters, force
        self._take_back(parameters)
        check_out(out, force)
        if out.exists() and self._replaced.exists():
            own_files(self._replaced, [JOURNAL])
        with writing(self.partial):
            self.partial.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(self.partial / JOURNAL, self.partial)
        try:
            self.done = self._resume(parameters)
        except BaseException:
            self._journal.close()
            raise

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def record(self, name: str, record: dict) -> None:
        """Record that the bytes of ``name`` are on the disk."""
        self._journal.record(name, record)
        self.done[name] = record

    def forget(self, names: Iterable[str]) -> None:
        """Record that the bytes of these names are not on the disk."""
        for name in self.done.keys() & set(names):
            self._journal.record(name, None)
            del self.done[name]

    def finish(self) -> None:
        """Rename the partial directory to ``out``, then remove the journal."""
        write_manifest(self.partial, self._parameters)
        for path in self.partial.iterdir():
            if path.name != JOURNAL:
                with writing(path):
                    sync(path)
        with writing(self.partial):
            sync(self.partial)
        with writing(self.out):
            self._rename()

    def _rename(self) -> None:
        replaced = self._replaced
        if self.out.exists():
            # Files that were added while the job ran must not be deleted.
            check_out(self.out, self._force)
            _discard_old(replaced)
            self.out.rename(replaced)
        self.partial.rename(self.out)
        sync(self.out.parent)
        _discard_old(replaced)
        (self.out / JOURNAL).unlink()

    @property
    def _replaced(self) -> Path:
        """Path of the old output while the new one is renamed."""
        return self.out.with_name(f"{self.out.name}.replaced")

    def _take_back(self, parameters: dict) -> None:
        """Rename OUT back to OUT.partial if a kill left this job's journal in it."""
        if self.partial.exists() or not (self.out / JOURNAL).is_file():
            return
        with Journal(self.out / JOURNAL, self.out) as journal:
            if journal.is_of(parameters):
                with writing(self.partial):
                    self.out.rename(self.partial)

    def _resume(self, parameters: dict) -> dict[str, dict]:
        """Return the records of this job's earlier run; start a journal if there is none."""
        strangers = {path.name for path in self.partial.iterdir()} - {JOURNAL}
        if (self._journal.lines or strangers) and not self._journal.is_of(parameters):
            if any(record.get(CONSUMED) for record in self._journal.records.values()):
                raise CheckpointError(f"{self.partial}: left by another job, and holds the only "
                                      "copy of files that it consumed; run its command again with "
                                      "the same options, or remove it yourself")
            if not self._force:
                raise CheckpointError(f"{self.partial}: left by another job; remove it, or force")
            self._clear()
        return self._journal.begin(parameters)

    def _clear(self) -> None:
        """Discard the partial output of another job."""
        left = self._journal.lines[0] if self._journal.lines else {}
        for path in files_of_job(self.partial, left, JOURNAL):
            with writing(path):
                path.unlink(missing_ok=True)


def recorded(out: Path) -> dict[str, dict]:
    """Return the records of an unfinished job that writes ``out``, by name; none if there is none.

    The job may be running, and may have other parameters than a later one.
    """
    partial = _partial(out)
    return read_records((partial if partial.exists() else out) / JOURNAL)


def fingerprint(paths: Iterable[Path]) -> dict[str, list[int]]:
    """Return size and modification time of files, by name, to detect changes."""
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}


def check_out(out: Path, force: bool = False) -> None:
    """Raise :class:`CheckpointError` if a job may not create or replace ``out``."""
    check_replaceable(out, force, temporary=[JOURNAL])


def check_apart(source: Path, out: Path) -> None:
    """Raise :class:`CheckpointError` if ``out`` is the source or contains it."""
    if source.resolve().is_relative_to(out.resolve()):
        raise CheckpointError(f"{out}: must not be the source or hold it; choose another")


def copy_files(paths: Iterable[Path], directory: Path) -> None:
    """Copy files unchanged into a directory."""
    for path in paths:
        target = directory / path.name
        with path.open("rb") as source, writing(target), target.open("wb") as file:
            shutil.copyfileobj(source, file)


def write_json(path: Path, value: dict) -> None:
    """Write a JSON file of a checkpoint. A job makes it atomic, together with its directory."""
    with writing(path):
        path.write_text(json_text(value, ascii_only=False), encoding="utf-8")


def _partial(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


def _discard_old(replaced: Path) -> None:
    if replaced.exists():
        discard(replaced, own_files(replaced, [JOURNAL]))
