"""Directories for reproducible files: one rule for caches, tools and temporary files."""

import atexit
import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from platformdirs import user_cache_dir

from tritstream.golden.errors import CheckpointError
from tritstream.golden.write_errors import writing

__all__ = ["VARIABLE", "cache_dir", "scratch", "tool_caches", "tool_environment"]

#: Environment variable that moves the cache.
VARIABLE = "TRITSTREAM_CACHE"

#: Mode bits that let other users write.
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cache_dir() -> Path:
    """Return the existing cache directory of this user.

    It is the first of these directories that is writable, belongs to this user and is not writable
    by others: ``TRITSTREAM_CACHE``, the user's cache directory according to ``XDG_CACHE_HOME`` and
    ``HOME``, a directory of this user in the system's temporary directory, and a new directory
    there. If a candidate is skipped, a line on standard error says so, once.

    Raises :class:`tritstream.golden.errors.CheckpointError` when no directory can be written.
    """
    return _chosen(os.environ.get(VARIABLE, ""), user_cache_dir("tritstream", appauthor=False),
                   os.geteuid())


@contextmanager
def scratch() -> Iterator[Path]:
    """Provide a temporary directory for tools, removed when the context ends.

    Raises :class:`tritstream.golden.errors.CheckpointError` if the disk fills up in the block.
    """
    with tempfile.TemporaryDirectory(prefix="tritstream-", dir=_temporary()) as name:
        try:
            yield Path(name)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            with writing(Path(error.filename or Path(name) / "files")):
                raise


def tool_caches() -> Path:
    """Return the directory for the tools' own caches."""
    return cache_dir() / "tools"


def tool_environment() -> dict[str, str]:
    """Return the environment for a tool of the chain, such that its caches follow the same rule.

    YoWASP's cache, which takes minutes to fill, keeps its usual path if the rule chose the user's
    cache directory. ``YOWASP_CACHE_DIR`` overrides this.
    """
    directory, tools = cache_dir(), tool_caches()
    usual = directory == Path(user_cache_dir("tritstream", appauthor=False))
    yowasp = directory.parent / "YoWASP" if usual else tools / "YoWASP"
    environment = {"YOWASP_CACHE_DIR": str(yowasp), **os.environ, "XDG_CACHE_HOME": str(tools)}
    return environment | ({"TMPDIR": str(folder)} if (folder := _temporary()) else {})


@cache
def _chosen(wanted: str, usual: str, user: int) -> Path:
    faults: list[str] = []
    for path in ([Path(wanted).absolute()] if wanted else []) + [Path(usual)]:
        fault = _fault(path, user, tighten=str(path) == usual)
        if fault is None:
            return _reported(path, faults)
        faults.append(f"{path} {fault}")
    try:
        return _reported(_fallback(user), faults)
    except OSError:
        raise CheckpointError(f"no place for the cache: {' and '.join(faults)}, and there is no "
                              f"temporary directory; set {VARIABLE} to a directory of your "
                              "own") from None


def _reported(path: Path, faults: list[str]) -> Path:
    if faults:
        print(f"note: the cache is {path}, because {' and '.join(faults)}; set {VARIABLE} to a "
              "directory of your own to choose another", file=sys.stderr)
    return path


def _fallback(user: int) -> Path:
    path = Path(tempfile.gettempdir()) / f"tritstream-{user}"
    if not path.is_symlink() and _fault(path, user) is None:
        return path
    path = Path(tempfile.mkdtemp(prefix="tritstream-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def _fault(path: Path, user: int, tighten: bool = False) -> str | None:
    """Return why a directory cannot be the cache, or None; create it if it does not exist."""
    if not path.is_absolute():
        return "is not an absolute path"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if status.st_uid != user:
            return "belongs to another user"
        if tighten and status.st_mode & _OTHERS:
            path.chmod(0o700)
            status = path.stat()
        if status.st_mode & _OTHERS:
            return "can be written by other users"
        with tempfile.TemporaryFile(dir=path):
            return None
    except OSError as error:
        return f"cannot be written ({error.strerror})"


def _temporary() -> Path | None:
    """Return a directory for temporary files if the system has none, or None if it has one."""
    try:
        usual = tempfile.gettempdir()
    except FileNotFoundError:
        return cache_dir()
    # The last resort of the standard library is the current directory.
    return cache_dir() if usual == str(Path.cwd()) else None
