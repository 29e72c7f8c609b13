"""KL divergence and perplexity of each quantization method over its stored bits."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tritstream.scripts.reports.plot.reading import read
from tritstream.scripts.reports.plot.style import COLOURS, GREY, figure

__all__ = ["TITLE", "collect", "draw"]

TITLE = "KL divergence and perplexity by stored bits per weight and method"

_REPORT = Path("docs/figures/divergence.json")
_REMEDY = "git restore docs/figures/divergence.json"
#: Name, colour, marker, face and line by (method, calibration, whether there is a budget). Budgets
#: are rings, because their points may coincide with those of a single depth.
_SERIES = {
    ("tritllm-v2", None, False):    ("tritllm-v2", "black", "o", None, "-"),
    ("tritllm-v2", None, True):     ("tritllm-v2, mixed depths", "black", "o", "none", ""),
    ("search", None, False):        ("search", "orange", "s", None, "-"),
    ("search", "random", False):    ("search, calibrated at random", "green", "^", None, "-"),
    ("search", "novel", False):     ("search, calibrated by a novel", "blue", "D", None, "-"),
    ("search", "novel", True):      ("the same, mixed depths", "blue", "D", "none", ""),
}
_KL, _RATIO = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5), (1, 1.1, 1.2, 1.4, 1.7)


def collect(root: Path) -> dict:
    """Return the models of the report, each with its values to draw."""
    return read(root / _REPORT, _taken, _REMEDY)


def _taken(report: dict) -> dict:
    models = [{"series": _series(model), "bits": model["stored_bits"], "depths": model["depths"],
               "kl": _pair(model["kl"]), "ratio": _pair(model["ratio"])}
              for model in report["models"]]
    base = _pair(report["base"]["perplexity"])
    return {"model": report["model"], "tokens": report["scored_tokens"],
            "corpus": report["corpus"]["name"], "base": base, "models": models}


def _series(model: dict) -> str:
    return _SERIES[model["method"], model["calibration"], bool(model["budget"])][0]


def _pair(figure: dict) -> list[float]:
    return [figure["value"], figure["error"]]


def draw(data: dict) -> Figure:
    """Draw divergence above, and perplexity relative to the base below, over the same bits."""
    drawn = figure(8.6, 7.4)
    upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=(1.5, 1))
    for name, *look in _SERIES.values():
        models = [model for model in data["models"] if model["series"] == name]
        for axes, what in ((upper, "kl"), (lower, "ratio")):
            _plot(axes, models, what, name, look)
    value, error = data["base"]
    upper.set(yscale="log", ylim=(0.001, 1.2), ylabel="KL divergence from the base, nats per token",
              title=f"{data['model']}; {data['tokens']} scored tokens of {data['corpus']}")
    lower.set(yscale="log", xlabel="stored bits per weight, padding and tables included",
              ylabel="perplexity over the base's")
    lower.axhline(1, color=GREY, linewidth=1, linestyle=":")
    lower.annotate(f"base: {value:.2f} ± {error:.2f}", (4.2, 1), (0, 3), ha="center",
                   textcoords="offset points", fontsize=8, color=GREY)
    for axes, ticks in ((upper, _KL), (lower, _RATIO)):
        axes.minorticks_off()
        axes.set_yticks(ticks, map(str, ticks))
        axes.grid()
    upper.legend(title="method (bars: one standard error)", title_fontsize=8)
    _depths(upper, data["models"])
    return drawn


def _plot(axes: Axes, models: list[dict], what: str, name: str, look: list) -> None:
    colour, marker, face, line = look
    values, errors = zip(*(model[what] for model in models), strict=True)
    axes.errorbar([model["bits"] for model in models], values, errors, label=name,
                  color=COLOURS[colour], marker=marker, markersize=10 if face else 6,
                  markerfacecolor=face or COLOURS[colour], linestyle=line or "none",
                  linewidth=1, elinewidth=1.2, capsize=3)


def _depths(axes: Axes, models: list[dict]) -> None:
    """Label the depths above their bits."""
    for model in models:
        if model["series"] == next(iter(_SERIES.values()))[0]:
            axes.annotate(f"d = {model['depths'][0]}", (model["bits"], 1), (0, -4),
                          xycoords=("data", "axes fraction"), textcoords="offset points",
                          ha="center", va="top", fontsize=8, color=GREY)
