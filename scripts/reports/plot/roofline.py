"""Rooflines of boards with memory, and projected tokens per second."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tritstream.golden.fixed_point import GROUP, ROWS, SCALE_TRITS
from tritstream.host.layout.projection import MODELS, project
from tritstream.host.layout.shapes import WeightForm
from tritstream.scripts.hardware.soc import PROJECTED, link_seconds, projections
from tritstream.scripts.reports.plot.reading import read
from tritstream.scripts.reports.plot.style import COLOURS, GREY, MARKERS, PALE, figure

__all__ = ["TITLE", "collect", "draw"]

TITLE = "Projected speed of boards with memory, by what limits it"

_REPORTS = Path("hw/soc/reports")
_COLOURS = ("sky", "blue", "green", "orange")
_DEPTH   = 3
#: Ranges drawn: trit-MACs per byte, bytes per token, tokens per second.
_INTENSITY, _BYTES, _TOKENS = 9, (15e6, 90e9), (1e-3, 40)
_TICKS = (0.001, 0.01, 0.1, 1, 10)


def collect(root: Path) -> dict:
    """Return boards with peaks and simulated bandwidth, projections, and sizes of models."""
    folder = root / _REPORTS
    boards = [_board(name, folder) for name in PROJECTED]
    lanes  = max(board["lanes"] for board in boards)
    models = {name: project(model.in_form(WeightForm(_DEPTH)), lanes, 0, 1.0).layers
              for name, model in MODELS.items()}
    return {"depth": _DEPTH, "boards": boards, "models": models,
            "projections": [{key: one[key] for key in (
                "board", "model", "depth", "layer_bytes", "tokens")}
                for one in projections(folder)]}


def _board(name: str, folder: Path) -> dict:
    memory, size, link = PROJECTED[name]
    measured = read(folder / "bandwidth" / f"{memory}.json", lambda report: {
        key: report[key] for key in ("lanes", "clock_mhz", "peak_mb_s", "mb_s")},
        "tritstream hw bandwidth --report")
    write, _ = link_seconds(link, measured, folder)
    return {"name": name, "bytes": size, **measured,
            "macs": ROWS * measured["lanes"] * measured["clock_mhz"] * 1e6,
            "link": (link or "UART").replace("ethernet", "Ethernet"), "link_mb_s": 4e-6 / write}


def _intensity(depth: int) -> float:
    """Trit-MACs per byte of the words: five per byte, none for scale codes."""
    return ROWS * GROUP * depth / (GROUP * depth + SCALE_TRITS)


def draw(data: dict) -> Figure:
    """Plot the roofline above, and projected tokens per second over bytes per token below."""
    drawn = figure(9.2, 9)
    upper, lower = drawn.subplots(2, 1, height_ratios=(1, 1.3))
    _roofs(upper, data)
    _tokens(lower, data)
    for axes in (upper, lower):
        axes.grid()
        axes.minorticks_off()
    return drawn


def _roofs(axes: Axes, data: dict) -> None:
    """Draw the roof of each memory. The weights of this format are just left of the ridge."""
    at = _intensity(data["depth"])
    for place, board in enumerate(data["boards"]):
        color = COLOURS[_COLOURS[place]]
        ridge = board["macs"] / (board["peak_mb_s"] * 1e6)
        axes.plot((0, ridge, _INTENSITY), [0, 1e-9 * board["macs"], 1e-9 * board["macs"]],
                  linestyle=_dashes(place), color=color)
        axes.plot(at, 1e-3 * board["mb_s"] * at, marker=MARKERS[place], linestyle="none",
                  markersize=_size(place), color=color, label=f"{board['name']}: "
                  f"{board['mb_s']:.0f} of {board['peak_mb_s']:.0f} MB/s")
    for link, rate in {board["link"]: board["link_mb_s"] for board in data["boards"]}.items():
        axes.plot((0, _INTENSITY), (0, 1e-3 * rate * _INTENSITY), color=GREY, linestyle=":")
        axes.annotate(f"if weights came over {link}: {rate:.1f} MB/s", (7, 7e-3 * rate), (0, 4),
                      textcoords="offset points", fontsize=8, color=GREY, ha="center")
    axes.set(xlim=(0, _INTENSITY), ylim=(0, 3.6), ylabel="G trit-MAC/s",
             xlabel=f"trit-MACs per byte, one vector at a time; {at:.2f} at d = {data['depth']}, "
             "5 where every byte is digits",
             title="Peaks of memory and lanes (dashes), and what reached the lanes in simulation")
    axes.legend(title="simulated, of the peak", title_fontsize=8, loc="center left",
                bbox_to_anchor=(0.62, 0.6))


def _dashes(place: int) -> tuple[int, tuple[int, int]]:
    """Dashes that fill the gaps of the board before, because two boards may share a line."""
    return 4 * (place % 2), (4, 4)


def _size(place: int) -> int:
    """Size of a mark, so that a later mark fits inside an earlier one at the same place."""
    return 10 - 4 * (place % 2)


def _tokens(axes: Axes, data: dict) -> None:
    """Draw projections with the link, below the limit of the memory alone."""
    largest = max(board["bytes"] for board in data["boards"])
    axes.axvspan(largest, _BYTES[1], color=PALE, alpha=0.5, linewidth=0)
    axes.text((largest * _BYTES[1]) ** 0.5, 3, "larger than the memory of any of these boards",
              ha="center", fontsize=8, color=GREY)
    for place, board in enumerate(data["boards"]):
        color = COLOURS[_COLOURS[place]]
        axes.plot(_BYTES, [board["mb_s"] * 1e6 / one for one in _BYTES],
                  linestyle=_dashes(place), linewidth=1, color=color)
        mine = [one for one in data["projections"] if one["board"] == board["name"]]
        axes.plot([one["layer_bytes"] for one in mine], [one["tokens"] for one in mine],
                  marker=MARKERS[place], markersize=_size(place), markerfacecolor="none",
                  linestyle="none",
                  label=f"projected: {board['name']}, link: {board['link']}", color=color)
    for name, size in data["models"].items():
        axes.axvline(size, color=GREY, linewidth=0.7, linestyle=":")
        axes.text(size, 0.8 * _TOKENS[1], name.split("-")[-1], rotation=90, fontsize=8,
                  ha="right", va="top", color=GREY)
    axes.set(xscale="log", yscale="log", xlim=_BYTES, ylim=_TOKENS,
             xlabel="bytes of packed layers per token (lines: SmolLM2-135M and Qwen2.5 at "
                    f"d = {data['depth']})",
             ylabel="tokens per second", title="PROJECTED tokens per second, head on the host; no "
             "board has run this")
    axes.set_xticks((1e8, 1e9, 1e10), ("100 MB", "1 GB", "10 GB"))
    axes.set_yticks(_TICKS, map(str, _TICKS))
    axes.legend(title="dashes: simulated bandwidth / bytes, no link", title_fontsize=8,
                loc="lower left", frameon=True, facecolor="white", edgecolor="none", framealpha=1)
