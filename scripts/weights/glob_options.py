"""Parser of options that set a number for some modules: ``GLOB=NUMBER``."""

from collections.abc import Sequence

__all__ = ["numbers_by_glob"]


def numbers_by_glob(option: str, number: str, rules: Sequence[str]) -> dict[str, int]:
    """Return the numbers by glob, in the order of the rules; a repeated glob moves to the end.

    ``option`` and ``number`` are the names of the option and of the number in an error message.

    Raises :class:`ValueError` if a rule is malformed.
    """
    found: dict[str, int] = {}
    for rule in rules:
        glob, _, digits = rule.rpartition("=")
        if not glob or not digits.isdecimal():
            raise ValueError(f"{option} must be GLOB={number}, not {rule!r}")
        found.pop(glob, None)
        found[glob] = int(digits)
    return found
