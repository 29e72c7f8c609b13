"""Error class of the file readers and writers, and one-line messages."""

from typing import Any

from tritstream.golden.strict_json import _escaped

__all__ = ["CheckpointError", "is_printable", "one_line"]


class CheckpointError(ValueError):
    """Raised for an unusable file or directory, with one line: where, what, what to do."""

    def __init__(self, message: str) -> None:
        # The message may quote text from an untrusted file.
        super().__init__(one_line(message))


#: Largest number of characters in a message.
_LONGEST = 1000


def is_printable(text: Any) -> bool:
    """Return whether a value is a string without control characters, safe to print."""
    return isinstance(text, str) and text.isprintable()


def one_line(message: str) -> str:
    """Return a message with control characters and line breaks escaped, shortened if too long."""
    if len(message) > _LONGEST:
        message = f"{message[:_LONGEST // 2]} ... {message[-_LONGEST // 2:]}"
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in message)
