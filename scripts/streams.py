"""Standard output and standard error that withstand any character and any reader."""

import codecs
import io
import os
import sys
from typing import Any, TextIO

__all__ = ["GONE", "harden", "storable"]

#: Exit code when the reader of the output is gone (128 + SIGPIPE, as in shells).
GONE = 141

_SPELL = "tritstream.spell"

#: Characters of our own texts that an encoding may lack.
_ASCII = {"±": "+-", "Δ": "delta ", "µ": "u", "×": "x", "–": "-", "—": "-", "…": "...",
          "‘": "'", "’": "'", "“": '"', "”": '"'}


def harden() -> None:
    """Replace both streams of this process by streams that withstand any text and any reader.

    A character that the terminal cannot encode is spelled in ASCII. When the reader of a stream
    is gone (``| head``), the process ends with exit code :data:`GONE` and without a message.
    """
    sys.stdout, sys.stderr = _hardened(sys.stdout, 1), _hardened(sys.stderr, 2)


def storable(value: Any) -> Any:
    """Return plain values whose texts UTF-8 can encode; other bytes of names become ``\\xff``."""
    if isinstance(value, str):
        return value.encode("utf-8", _SPELL).decode()
    if isinstance(value, dict):
        return {storable(key): storable(inner) for key, inner in value.items()}
    return [storable(inner) for inner in value] if isinstance(value, list | tuple) else value


def _hardened(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:                              # the shell closed it: >&-
        return _text(os.open(os.devnull, os.O_WRONLY), "utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    if os.name != "posix":
        stream.reconfigure(errors=_SPELL)
        return stream
    stream.flush()
    return _text(descriptor, stream.encoding, stream.line_buffering or descriptor == 2)


def _text(descriptor: int, encoding: str, line_buffering: bool = False) -> TextIO:
    return io.TextIOWrapper(io.BufferedWriter(_Descriptor(descriptor)), encoding=encoding,
                            errors=_SPELL, line_buffering=line_buffering)


class _Descriptor(io.FileIO):
    """File descriptor for output. Its first error silences it, so later flushes do not fail."""

    def __init__(self, descriptor: int):
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: Any) -> int:
        try:
            # A descriptor that would block is not one of ours: None means that nothing was written.
            return super().write(data) or 0
        except BrokenPipeError:
            self._silence()
            raise SystemExit(GONE) from None
        except OSError as error:
            self._silence()
            raise OSError(error.errno, f"{error.strerror}; the output is not complete",
                          "standard output" if self.fileno() == 1 else "standard error") from None

    def _silence(self) -> None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())
        os.close(nothing)


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Error handler of an encoder: ASCII in place of characters that it cannot write."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start:error.end]
    return "".join(map(_spelled, text)), error.end


def _spelled(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":              # a byte that was not UTF-8
        return f"\\x{ord(letter) - 0xdc00:02x}"
    return _ASCII.get(letter) or letter.encode("ascii", "backslashreplace").decode()


codecs.register_error(_SPELL, _spell)
