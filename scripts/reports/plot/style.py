"""Style of all plots, and saving them with the digest of the data they show."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure

from tritstream.scripts.console import write_bytes

__all__ = ["COLOURS", "GREY", "INK", "MARKERS", "PALE", "digest", "drawn_from", "figure", "save",
           "styled"]

#: Okabe and Ito's colours, which readers of any colour vision can distinguish. A marker or a
#: label always repeats what a colour means.
COLOURS = {"blue": "#0072B2", "orange": "#D55E00", "green": "#009E73", "purple": "#AA4499",
           "yellow": "#E69F00", "sky": "#56B4E9", "black": "#000000"}
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
#: Colours of text and of guide lines.
INK, GREY, PALE = "#222222", "#767676", "#DDDDDD"

_STYLE: dict[str, Any] = {
    "figure.facecolor": "white", "savefig.facecolor": "white", "axes.facecolor": "white",
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.labelsize": 9, "legend.fontsize": 8,
    "legend.frameon": False, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GREY, "xtick.color": INK,
    "ytick.color": INK, "grid.color": PALE, "grid.linewidth": 0.6, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.4,
    "savefig.dpi": 150,
    # The same data gives the same file: element names are not random. Text stays text, so that it
    # can be searched and the file is small; matplotlib's own font determines the layout.
    "svg.hashsalt": "tritstream", "svg.fonttype": "none",
}


@contextmanager
def styled() -> Iterator[None]:
    """Context in which figures are drawn and saved with our settings instead of the user's."""
    with matplotlib.style.context(_STYLE, after_reset=True):
        yield


def figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches with constrained layout."""
    return Figure(figsize=(width, height), layout="constrained")


def digest(data: dict) -> str:
    """Return the SHA-256 of plain data, in hexadecimal."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def save(drawn: Figure, path: Path, title: str, data: dict) -> None:
    """Write a figure as SVG or PNG, by its suffix, with the digest of its data inside.

    Raises :class:`tritstream.golden.errors.CheckpointError` if the file cannot be written.
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
    """Return the digest of the data that an SVG shows, or None if the file has no digest."""
    found = re.search(r"sha256:([0-9a-f]{64})", path.read_text())
    return found and found[1]
