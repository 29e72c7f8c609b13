"""Metadata fields of one architecture. Fields left unread are reported as unsupported."""

from typing import Any

from tritstream.golden.errors import CheckpointError
from tritstream.golden.gguf.reader import Gguf

__all__ = ["ORIGINAL", "Fields"]

#: Advice for a file that cannot be mapped. Converting it again would result in the same file.
ORIGINAL = "use the original checkpoint in safetensors"


class Fields:
    """Fields of a GGUF file whose keys start with the name of its architecture.

    The methods raise :class:`.CheckpointError` for missing, invalid and unsupported fields.

    Members
    -------
    architecture : str
        First part of the keys.
    """

    def __init__(self, gguf: Gguf, architecture: str):
        self.architecture, self._path = architecture, gguf.path
        start = f"{architecture}."
        self._values = {key.removeprefix(start): value for key, value in gguf.metadata.items()
                        if key.startswith(start)}
        self._read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value of any type."""
        self._read.add(key)
        return self._values.get(key, default)

    def integer(self, key: str, default: int | None = None) -> int:
        """Return a positive integer. Without a default, the field is required."""
        value = self.get(key, default)
        if type(value) is not int or value < 1:
            raise self.wrong(key, value, "a positive integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a positive finite number. Without a default, the field is required."""
        value = self.get(key, default)
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise self.wrong(key, value, "a positive number")
        return value

    def neutral(self, key: str, *values: Any) -> None:
        """Raise unless a field is absent or has one of the values that have no effect."""
        value = self.get(key)
        if value is not None and value not in values:
            raise self.unmapped(key, value)

    def finish(self) -> None:
        """Raise unless all fields have been read."""
        for key in sorted(self._values.keys() - self._read):
            raise self.unmapped(key, self._values[key])

    def wrong(self, key: str, value: Any, expected: str) -> CheckpointError:
        """Return the error for a missing or invalid field."""
        actual = "missing" if value is None else f"{value!r:.40}"
        return CheckpointError(f"{self._path}: {self.architecture}.{key} must be {expected}, not "
                               f"{actual}; " + ORIGINAL)

    def unmapped(self, key: str, value: Any) -> CheckpointError:
        """Return the error for a field without a counterpart in Hugging Face's configuration."""
        return CheckpointError(f"{self._path}: {self.architecture}.{key} = {value!r:.40} has no "
                               "counterpart in Hugging Face's configuration; " + ORIGINAL)
