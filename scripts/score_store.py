"""Scores of a model on a text, kept chunk by chunk, so that a killed evaluation goes on."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from golden.shards import CheckpointError, load_json
from scripts.console import write_bytes

__all__ = ["Scores"]


class Scores:
    """A directory of one file a chunk, each written whole or not at all.

    Parameters
    ----------
    root : Path
        Where the directories of all evaluations are.
    settings : dict
        What decides every score, as JSON whose order counts; its digest names the directory.
    """

    def __init__(self, root: Path, settings: dict):
        text = json.dumps(settings, indent=2)
        self.path = root / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._settings = text

    def has(self, chunk: int) -> bool:
        """Whether a chunk was scored."""
        return self._file(chunk).is_file()

    def write(self, chunk: int, arrays: dict[str, np.ndarray]) -> None:
        """Keep the scores of a chunk, each (T,)."""
        if not (self.path / "settings.json").is_file():
            write_bytes(self.path / "settings.json", self._settings.encode())
        # The library writes what lies in memory, and not the view that an array may be of it.
        whole = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
        write_bytes(self._file(chunk), save(whole))

    def read(self, count: int) -> dict[str, np.ndarray]:
        """Scores of the first ``count`` chunks, end to end, by name."""
        parts = [self._read(chunk) for chunk in range(count)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def once(self, name: str, compute: Callable[[], dict]) -> dict:
        """What ``compute`` gives, computed only the first time it is asked for under a name."""
        path = self.path / f"{name}.json"
        if not path.is_file():
            write_bytes(path, json.dumps(compute()).encode())
        return load_json(path)

    def _file(self, chunk: int) -> Path:
        return self.path / f"{chunk:05}.safetensors"

    def _read(self, chunk: int) -> dict[str, np.ndarray]:
        path = self._file(chunk)
        try:
            return load(path.read_bytes())
        except SafetensorError:
            raise CheckpointError(f"{path}: damaged; remove it and run the same command "
                                  "again") from None
