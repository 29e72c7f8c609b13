"""The error of the file readers and writers, and messages that stay on one line."""

from typing import Any

from tritstream.golden.strict_json import _escaped

__all__ = ["CheckpointError", "is_printable", "one_line"]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message is one line: where, what, what to do."""

    def __init__(self, message: str):
        # What a file holds may be in it.
        super().__init__(one_line(message))


#: Letters of a message, at most.
_LONGEST = 1000


def is_printable(text: Any) -> bool:
    """Whether it is a text that can be shown as it is: a name that does no harm on a terminal."""
    return isinstance(text, str) and text.isprintable()


def one_line(message: str) -> str:
    """A message without line breaks and control characters, and with an end."""
    if len(message) > _LONGEST:
        message = f"{message[:_LONGEST // 2]} ... {message[-_LONGEST // 2:]}"
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in message)
