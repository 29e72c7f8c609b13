"""Error messages for files that cannot be written."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tritstream.golden.errors import CheckpointError

__all__ = ["writing"]

_ADVICE = {
    errno.ENOSPC: "free some space", errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EACCES: "allow it", errno.EPERM: "allow it", errno.EROFS: "mount it for writing",
    errno.ENOTDIR: "make it a directory", errno.EEXIST: "move what is there",
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert an OSError of the block, which writes ``path``, to a one-line CheckpointError."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "check the disk")
        raise CheckpointError(f"{path.parent}: cannot write {path.name}: {error.strerror}; "
                              f"{advice} and run the same command again") from error
