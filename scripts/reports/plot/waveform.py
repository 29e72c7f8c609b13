"""Waveforms: levels, buses with their values, and marked cycles."""

from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from tritstream.scripts.reports.plot.panels import collect
from tritstream.scripts.reports.plot.style import COLOURS, GREY, INK, PALE, figure

__all__ = ["TITLE", "collect", "draw"]

TITLE = "The device's signals, simulated: a group's end, an input stall, an output stall"

_WIDTH = 9.6
#: Height in inches of a row, and of the title and ticks of a panel.
_ROW, _HEAD = 0.2, 0.62
#: Height of a level in rows; cycles that a change of a bus takes.
_LEVEL, _SLOPE = 0.62, 0.12


def draw(data: dict) -> Figure:
    """Draw the panels below each other, each with its own time axis."""
    heights = [_HEAD + _ROW * len(panel["rows"]) for panel in data["panels"]]
    drawn = figure(_WIDTH, sum(heights))
    for axes, panel in zip(drawn.subplots(len(heights), height_ratios=heights), data["panels"],
                           strict=True):
        _panel(axes, panel)
    drawn.axes[0].set_title(data["note"], loc="right", fontsize=8, fontweight="normal", color=GREY)
    return drawn


def _panel(axes: Axes, panel: dict) -> None:
    rows, first = panel["rows"], panel["first"]
    stop = first + len(rows[0]["values"])
    axes.set(xlim=(first, stop), ylim=(len(rows) - 0.1, -0.95))
    axes.set_xticks(range(first + first % 2, stop, 2))
    axes.set_yticks([row + 0.5 for row in range(len(rows))], [row["name"] for row in rows])
    axes.set_title(panel["title"])
    axes.set_xlabel("cycle since the product began", fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.vlines(range(first, stop + 1), 0, len(rows), color=PALE, linewidth=0.5, zorder=0)
    for mark in panel["marks"]:
        _mark(axes, mark, len(rows))
    if panel["edge"]:
        _edge(axes, panel["edge"], len(rows))
    for place, row in enumerate(rows):
        draw = _levels if row["kind"] == "bit" else _bus
        draw(axes, place + 0.5, first, row["values"])


def _mark(axes: Axes, mark: dict, rows: int) -> None:
    """Shade marked cycles, with their text."""
    axes.axvspan(mark["start"], mark["stop"], 0, rows / (rows + 0.85), color=COLOURS["yellow"],
                 alpha=0.22, linewidth=0, zorder=0)
    middle = (mark["start"] + mark["stop"]) / 2
    axes.text(middle, -0.35, mark["text"], ha="center", va="center", fontsize=7.5,
              color=COLOURS["orange"])


def _edge(axes: Axes, cycle: int, rows: int) -> None:
    """Draw the boundary between two groups."""
    axes.plot((cycle, cycle), (-0.6, rows), color=COLOURS["blue"], linewidth=1.2, linestyle="--",
              zorder=0.5)
    axes.text(cycle + 0.15, -0.35, "the next group follows without a gap", va="center",
              fontsize=7.5, color=COLOURS["blue"])


def _levels(axes: Axes, middle: float, first: int, values: list[int]) -> None:
    """Draw a line that is high or low in each cycle."""
    heights = [middle + _LEVEL * (0.5 - value) for value in values]
    axes.stairs(heights, range(first, first + len(values) + 1), baseline=None, color=INK,
                linewidth=1.1)


def _bus(axes: Axes, middle: float, first: int, values: list[str | None]) -> None:
    """Draw a box per value, and a line in the middle where there is no value."""
    start = first
    for value, same in groupby(values):
        stop = start + len(list(same))
        if value is None:
            axes.plot((start, stop), (middle, middle), color=GREY, linewidth=0.8)
        else:
            axes.add_patch(Polygon(_box(start, stop, middle), facecolor="white", edgecolor=INK,
                                   linewidth=0.8))
            axes.text((start + stop) / 2, middle, value, ha="center", va="center_baseline",
                      fontsize=6.7)
        start = stop


def _box(start: float, stop: float, middle: float) -> list[tuple[float, float]]:
    half = _LEVEL / 2
    return [(start, middle), (start + _SLOPE, middle - half), (stop - _SLOPE, middle - half),
            (stop, middle), (stop - _SLOPE, middle + half), (start + _SLOPE, middle + half)]
