"""Places for files that can be made again: one rule for caches, tools and temporary folders."""

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

#: Bits of a mode that let other users write.
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cache_dir() -> Path:
    """Return the directory of this user for files that can be made again; it exists.

    The first of these that can be written, belongs to this user and cannot be written by others:
    ``TRITSTREAM_CACHE``, the user's cache directory as ``XDG_CACHE_HOME`` and ``HOME`` give it, a
    directory of this user where temporary files are, and a new one there. When one is passed
    over, a line on standard error says so, once.

    Raises :class:`tritstream.golden.errors.CheckpointError` when no directory can be written.
    """
    return _chosen(os.environ.get(VARIABLE, ""), user_cache_dir("tritstream", appauthor=False),
                   os.geteuid())


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder for tools, gone at the end, where temporary files can be written.

    Raises :class:`tritstream.golden.errors.CheckpointError` when the disk is full in the meantime.
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
    """Return the directory for caches that tools make of themselves."""
    return cache_dir() / "tools"


def tool_environment() -> dict[str, str]:
    """Environment for a tool of the chain, whose own caches then follow the rule.

    YoWASP's cache stays where YoWASP has it unless the rule chose another place than the user's
    cache directory, or ``YOWASP_CACHE_DIR`` is set: to fill it takes minutes.
    """
    place, tools = cache_dir(), tool_caches()
    usual = place == Path(user_cache_dir("tritstream", appauthor=False))
    yowasp = place.parent / "YoWASP" if usual else tools / "YoWASP"
    found = {"YOWASP_CACHE_DIR": str(yowasp), **os.environ, "XDG_CACHE_HOME": str(tools)}
    return found | ({"TMPDIR": str(folder)} if (folder := _temporary()) else {})


@cache
def _chosen(wanted: str, usual: str, user: int) -> Path:
    faults = []
    for place in ([Path(wanted).absolute()] if wanted else []) + [Path(usual)]:
        fault = _fault(place, user, tighten=str(place) == usual)
        if fault is None:
            return _told(place, faults)
        faults.append(f"{place} {fault}")
    try:
        return _told(_fallback(user), faults)
    except OSError:
        raise CheckpointError(f"no place for the cache: {' and '.join(faults)}, and there is no "
                              f"temporary directory; set {VARIABLE} to a directory of your "
                              "own") from None


def _told(place: Path, faults: list[str]) -> Path:
    if faults:
        print(f"note: the cache is {place}, because {' and '.join(faults)}; set {VARIABLE} to a "
              "directory of your own to choose another", file=sys.stderr)
    return place


def _fallback(user: int) -> Path:
    place = Path(tempfile.gettempdir()) / f"tritstream-{user}"
    if not place.is_symlink() and _fault(place, user) is None:
        return place
    place = Path(tempfile.mkdtemp(prefix="tritstream-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def _fault(place: Path, user: int, tighten: bool = False) -> str | None:
    """Reason why a directory cannot be the cache; it is made when it does not exist."""
    if not place.is_absolute():
        return "is not an absolute path"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.stat()
        if found.st_uid != user:
            return "belongs to another user"
        if tighten and found.st_mode & _OTHERS:
            place.chmod(0o700)
            found = place.stat()
        if found.st_mode & _OTHERS:
            return "can be written by other users"
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return f"cannot be written ({error.strerror})"


def _temporary() -> Path | None:
    """Folder for temporary files where the system has none; None where it has one."""
    try:
        usual = tempfile.gettempdir()
    except FileNotFoundError:
        return cache_dir()
    # The last resort of the standard library is the current directory.
    return cache_dir() if usual == os.getcwd() else None
