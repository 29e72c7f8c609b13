"""What all pictures share: fonts, colours, and a file that says which data it was drawn from."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from tritstream.scripts.console import write_bytes

__all__ = ["COLOURS", "GREY", "INK", "MARKERS", "PALE", "digest", "drawn_from", "figure", "save",
           "styled"]

#: Okabe and Ito's colours, told apart by readers of any colour vision; never used without a
#: second sign, such as a marker or a label.
COLOURS = {"blue": "#0072B2", "orange": "#D55E00", "green": "#009E73", "purple": "#AA4499",
           "yellow": "#E69F00", "sky": "#56B4E9", "black": "#000000"}
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
#: Text, and lines that only guide the eye.
INK, GREY, PALE = "#222222", "#767676", "#DDDDDD"

_STYLE = {
    "figure.facecolor": "white", "savefig.facecolor": "white", "axes.facecolor": "white",
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.labelsize": 9, "legend.fontsize": 8,
    "legend.frameon": False, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GREY, "xtick.color": INK,
    "ytick.color": INK, "grid.color": PALE, "grid.linewidth": 0.6, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.4,
    "savefig.dpi": 150,
    # The same picture gives the same file: no random names, no fonts of the machine.
    "svg.hashsalt": "tritstream", "svg.fonttype": "path",
}


@contextmanager
def styled() -> Iterator[None]:
    """Where pictures are made and saved: whatever the user's own settings are, with ours."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, whose parts make room for each other."""
    return Figure(figsize=(width, height), layout="constrained")


def digest(data: dict) -> str:
    """SHA-256 of plain data, hexadecimal."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def save(drawn: Figure, path: Path, title: str, data: dict) -> None:
    """Write a picture as its name's ending says, with the digest of its data inside.

    Raises :class:`tritstream.golden.errors.CheckpointError` where it cannot be written.
    """
    form, mark = path.suffix.removeprefix("."), f"sha256:{digest(data)}"
    metadata = {
        "svg": {"Title": title, "Identifier": mark, "Date": None, "Creator": None},
        "png": {"Title": title, "Description": mark, "Software": None},
    }[form]
    buffer = BytesIO()
    drawn.savefig(buffer, format=form, metadata=metadata)
    write_bytes(path, buffer.getvalue())


def drawn_from(path: Path) -> str | None:
    """Digest of the data that an SVG was drawn from; None if it does not say."""
    found = re.search(r"sha256:([0-9a-f]{64})", path.read_text())
    return found and found[1]
