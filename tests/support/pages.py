"""The pages of the project, taken apart: links, anchors, code, commands."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt

__all__ = ["PAGES", "ROOT", "Example", "anchors", "code_blocks", "commands", "examples", "links",
           "spans"]

ROOT  = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"),
                *(ROOT / "models").glob("*/*.md")])

_PARSER = MarkdownIt().enable("table")
_PROMPT = "$ "
#: What a shell is shown in; a block of another language is no shell.
_SHELLS = ("", "console", "sh", "text")


def _tokens(page: Path) -> Iterator:
    for token in _PARSER.parse(page.read_text()):
        yield token
        yield from token.children or ()


def links(page: Path) -> list[str]:
    """Targets of links and pictures that are not web addresses."""
    found = (token.attrGet("href") or token.attrGet("src") for token in _tokens(page))
    return [target for target in found if target and "://" not in target]


def anchors(page: Path) -> set[str]:
    """Names of the headings as GitHub makes them."""
    tokens, found = _PARSER.parse(page.read_text()), set()
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(child.content for child in inline.children)
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            # Of two headings of one name the second is name-1.
            found.add(name if name not in found else f"{name}-1")
    return found


def spans(page: Path) -> list[str]:
    """Code within text."""
    return [token.content for token in _tokens(page) if token.type == "code_inline"]


def code_blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block of code."""
    return [(token.info.strip(), token.content) for token in _tokens(page)
            if token.type in ("fence", "code_block")]


def commands(page: Path) -> list[str]:
    """Every command line of ours that a page shows, in blocks and within text."""
    lines = [line.strip().removeprefix(_PROMPT)
             for language, text in code_blocks(page) if language in _SHELLS
             for line in text.replace("\\\n", " ").splitlines()]
    return [line.split("  #")[0] for line in [*lines, *spans(page)]
            if re.match(r"tritstream [^ ]", line)]


@dataclass
class Example:
    """A command that was run, and the lines of its output that a page shows."""

    command: list[str]
    lines: list[str] = field(default_factory=list)


def examples(page: Path) -> list[Example]:
    """Commands of the blocks of a console, in order; lines of dots are left out."""
    found = []
    for line in (line for language, text in code_blocks(page) if language == "console"
                 for line in text.splitlines()):
        if line.startswith(_PROMPT):
            found.append(Example(shlex.split(line.removeprefix(_PROMPT))))
        elif line.strip() and line.strip() != "...":
            found[-1].lines.append(line)
    return found
