"""Cache entries: verified before each use, made again if damaged, written atomically."""

import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tritstream.golden.atomic_write import PARTIAL, atomic_write
from tritstream.golden.cache_place import cache_dir
from tritstream.golden.write_errors import writing

__all__ = ["cached", "find_entry", "keep_entry"]

#: Number of hexadecimal digits of a SHA-256 in the name of an entry.
_DIGITS = 32


def cached(stem: str, suffix: str, make: Callable[[], bytes]) -> Path:
    """Return the path of a valid cache entry. ``make`` returns the bytes of a missing entry.

    The name of an entry ends with the digest of its bytes, and a rename publishes it, so that
    concurrent processes never see an incomplete entry. A second process waits for the first. An
    entry that is damaged, or that another user wrote, is removed.

    Parameters
    ----------
    stem : str
        Start of the file name, which identifies the input of ``make``, for example by a digest.
    suffix : str
        End of the file name, with the dot.
    make : callable
        Function that returns the bytes.

    Raises :class:`.CheckpointError` if the entry cannot be written. No partial file remains.
    """
    folder = cache_dir()
    with writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if entry := find_entry(folder, stem, suffix):
        return entry
    with _locked(folder / f".{stem}.lock"):
        return find_entry(folder, stem, suffix) or _publish(folder, stem, suffix, make())


def find_entry(folder: Path, stem: str, suffix: str, private: bool = True) -> Path | None:
    """Return the valid entry of a directory, or None. Damaged entries are removed.

    A ``private`` entry must belong to this user and not be writable by others. Entries with
    executable code are private.
    """
    for path in sorted(folder.glob(f"{stem}-{'[0-9a-f]' * _DIGITS}{suffix}")):
        if _digest_of(path, private) == path.name.removesuffix(suffix)[-_DIGITS:]:
            return path
        with suppress(OSError):
            path.unlink()
    return None


def keep_entry(part: Path, stem: str, suffix: str) -> Path:
    """Rename a complete file such that :func:`find_entry` finds it, and return its path."""
    path = part.with_name(f"{stem}-{_digest_of(part, private=False)}{suffix}")
    with writing(path):
        return part.replace(path)


def _digest_of(path: Path, private: bool) -> str | None:
    """Return the digest of a file, or None if it does not exist or is not private enough."""
    try:
        handle = os.open(path, os.O_RDONLY | (os.O_NOFOLLOW if private else 0))
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid != os.geteuid()
        if not stat.S_ISREG(status.st_mode) or (private and shared):
            return None
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def _publish(folder: Path, stem: str, suffix: str, data: bytes) -> Path:
    path = folder / f"{stem}-{hashlib.sha256(data).hexdigest()[:_DIGITS]}{suffix}"
    for left in folder.glob(f".{stem}-*{PARTIAL}"):     # by a build that was killed
        left.unlink(missing_ok=True)
    atomic_write(path, data, private=True)
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes and threads. The lock file is removed afterwards."""
    held = False
    while not held:
        with writing(path):
            file = path.open("ab")
        with file:
            if held := _is_held(file, path):
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)


def _is_held(file: IO[bytes], path: Path) -> bool:
    """Wait for the lock. Return False if its file was removed in the meantime."""
    # Some file systems have no locks. Two concurrent builds are harmless.
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        # One call: another build may remove the file at any time.
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
