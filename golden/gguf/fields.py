"""Metadata fields of one architecture, read one by one; what nobody read cannot be mapped."""

from typing import Any

from tritstream.golden.errors import CheckpointError
from tritstream.golden.gguf.reader import Gguf

__all__ = ["ORIGINAL", "Fields"]

#: Advice for a file that cannot be mapped: to convert it again would give the same file.
ORIGINAL = "use the original checkpoint in safetensors"


class Fields:
    """Fields of a GGUF file whose keys begin with its architecture; raises CheckpointError.

    Members
    -------
    architecture : str
        What the keys begin with.
    """

    def __init__(self, gguf: Gguf, architecture: str):
        self.architecture, self._path = architecture, gguf.path
        start = f"{architecture}."
        self._values = {key.removeprefix(start): value for key, value in gguf.metadata.items()
                        if key.startswith(start)}
        self._read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """A value of any type."""
        self._read.add(key)
        return self._values.get(key, default)

    def integer(self, key: str, default: int | None = None) -> int:
        """A positive integer, which must be there unless it has a default."""
        value = self.get(key, default)
        if type(value) is not int or value < 1:
            raise self.wrong(key, value, "a positive integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive finite number, which must be there unless it has a default."""
        value = self.get(key, default)
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise self.wrong(key, value, "a positive number")
        return value

    def neutral(self, key: str, *values: Any) -> None:
        """Insist that a field is absent or has one of the values that change nothing."""
        value = self.get(key)
        if value is not None and value not in values:
            raise self.unmapped(key, value)

    def finish(self) -> None:
        """Insist that all fields were read."""
        for key in sorted(self._values.keys() - self._read):
            raise self.unmapped(key, self._values[key])

    def wrong(self, key: str, value: Any, due: str) -> CheckpointError:
        """The error of a field that is not what it must be."""
        found = "missing" if value is None else f"{value!r:.40}"
        return CheckpointError(f"{self._path}: {self.architecture}.{key} must be {due}, not "
                               f"{found}; " + ORIGINAL)

    def unmapped(self, key: str, value: Any) -> CheckpointError:
        """The error of a field that a checkpoint of Hugging Face has no place for."""
        return CheckpointError(f"{self._path}: {self.architecture}.{key} = {value!r:.40} has no "
                               "counterpart in Hugging Face's configuration; " + ORIGINAL)
