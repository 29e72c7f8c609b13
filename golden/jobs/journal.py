"""Journals: what a job has done, in JSON lines, so that it goes on after a kill.

The first line has the job's parameters, the others ``[name, record, CRC-32 of both]``.
"""

import fcntl
import json
import os
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from tritstream.golden.errors import CheckpointError
from tritstream.golden.write_errors import writing

__all__ = ["Journal", "understood"]

#: Names of what was done, and what to tell of it.
Records = dict[str, dict]


T = TypeVar("T")


def understood(make: Callable[[dict], T], record: dict, of: Path) -> T:
    """What is made of a record; another version may have written it, with other fields.

    Raises :class:`CheckpointError` when nothing can be made of it; ``of`` is what it is left in.
    """
    try:
        return make(record)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CheckpointError(f"{of}: left by another version; remove it") from None


class Journal:
    """A file that tells what job it is of, and what that has done; a context that lets go of it.

    Only one process has it at a time. A line that a kill cut, or a disk changed, does not count,
    nor do those behind it.

    Parameters
    ----------
    path : Path
        The file, made when there is none.
    of : Path, optional
        What messages call it, if not by its path.

    Raises :class:`CheckpointError` when another process has it, and whenever it cannot be written.

    Members
    -------
    lines : list
        What was in it when it was opened: the job's parameters, then ``(name, record)``.
    """

    def __init__(self, path: Path, of: Path | None = None):
        self.path = path
        with writing(path):
            # Without a buffer, to close is safe.
            self._file = path.open("a+b", buffering=0)
        if not self._lock():
            self._file.close()
            raise CheckpointError(f"{of or path}: another process is writing it; wait for it")
        self.lines, self._whole = self._read()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @property
    def is_foreign(self) -> bool:
        """Whether the file holds something that was never a journal."""
        self._file.seek(0)
        return not self.lines and self._file.read(1) not in (b"", b"{")

    def is_of(self, parameters: dict) -> bool:
        """Whether a job of these parameters, plain values, wrote it."""
        return self.lines[:1] == [json.loads(json.dumps(parameters))]

    def begin(self, parameters: dict) -> Records:
        """Records by name that the same job left; what another job left is dropped."""
        if not self.is_of(parameters):
            self.lines, self._whole = [], 0
        with writing(self.path):
            self._file.truncate(self._whole)
        if not self.lines:
            self._append(parameters)
        return {name: record for name, record in dict(self.lines[1:]).items()
                if record is not None}

    def record(self, name: str, record: dict | None) -> None:
        """Note what was done under a name; None that it is undone."""
        self._append([name, record, _checksum(name, record)])

    def _append(self, line: object) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with writing(self.path):
            while data:
                data = data[self._file.write(data):]
            os.fsync(self._file.fileno())

    def _lock(self) -> bool:
        """Whether the file is for this process alone."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # Another process may have finished, and its file be gone, since it was opened.
        return self.path.exists() and os.path.samestat(
            self.path.stat(), os.fstat(self._file.fileno()))

    def _read(self) -> tuple[list, int]:
        """Whole lines, and how many bytes they are."""
        self._file.seek(0)
        lines, whole = [], 0
        for text in BytesIO(self._file.read()):
            line = _line(text, _parameters if not lines else _record)
            if line is None:
                break
            lines.append(line)
            whole += len(text)
        return lines, whole


def _line(text: bytes, what: Callable[[object], object | None]) -> object | None:
    """What a line says; None when it is not whole."""
    try:
        return what(json.loads(text)) if text.endswith(b"\n") else None
    except (RecursionError, TypeError, ValueError):
        return None


def _parameters(line: object) -> dict | None:
    return line if isinstance(line, dict) else None


def _record(line: object) -> tuple[str, dict | None] | None:
    name, record, checksum = line
    good = isinstance(name, str) and (record is None or isinstance(record, dict))
    return (name, record) if good and checksum == _checksum(name, record) else None


def _checksum(name: str, record: dict | None) -> str:
    return f"{zlib.crc32(json.dumps([name, record], separators=(',', ':')).encode()):08x}"
