"""Atomic writing: a file gets its name only when all of its bytes are on the disk."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tritstream.golden.write_errors import writing

__all__ = ["PARTIAL", "atomic_file", "atomic_write", "json_text", "sync", "write_json"]

#: Ending of the name under which a file is written.
PARTIAL = ".partial"


@contextmanager
def atomic_file(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a new, empty file next to ``path``, which replaces ``path`` at the end of the context.

    The name of the new file is ``.NAME.TOKEN.partial``, with a token of its own for each call, so
    several processes and machines can write ``path`` at the same time. An error in the context
    removes the new file and leaves ``path`` as it was. Directories above ``path`` are created.

    Parameters
    ----------
    path : Path
        File to write.
    private : bool
        Create a file that other users can neither read nor write.

    Raises :class:`.CheckpointError` if the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL,
                             0o600 if private else 0o666))
            yield part
            sync(part)
            part.replace(path)
            sync(path.parent)
        finally:
            part.unlink(missing_ok=True)


def atomic_write(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file completely or not at all: :func:`atomic_file`."""
    with atomic_file(path, private=private) as part, part.open("wb") as file:
        file.write(data)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file completely or not at all: :func:`json_text` in ASCII."""
    atomic_write(path, json_text(value).encode())


def json_text(value: object, *, ascii_only: bool = True) -> str:
    """Return the text of a JSON file, indented by two spaces, with a newline at its end."""
    return json.dumps(value, indent=2, ensure_ascii=ascii_only) + "\n"


def sync(path: Path) -> None:
    """Wait until a file or the entries of a directory are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
