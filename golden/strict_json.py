"""Text out of files that nobody vouches for: JSON read strictly, messages that stay one line."""

import json
from typing import Any, NoReturn

__all__ = ["parse_json"]

#: Objects and lists within each other, at most: what Python's own parser takes, its writer may not.
_LEVELS = 64


def parse_json(data: bytes, finite: bool = True) -> Any:
    """The value of a JSON text in UTF-8, as every reader of it would see it.

    Raises :class:`ValueError`, one line, for anything else, and for what readers take differently,
    or cannot write again: a key that is twice in an object, NaN and infinities, half of a surrogate
    pair, and more than 64 levels. NaN and infinities, which Python writes and reads, are taken
    unless all is to be ``finite``.
    """
    strict = {"parse_constant": _no_number, "parse_float": _finite} if finite else {}
    try:
        value = json.loads(data.decode(), object_pairs_hook=_pairs, **strict)
    except RecursionError:
        value = _too_deep()
    _check(value)
    return value


def _escaped(letter: str) -> str:
    """A letter in ASCII; one that stands for a byte of a file name that is not UTF-8, as ``\\xff``.
    """
    if "\udc80" <= letter <= "\udcff":
        letter = chr(ord(letter) - 0xdc00)
    return letter.encode("unicode_escape").decode()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!a} is twice in it")
    return found


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
    """Levels, and texts that UTF-8 can hold."""
    level = [value]
    for _ in range(_LEVELS + 1):
        texts = [one for one in level if isinstance(one, str)]
        texts += [key for one in level if isinstance(one, dict) for key in one]
        for text in texts:
            text.encode()
        level = [inner for one in level if isinstance(one, dict | list)
                 for inner in (one.values() if isinstance(one, dict) else one)]
        if not level:
            return
    _too_deep()
