"""Values of signals per cycle, read from a VCD file."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

from vcd.reader import TokenKind, VCDParseError, tokenize

__all__ = ["read_traces"]

#: Amaranth calls signals without a name ``$signal``, which the reader accepts only escaped.
_ANONYMOUS = re.compile(rb"^(\$var \w+ \d+ \S+ )(\$)", re.MULTILINE)
_CHANGES = (TokenKind.CHANGE_SCALAR, TokenKind.CHANGE_VECTOR, TokenKind.CHANGE_STRING)


def read_traces(path: Path, clock: str, signals: list[str]) -> dict[str, list[int]]:
    """Return the values before each rising edge of the clock, which are the ones registers take.

    Parameters
    ----------
    path : Path
        VCD file.
    clock : str
        Name of the clock with its scopes, joined by dots.
    signals : list of str
        Names of signals; a field of a structure is one more part of the name.

    Returns
    -------
    dict
        Unsigned values of each signal, one per cycle.

    Raises
    ------
    ValueError
        A signal is not in the file, a value is neither 0 nor 1, or the file is not a VCD file.
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
    """Identifier codes of the wanted signals that the header declares."""
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
    """All values before each rising edge."""
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
