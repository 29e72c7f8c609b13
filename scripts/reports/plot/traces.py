"""Values of signals cycle by cycle, out of a VCD file."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

from vcd.reader import TokenKind, VCDParseError, tokenize

__all__ = ["read_traces"]

#: Amaranth calls signals without a name ``$signal``, which the reader takes only escaped.
_ANONYMOUS = re.compile(rb"^(\$var \w+ \d+ \S+ )(\$)", re.MULTILINE)
_CHANGES = (TokenKind.CHANGE_SCALAR, TokenKind.CHANGE_VECTOR, TokenKind.CHANGE_STRING)


def read_traces(path: Path, clock: str, signals: list[str]) -> dict[str, list[int]]:
    """Values that stood before each rising edge of the clock, which is what registers take.

    Parameters
    ----------
    path : Path
        The VCD file.
    clock : str
        The clock's name with its scopes, joined by dots.
    signals : list of str
        Names of signals; a field of a structure is a further part of the name.

    Returns
    -------
    dict
        For each signal its values, unsigned, one a cycle.

    Raises
    ------
    ValueError
        A signal is not in the file, is not always 0 or 1, or the file is no VCD.
    """
    try:
        text = _ANONYMOUS.sub(rb"\1\\\2", path.read_bytes())
        return _read(tokenize(io.BytesIO(text)), path, clock, signals)
    except VCDParseError as error:
        raise ValueError(f"{path}: not a VCD file: {error}") from None


def _read(tokens, path, clock, signals):
    codes = _declared(tokens, {clock, *signals})
    for name in (clock, *signals):
        if name not in codes:
            raise ValueError(f"{path}: no signal {name}")
    traces = {name: [] for name in signals}
    for values in _edges(tokens, codes[clock]):
        for name in signals:
            traces[name].append(_number(values.get(codes[name]), path, name))
    return traces


def _declared(tokens, wanted: set[str]) -> dict[str, str]:
    """Identifier codes of the signals wanted that the header declares."""
    scopes, codes = [], {}
    for token in tokens:
        if token.kind is TokenKind.SCOPE:
            scopes.append(token.scope.ident)
        elif token.kind is TokenKind.UPSCOPE:
            scopes.pop()
        elif token.kind is TokenKind.VAR:
            name = ".".join([*scopes, token.var.reference.removeprefix("\\")])
            if name in wanted:
                codes[name] = token.var.id_code
        elif token.kind is TokenKind.ENDDEFINITIONS:
            break
    return codes


def _edges(tokens, clock: str) -> Iterator[dict[str, int | str]]:
    """All values as they stood before each rising edge."""
    values: dict[str, int | str] = {}
    changes: dict[str, int | str] = {}
    for token in tokens:
        if token.kind is TokenKind.CHANGE_TIME:
            if changes.get(clock) == "1" and values.get(clock) == "0":
                yield values
            values.update(changes)
            changes.clear()
        elif token.kind in _CHANGES:
            changes[token.data.id_code] = token.data.value


def _number(value, path, name) -> int:
    if value not in ("0", "1") and not isinstance(value, int):
        raise ValueError(f"{path}: {name} is {value!r}, not a number")
    return int(value)
