"""Scores of a model on a text, stored per chunk, so that an interrupted evaluation resumes."""

import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from tritstream.golden.checkpoints.safetensors_reader import Shard, load_json
from tritstream.golden.errors import CheckpointError
from tritstream.scripts.console import write_bytes

__all__ = ["Scores"]

#: Key of ``__metadata__``: :func:`_checksum`.
_CHECKSUM = "crc32"


class Scores:
    """A directory with one file per chunk, each written completely or not at all.

    Parameters
    ----------
    root : Path
        Directory that holds the directories of all evaluations.
    settings : dict
        Everything that determines a score, as JSON whose order counts. Its digest names the
        directory.
    """

    def __init__(self, root: Path, settings: dict):
        text = json.dumps(settings, indent=2)
        self.path = root / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._settings = text

    def has(self, chunk: int) -> bool:
        """Whether a chunk is scored. Damaged scores are removed, so the chunk is scored again."""
        if not self._file(chunk).is_file():
            return False
        try:
            self._read(chunk)
        except CheckpointError:
            self._file(chunk).unlink()
            return False
        return True

    def write(self, chunk: int, arrays: dict[str, np.ndarray]) -> None:
        """Store the scores of a chunk, each (T,)."""
        if not (self.path / "settings.json").is_file():
            write_bytes(self.path / "settings.json", self._settings.encode())
        # The library writes what lies in memory, and not the view that an array may be of it.
        whole = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
        write_bytes(self._file(chunk), save(whole, {_CHECKSUM: _checksum(whole)}))

    def read(self, count: int) -> dict[str, np.ndarray]:
        """Return the concatenated scores of the first ``count`` chunks, by name."""
        parts = [self._read(chunk) for chunk in range(count)]
        for chunk, part in enumerate(parts):
            if part.keys() != parts[0].keys():
                raise _damaged(self._file(chunk))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def once(self, name: str, compute: Callable[[], dict]) -> dict:
        """Return the result of ``compute``, which is stored under a name and computed only once."""
        path = self.path / f"{name}.json"
        try:
            return load_json(path)
        except (CheckpointError, FileNotFoundError):
            path.unlink(missing_ok=True)
        write_bytes(path, json.dumps(compute()).encode())
        return load_json(path)

    def _file(self, chunk: int) -> Path:
        return self.path / f"{chunk:05}.safetensors"

    def _read(self, chunk: int) -> dict[str, np.ndarray]:
        path = self._file(chunk)
        try:
            shard = Shard(path)
        except CheckpointError:
            raise _damaged(path) from None
        arrays = {name: shard.tensors[name].read() for name in sorted(shard.tensors)}
        if shard.metadata.get(_CHECKSUM) != _checksum(arrays):
            raise _damaged(path)
        return arrays


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    """CRC-32 of names, dtypes, shapes and values."""
    found = 0
    for name in sorted(arrays):
        values = arrays[name]
        head = f"{name} {values.dtype} {values.shape}"
        found = zlib.crc32(values.tobytes(), zlib.crc32(head.encode(), found))
    return f"{found:08x}"


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: damaged; remove it and run the same command again")
