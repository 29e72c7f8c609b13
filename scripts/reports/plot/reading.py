"""Read the reports behind pictures, with one-line errors."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tritstream.golden.strict_json import parse_json

__all__ = ["read"]

_Taken = TypeVar("_Taken")


def read(path: Path, take: Callable[[dict], _Taken], remedy: str) -> _Taken:
    """Return the result of ``take`` for a JSON report.

    Parameters
    ----------
    path : Path
    take : callable
        Function that takes the data to draw from the report.
    remedy : str
        Command that makes the report.

    Raises :class:`ValueError` if the report is missing, is not JSON, or lacks the data to draw.
    """
    try:
        report = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path}: not there; `{remedy}` makes it") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}; `{remedy}` makes it") from None
    try:
        return take(report)
    except KeyError as error:
        raise ValueError(f"{path}: lacks {error}; `{remedy}` makes it") from None
    except (TypeError, AttributeError, IndexError, ArithmeticError) as error:
        raise ValueError(f"{path}: not such a report: {error}; `{remedy}` makes it") from None
