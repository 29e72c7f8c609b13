"""Directories written in steps that survive a kill: OUT.partial and a journal, then OUT."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.journal import Journal
from tritstream.golden.jobs.replacing import (
    check_replaceable,
    discard,
    files_of_job,
    own_files,
    write_manifest,
)
from tritstream.golden.write_errors import writing

__all__ = ["JOURNAL", "Job", "check_apart", "check_out", "copy_files", "fingerprint", "write_json"]

#: Hidden, so it never counts as a file that goes with the weights.
JOURNAL = ".journal.jsonl"


class Job:
    """One directory in the making; a context that lets go of it at its end.

    All is written under ``partial``; :meth:`finish` gives it its name. What :meth:`record` noted
    is in ``done`` when the same job runs again.

    Parameters
    ----------
    out : Path
        The directory to be.
    parameters : dict
        What decides every byte of it, as JSON: the job's identity.
    force : bool
        Replace ``out``, and discard what another job left, if all of it is ours:
        :func:`tritstream.golden.jobs.replacing.check_replaceable`.

    Raises :class:`CheckpointError` when ``out`` exists or another job's rest is in the way, when
    ``force`` would replace a file that is not ours, and whenever something cannot be written.

    Members
    -------
    partial : Path
        Where to write.
    done : dict
        Records of an earlier run, by name.
    """

    def __init__(self, out: Path, parameters: dict, *, force: bool = False):
        self.out = out
        self.partial = out.with_name(f"{out.name}.partial")
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

    def __exit__(self, *_) -> None:
        self._journal.close()

    def record(self, name: str, record: dict) -> None:
        """Note that the bytes of ``name`` are on the disk."""
        self._journal.record(name, record)
        self.done[name] = record

    def forget(self, names: Iterable[str]) -> None:
        """Note that the bytes of these names are lost."""
        for name in self.done.keys() & set(names):
            self._journal.record(name, None)
            del self.done[name]

    def finish(self) -> None:
        """Give the directory its name; the journal goes last."""
        write_manifest(self.partial, self._parameters)
        for path in self.partial.iterdir():
            if path.name != JOURNAL:
                _sync(path)
        _sync(self.partial)
        with writing(self.out):
            self._rename()

    def _rename(self) -> None:
        replaced = self._replaced
        if self.out.exists():
            # What came into it while the job ran must not go along.
            check_out(self.out, self._force)
            _discard_old(replaced)
            self.out.rename(replaced)
        self.partial.rename(self.out)
        _sync(self.out.parent)
        _discard_old(replaced)
        (self.out / JOURNAL).unlink()

    @property
    def _replaced(self) -> Path:
        """Where the replaced output waits for the new one."""
        return self.out.with_name(f"{self.out.name}.replaced")

    def _take_back(self, parameters: dict) -> None:
        """Make OUT the partial one again when a kill left this job's journal in it."""
        if self.partial.exists() or not (self.out / JOURNAL).is_file():
            return
        with Journal(self.out / JOURNAL, self.out) as journal:
            if journal.is_of(parameters):
                with writing(self.partial):
                    self.out.rename(self.partial)

    def _resume(self, parameters: dict) -> dict[str, dict]:
        """Records of this job's earlier run; starts the journal when there is none."""
        strangers = {path.name for path in self.partial.iterdir()} - {JOURNAL}
        if (self._journal.lines or strangers) and not self._journal.is_of(parameters):
            if not self._force:
                raise CheckpointError(f"{self.partial}: left by another job; remove it, or force")
            self._clear()
        return self._journal.begin(parameters)

    def _clear(self) -> None:
        """Discard what another job left."""
        left = self._journal.lines[0] if self._journal.lines else {}
        for path in files_of_job(self.partial, left, JOURNAL):
            with writing(path):
                path.unlink(missing_ok=True)


def fingerprint(paths: Iterable[Path]) -> dict[str, list[int]]:
    """Size and time of change of files, by name: whether they are still the same."""
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}


def check_out(out: Path, force: bool = False) -> None:
    """Raise :class:`CheckpointError` when a job may not make ``out``, or replace what is there."""
    check_replaceable(out, force, temporary=[JOURNAL])


def check_apart(source: Path, out: Path) -> None:
    """Raises :class:`CheckpointError` when ``out`` would replace what it is made of."""
    if source.resolve().is_relative_to(out.resolve()):
        raise CheckpointError(f"{out}: must not be the source or hold it; choose another")


def copy_files(paths: Iterable[Path], directory: Path) -> None:
    """Copy files as they are into a directory."""
    for path in paths:
        target = directory / path.name
        with path.open("rb") as source, writing(target), target.open("wb") as file:
            shutil.copyfileobj(source, file)


def write_json(path: Path, value: dict) -> None:
    """Write a JSON object for people to read."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with writing(path):
        path.write_text(text, encoding="utf-8")


def _discard_old(replaced: Path) -> None:
    if replaced.exists():
        discard(replaced, own_files(replaced, [JOURNAL]))


def _sync(path: Path) -> None:
    with writing(path):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
