"""Plain text of manual pages, which are written in roff."""

import re

__all__ = ["plain"]

_HEADS = {"SH", "SS"}
_WORDS = {"B", "I", "SM", "SB"}
#: Fonts that take turns, without a space between the arguments.
_JOINED = {"BR", "IR", "RB", "RI", "BI", "IB"}
_BREAKS = {"PP", "P", "LP", "TP", "IP", "HP", "TQ", "RS", "RE"}
_FONT = re.compile(r"\\f(\[\w*\]|\(..|.)|\\s[+-]?\d|\\[hv]'[^']*'|\\c|\\[&/,|^%:)]")
_COMMENT = re.compile(r"""^[.']?[ \t]*\\".*\n|[ \t]*\\".*""", re.MULTILINE)
_NAMED = re.compile(r"\\\((..)|\\\[([^\]]*)\]")
_CHARACTERS = {"em": "\u2014", "en": "\u2013", "aq": "'", "dq": '"', "bu": "\u2022", "lq": "\u201c",
               "rq": "\u201d", "co": "\u00a9", "ha": "^", "ti": "~", "rs": "\\", "oq": "\u2018",
               "cq": "\u2019", "Fo": "\u00ab", "Fc": "\u00bb", "la": "<", "ra": ">", "->": "->"}


def plain(page: str) -> str:
    """Return the text of a manual page: headings, paragraphs and examples, without fonts.

    Tables and all requests but headings, fonts and breaks are left out.
    """
    lines: list[str] = []
    table = False
    for line in _COMMENT.sub("", page).splitlines():
        if line.startswith((".TS", ".TE")):
            table = line.startswith(".TS")
        elif not table:
            lines += _line(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _line(line: str) -> list[str]:
    if not line.startswith((".", "'")):
        return [_characters(line)]
    name, _, rest = line[1:].strip().partition(" ")
    words = [quoted or word for quoted, word in re.findall(r'"([^"]*)"|(\S+)', rest)]
    if name in _BREAKS:
        return [""]
    if name in _HEADS:
        return ["", _characters(" ".join(words))]
    if name in _WORDS | _JOINED:
        return [_characters(("" if name in _JOINED else " ").join(words))]
    return []


def _characters(text: str) -> str:
    text = _FONT.sub("", text.replace("\\-", "-").replace("\\ ", " ").replace("\\~", " "))
    text = _NAMED.sub(lambda found: _CHARACTERS.get(found[1] or found[2], ""), text)
    return text.replace("\\e", "\\").replace("\\(", "")
