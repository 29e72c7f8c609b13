"""Information efficiency of every matrix of Qwen2.5, by lanes: the cost of layout and frames."""

from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tritstream.golden.fixed_point import information_bits, stored_bits
from tritstream.scripts.reports.plot.reading import read
from tritstream.scripts.reports.plot.style import COLOURS, GREY, MARKERS, figure

__all__ = ["TITLE", "collect", "draw"]

TITLE = "Information efficiency of the matrices of Qwen2.5 by lanes"

_REPORT = Path("docs/figures/layout.json")
_REMEDY = "tritstream dev bench layout -o docs/figures/layout.json"
_COLOURS = ("black", "blue", "green", "orange", "purple", "yellow", "sky")
_ACROSS = 2
#: Efficiencies with a tick at the axis, which is logarithmic in the loss.
_TICKS = (0.99, 0.98, 0.95, 0.9, 0.8, 0.6, 0.4)
#: Share of the height of a row over which its lanes are spread.
_SPREAD = 0.76


def collect(root: Path) -> dict:
    """Return efficiencies by model, matrix and lanes; matrices of one shape share a row."""
    return read(root / _REPORT, _taken, _REMEDY)


def _taken(report: dict) -> dict:
    models = []
    for name, rows in _grouped(report["matrices"], "model"):
        wholes = [row for row in report["models"] if row["model"] == name]
        models.append({"name": name, "rows": [*_matrices(rows), _row("whole model", wholes)]})
    if not models:
        raise KeyError("matrices")
    return {"depth": report["depth"], "models": models,
            "lanes": sorted({row["lanes"] for row in report["matrices"]})}


def _matrices(rows: list[dict]) -> list[dict]:
    """Row per shape, with the names of all matrices that have it."""
    found: dict[str, tuple[list[str], list]] = {}
    for name, same in _grouped(rows, "matrix"):
        label = name.removesuffix("_proj")
        shape = "×".join(map(str, same[0]["shape"]))
        names, _ = found.setdefault(shape, ([], _row("", same)["points"]))
        names.append(label)
    return [{"name": f"{', '.join(names)}  {shape}", "points": points}
            for shape, (names, points) in found.items()]


def _row(name: str, rows: list[dict]) -> dict:
    """Lanes, efficiency, and efficiency without folding if the report contains it."""
    return {"name": name, "points": [
        [row["lanes"], row["efficiency"], row.get("unfolded_efficiency", row["efficiency"])]
        for row in rows]}


def _grouped(rows: list[dict], key: str) -> list[tuple[str, list[dict]]]:
    return [(name, list(same)) for name, same in groupby(rows, key=lambda row: row[key])]


def draw(data: dict) -> Figure:
    """Draw a panel per model, and the legend in the place after the last panel."""
    models = data["models"]
    down   = -(-(len(models) + 1) // _ACROSS)
    drawn  = figure(9.2, 0.4 + 1.95 * down)
    panels = drawn.subplots(down, _ACROSS, squeeze=False).ravel()
    limit  = information_bits(data["depth"]) / stored_bits(data["depth"])
    worst  = max(1 - point[2] for model in models for row in model["rows"]
                 for point in row["points"])
    for axes, model in zip(panels, models, strict=False):
        _panel(axes, model, data["lanes"])
        axes.axvline(1 - limit, color=GREY, linewidth=1, linestyle=":")
        axes.set(xscale="log", xlim=(1.15 * worst, 0.85 * (1 - limit)))
        axes.minorticks_off()
        axes.set_xticks(*_ticks(worst))
    for axes in panels[len(models):]:
        axes.set_axis_off()
    drawn.supxlabel(f"bits of information over bits moved, d = {data['depth']} "
                    "(scale: logarithm of what is lost)", fontsize=9)
    _legend(panels[len(models)], data["lanes"], limit)
    return drawn


def _ticks(worst: float) -> tuple[list[float], list[str]]:
    """Positions and labels of the ticks within the axis."""
    shown = [tick for tick in _TICKS if 1 - tick <= 1.15 * worst]
    return [1 - tick for tick in shown], [f"{tick:g}" for tick in shown]


def _panel(axes: Axes, model: dict, lanes: list[int]) -> None:
    rows = model["rows"]
    axes.set_title(f"Qwen2.5-{model['name']}")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.axhline(len(rows) - 1.5, color=GREY, linewidth=0.6)
    for place, row in enumerate(rows):
        for count, value, before in row["points"]:
            turn = lanes.index(count)
            height = place + _SPREAD * ((turn + 0.5) / len(lanes) - 0.5)
            axes.plot((1 - before, 1 - value), (height, height), linewidth=1,
                      color=_look(turn)[0])
            axes.plot(1 - before, height, markersize=3.2, markerfacecolor="white", **_marker(turn))
            axes.plot(1 - value, height, markersize=4, **_marker(turn))


def _look(turn: int) -> tuple[str, str]:
    return COLOURS[_COLOURS[turn % len(_COLOURS)]], MARKERS[turn % len(MARKERS)]


def _marker(turn: int) -> dict:
    colour, marker = _look(turn)
    return {"color": colour, "marker": marker, "linestyle": "none"}


def _legend(axes: Axes, lanes: list[int], limit: float) -> None:
    handles = [axes.plot([], [], label=f"L = {count}", markersize=5, **_marker(turn))[0]
               for turn, count in enumerate(lanes)]
    handles += [
        axes.plot([], [], color=GREY, marker="o", markerfacecolor="white", markersize=4,
                  label="hollow: before idle lanes took digits")[0],
        axes.plot([], [], color=GREY, linestyle=":", linewidth=1,
                  label=f"five trits per byte: {limit:.3f}")[0]]
    axes.legend(handles=handles, loc="center left", fontsize=9)
