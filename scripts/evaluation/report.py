"""Report of an evaluation: plain values that a file keeps, and printed tables."""

from collections.abc import Callable
from pathlib import Path

from tritstream.golden.checkpoints.safetensors_reader import load_json
from tritstream.scripts.console import table, write_json

__all__ = ["DEFINITIONS", "keep", "show"]

DEFINITIONS = (
    "PPL, KLD, Δp and same top p as llama.cpp's perplexity tool defines them: disjoint "
    "chunks, each read on its own, tokens after the middle scored; ± is one standard error, "
    "paired for ln(PPL/base)")

_KLD   = ("100", "99.9", "99", "95", "90", "50", "10", "5", "1", "0")
_DELTA = ("99.9", "99", "95", "90", "50", "10", "5", "1", "0.1")
_NAMES = {"100": "max", "50": "median", "0": "min"}


def keep(path: Path, reports: list[dict]) -> dict:
    """Write the reports of one or several texts as one report, and return it.

    A report keeps the rows of an earlier report on the same chunks of the same text.
    """
    old = load_json(path) if path.is_file() else {}
    for report in reports:
        for earlier in texts_of(old):
            if _chunks(earlier) == _chunks(report):
                found = {_identity(row): row for row in [*earlier["models"], *report["models"]]}
                report["models"] = list(found.values())
    common = {name: reports[0][name] for name in ("definitions", "context", "versions")}
    whole = reports[0] if len(reports) == 1 else {**common, "texts": reports}
    write_json(path, whole)
    return whole


def texts_of(report: dict) -> list[dict]:
    """Return the report of each text in a report of one or several texts."""
    return report.get("texts", [report])


def _chunks(report: dict) -> dict:
    """Values that all rows of one table must share."""
    common = {name: value for name, value in report.items() if name not in ("base", "models")}
    return common | {"base": (report.get("base") or {}).get("sha256")}


def _identity(row: dict) -> tuple:
    return row["path"], _backend(row)


def show(report: dict) -> None:
    """Print the tables of a report, with a row per text and model."""
    reports = texts_of(report)
    for one in reports:
        _show_text(one)
    table("", [*_head(reports), "d", "stored b/w", "info b/w", "squared error", "PPL", "bits/byte",
               "seconds"],
          [[*_labels(reports, one, row), *_model(row)] for one in reports
           for row in ([one["base"]] if one["base"] else []) + one["models"]], len(_head(reports)))
    if base := reports[0]["base"]:
        print(f"\nbase: {base['path']}")
        _show_rows("", reports, ["ln(PPL/base)", "KLD", "mean Δp, %", "RMS Δp, %", "same top p, %"],
                   _comparison)
        _show_percentiles("KLD", reports, "kl_percentiles", _KLD, 1, 6)
        _show_percentiles("Δp, %", reports, "delta_p_percentiles", _DELTA, 100, 3)
    print(f"\n{DEFINITIONS}.")


def _show_text(report: dict) -> None:
    corpus = report["corpus"]
    print(f"{corpus['name']}: {corpus['bytes']} bytes, {corpus['tokens']} tokens, "
          f"SHA-256 {corpus['sha256']}")
    print(f"{report['chunks']} chunks of {report['context']} tokens"
          f"{', each begun by BOS' if report['bos'] else ''}; {report['scored_tokens']} tokens "
          f"scored, which spell {report['scored_bytes']} bytes")


def _head(reports: list[dict]) -> list[str]:
    """Return the titles of the columns that name a row."""
    return ["text", "model"] if len(reports) > 1 else ["model"]


def _labels(reports: list[dict], report: dict, row: dict) -> list[str]:
    """Return the name of a row: the model, after the text if there are several."""
    return [report["corpus"]["name"], _label(row)][-len(_head(reports)):]


def _show_rows(title: str, reports: list[dict], columns: list[str],
               cells: Callable[[dict], list[str]]) -> None:
    """Print a table of all models on all texts, without the base."""
    table(title, [*_head(reports), *columns],
          [[*_labels(reports, one, row), *cells(row)] for one in reports for row in one["models"]],
          len(_head(reports)))


def _model(row: dict) -> list[str]:
    return [
        ",".join(map(str, row["depths"])), f"{row['stored_bits']:.2f}",
        _number(row["information_bits"], ".2f"), _number(row.get("squared_error"), ".2e"),
        _estimate(row["perplexity"], 2), _estimate(row["bits_per_byte"], 4),
        f"{row['seconds']:.1f}"]


def _comparison(row: dict) -> list[str]:
    return [
        _estimate(row["log_ratio"], 4), _estimate(row["kl"], 5),
        _estimate(row["delta_p"], 3, 100), _estimate(row["delta_p_rms"], 3, 100),
        _estimate(row["same_top"], 2, 100)]


def _show_percentiles(title: str, reports: list[dict], name: str, percents: tuple[str, ...],
                      scale: float, digits: int) -> None:
    print()
    _show_rows(title, reports, [_NAMES.get(percent, f"{percent}%") for percent in percents],
               lambda row: [f"{scale * row[name][percent]:.{digits}f}" for percent in percents])


def _label(row: dict) -> str:
    return f"{row['path']} {_backend(row)}".strip()


def _backend(row: dict) -> str:
    """Name of the backend with its bits of activations by module; empty for the reference."""
    if row["backend"] == "reference":
        return ""
    bits = [f"{name} int{bits}".removeprefix("* ") for name, bits in row["activation_bits"].items()]
    return f"{row['backend']} {', '.join(bits)}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _estimate(estimate: dict, digits: int, scale: float = 1) -> str:
    return f"{scale * estimate['value']:.{digits}f} ± {scale * estimate['error']:.{digits}f}"
