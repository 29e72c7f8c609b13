"""Journals: finished steps of a job as JSON lines, so that the job resumes after a kill.

The first line has the job's parameters. Each other line is ``[name, record, CRC-32 of both]``.
"""

import fcntl
import json
import os
import zlib
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from tritstream.golden.errors import CheckpointError
from tritstream.golden.write_errors import writing

__all__ = ["Journal", "read_records", "understood"]

#: Records of finished steps, by name.
Records = dict[str, dict]

T = TypeVar("T")


def understood(make: Callable[[dict], T], record: dict, of: Path) -> T:
    """Return ``make(record)`` for a record that another version may have written.

    Raises :class:`CheckpointError` if ``make`` does not understand the record. ``of`` is the file
    or directory with the record, for the message.
    """
    try:
        return make(record)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CheckpointError(f"{of}: left by another version; remove it") from None


def read_records(path: Path) -> Records:
    """Return the records in a journal by name, as they are now; none if there is no such file."""
    try:
        lines, _ = _parse(path.read_bytes())
    except FileNotFoundError:
        return {}
    return _last(lines[1:])


class Journal:
    """Append-only journal of a job's finished steps. Closes on leaving the context.

    Only one process can open a journal at a time. A truncated or damaged line, and all lines after
    it, are ignored.

    Parameters
    ----------
    path : Path
        Path of the file, which is created if it does not exist.
    of : Path, optional
        Path to name in messages; by default ``path``.

    Raises :class:`CheckpointError` if another process has the journal open, and if it cannot be
    written.

    Members
    -------
    lines : list
        Lines in the file when it was opened: the job's parameters, then ``(name, record)``.
    """

    def __init__(self, path: Path, of: Path | None = None):
        self.path = path
        with writing(path):
            # Without a buffer, closing the file cannot fail.
            self._file = path.open("a+b", buffering=0)
        if not self._lock():
            self._file.close()
            raise CheckpointError(f"{of or path}: another process is writing it; wait for it")
        self.lines, self._size = self._read()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and release its lock."""
        self._file.close()

    @property
    def is_foreign(self) -> bool:
        """Whether the file has content that is not from a journal."""
        self._file.seek(0)
        return not self.lines and self._file.read(1) not in (b"", b"{")

    def is_of(self, parameters: dict) -> bool:
        """Return whether a job with these parameters (JSON values) wrote the journal."""
        return self.lines[:1] == [json.loads(json.dumps(parameters))]

    def begin(self, parameters: dict) -> Records:
        """Return the records of this job's earlier run; discard those of another job."""
        if not self.is_of(parameters):
            self.lines, self._size = [], 0
        with writing(self.path):
            self._file.truncate(self._size)
        if not self.lines:
            self._append(parameters)
        return self.records

    @property
    def records(self) -> Records:
        """Records of finished steps in the file when it was opened."""
        return _last(self.lines[1:])

    def record(self, name: str, record: dict | None) -> None:
        """Append the record of a step; None marks the step as not done."""
        self._append([name, record, _checksum(name, record)])

    def _append(self, line: object) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with writing(self.path):
            while data:
                data = data[self._file.write(data):]
            os.fsync(self._file.fileno())

    def _lock(self) -> bool:
        """Return whether this process got the exclusive lock of the file."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # Another process may have finished and removed the file since it was opened here.
        # One look: the file may be removed between two.
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def _read(self) -> tuple[list, int]:
        """Return the valid lines at the start of the file, and their size in bytes."""
        self._file.seek(0)
        return _parse(self._file.read())


def _parse(data: bytes) -> tuple[list, int]:
    lines: list = []
    size = 0
    for text in BytesIO(data):
        line = _line(text, _parameters if not lines else _record)
        if line is None:
            break
        lines.append(line)
        size += len(text)
    return lines, size


def _last(lines: Iterable[tuple[str, dict | None]]) -> Records:
    """Return the last record of each name, except names whose last record says "not done"."""
    return {name: record for name, record in dict(lines).items() if record is not None}


def _line(text: bytes, parse: Callable[[object], object | None]) -> object | None:
    """Return the content of a line, or None if the line is not valid."""
    try:
        return parse(json.loads(text)) if text.endswith(b"\n") else None
    except (RecursionError, TypeError, ValueError):
        return None


def _parameters(line: object) -> dict | None:
    return line if isinstance(line, dict) else None


def _record(line: object) -> tuple[str, dict | None] | None:
    if not isinstance(line, list) or len(line) != 3:
        return None
    name, record, checksum = line
    is_valid = isinstance(name, str) and (record is None or isinstance(record, dict))
    return (name, record) if is_valid and checksum == _checksum(name, record) else None


def _checksum(name: str, record: dict | None) -> str:
    return f"{zlib.crc32(json.dumps([name, record], separators=(',', ':')).encode()):08x}"
