"""Strict JSON parsing for untrusted files."""

import json
from typing import Any, NoReturn

__all__ = ["parse_json"]

#: Largest nesting of objects and lists. Python's parser accepts more levels than its writer.
_LEVELS = 64


def parse_json(data: bytes, finite: bool = True) -> Any:
    """Return the value of a JSON text in UTF-8.

    Raises :class:`ValueError` with a one-line message for text that is not JSON, and for JSON that
    other readers interpret differently or that cannot be written again: a repeated key in an
    object, NaN and infinities, an unpaired surrogate, and more than 64 levels. NaN and infinities,
    which Python reads and writes, are accepted if ``finite`` is False.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=_pairs,
                           parse_constant=_no_number if finite else None,
                           parse_float=_finite if finite else None)
    except RecursionError:
        value = _too_deep()
    _check(value)
    return value


def _escaped(letter: str) -> str:
    """Return a character escaped in ASCII.

    A surrogate that stands for a byte of a file name that is not UTF-8 becomes ``\\xff``.
    """
    if "\udc80" <= letter <= "\udcff":
        letter = chr(ord(letter) - 0xdc00)
    return letter.encode("unicode_escape").decode()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!a} is twice in it")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if abs(value) == float("inf"):
        raise ValueError(f"{text:.40} is too large")
    return value


def _too_deep() -> NoReturn:
    raise ValueError(f"more than {_LEVELS} levels of objects and lists")


def _check(value: Any) -> None:
    """Raise ValueError for too many levels, and for strings that UTF-8 cannot encode."""
    level = [value]
    for _ in range(_LEVELS + 1):
        texts = [item for item in level if isinstance(item, str)]
        texts += [key for item in level if isinstance(item, dict) for key in item]
        for text in texts:
            text.encode()
        level = [inner for item in level if isinstance(item, dict | list)
                 for inner in (item.values() if isinstance(item, dict) else item)]
        if not level:
            return
    _too_deep()
