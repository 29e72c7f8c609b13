"""Options that tell a number for some modules: ``GLOB=NUMBER``."""

from collections.abc import Sequence

__all__ = ["numbers_by_glob"]


def numbers_by_glob(option: str, number: str, rules: Sequence[str]) -> dict[str, int]:
    """Numbers by pattern, the last rule last; ``option`` and ``number`` are its names in a message.

    Raises :class:`ValueError` for a rule that is none.
    """
    found: dict[str, int] = {}
    for rule in rules:
        glob, _, digits = rule.rpartition("=")
        if not glob or not digits.isdecimal():
            raise ValueError(f"{option} must be GLOB={number}, not {rule!r}")
        found.pop(glob, None)
        found[glob] = int(digits)
    return found
