"""Reports that pictures are drawn from, read with errors of one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ["read"]

_Taken = TypeVar("_Taken")


def read(path: Path, take: Callable[[dict], _Taken], remedy: str) -> _Taken:
    """What ``take`` finds in a JSON report.

    Parameters
    ----------
    path : Path
    take : callable
        Picks what is drawn; a KeyError, TypeError or IndexError says that it is not there.
    remedy : str
        The command that makes the report.

    Raises :class:`ValueError` where the report is missing, no JSON, or lacks what is drawn.
    """
    try:
        return take(json.loads(path.read_text()))
    except FileNotFoundError:
        raise ValueError(f"{path}: not there; `{remedy}` makes it") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}; `{remedy}` makes it") from None
    except KeyError as error:
        raise ValueError(f"{path}: lacks {error}; `{remedy}` makes it anew") from None
    except (TypeError, IndexError) as error:
        raise ValueError(f"{path}: not such a report: {error}; `{remedy}` makes it anew") from None
