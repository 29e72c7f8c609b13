"""KL divergence of tritstream's and llama.cpp's quantizers over their stored bits."""

from pathlib import Path

from matplotlib.figure import Figure

from tritstream.scripts.reports.arena.table import mean_kl
from tritstream.scripts.reports.plot.reading import read
from tritstream.scripts.reports.plot.style import COLOURS, GREY, figure

__all__ = ["TITLE", "collect", "draw", "series"]

TITLE = "KL divergence by stored bits per weight: tritstream and llama.cpp"

_REPORT = Path("docs/figures/arena.json")
_REMEDY = "git restore docs/figures/arena.json"
#: Colour, marker, face and line by series. llama.cpp's are open, because they belong together.
_SERIES = {
    "tritllm-v2":                               ("black", "o", None, "-"),
    "search":                                   ("orange", "s", None, "-"),
    "search, groups of 32":                     ("orange", "P", None, ":"),
    "search, calibrated":                       ("blue", "D", None, "-"),
    "search, calibrated by its own text":       ("sky", "D", None, ""),
    "search, reconstructed":                    ("blue", "*", None, ""),
    "llama.cpp, joined rows":                   ("green", "^", "none", ""),
    "llama.cpp, joined rows, imatrix":          ("green", "^", None, ""),
    "llama.cpp as it is, imatrix":              ("purple", "v", None, ""),
}
#: Ends of the names of series by the start of the name of a row that is quantized with a file.
_CALIBRATED = {"self": "calibrated by its own text", "reconstructed": "reconstructed"}
_TICKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)


def collect(root: Path) -> dict:
    """Return the rows of the report, each with its values to draw."""
    return read(root / _REPORT, _taken, _REMEDY)


def series(row: dict) -> str | None:
    """Return the series of a row; None if it is not drawn."""
    options = row["options"]
    if row["program"] == "llama.cpp":
        joined = "joined rows" in options
        name = ", ".join(["llama.cpp, joined rows" if joined else "llama.cpp as it is",
                          *["imatrix"] * ("imatrix" in options)])
    elif "--calibration" in options:
        name = f"search, {_CALIBRATED.get(row['name'].split('-')[0], 'calibrated')}"
    elif "--method" in options:
        name = "tritllm-v2"
    else:
        name = "search, groups of 32" if "--group" in options else "search"
    return name if name in _SERIES else None


def _taken(report: dict) -> dict:
    rows = [{"series": series(row), "bits": row["stored_bits"], "kl": mean_kl(row),
             "label": row["options"].split(",")[0] if row["program"] == "llama.cpp" else ""}
            for row in report["rows"] if series(row)]
    return {"texts": [name.removeprefix("evaluation-") for name in report["texts"]],
            "tokens": report["base"]["scored_tokens"], "rows": rows}


def draw(data: dict) -> Figure:
    """Draw the mean divergence over the texts by stored bits."""
    drawn = figure(8.6, 5.4)
    axes = drawn.subplots()
    for name, (colour, marker, face, line) in _SERIES.items():
        rows = sorted((row for row in data["rows"] if row["series"] == name),
                      key=lambda row: row["bits"])
        if not rows:
            continue
        values, errors = zip(*(row["kl"] for row in rows), strict=True)
        axes.errorbar([row["bits"] for row in rows], values, errors, label=name,
                      color=COLOURS[colour], marker=marker, linestyle=line or "none",
                      markerfacecolor=face or COLOURS[colour], linewidth=1, elinewidth=1.2,
                      capsize=3)
        for row in rows:
            axes.annotate(row["label"], (row["bits"], row["kl"][0]), (5, 5), fontsize=7,
                          color=GREY, textcoords="offset points")
    axes.set(yscale="log", xlabel="stored bits per weight, padding, scales and tables included",
             ylabel="KL divergence from the base, nats per token",
             title=f"SmolLM2-135M, dithered; mean over {', '.join(data['texts'])}, "
                   f"{data['tokens']} tokens each")
    axes.minorticks_off()
    axes.set_yticks(_TICKS, map(str, _TICKS))
    axes.grid()
    axes.legend(title="quantizer (bars: one standard error)", title_fontsize=8)
    return drawn
