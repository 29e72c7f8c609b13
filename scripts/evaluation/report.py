"""Report of an evaluation: plain values that a file keeps, and printed tables."""

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


def keep(path: Path, head: dict, base: dict | None, rows: list[dict]) -> dict:
    """Write a report and return it. It keeps the rows of an earlier report on the same chunks."""
    report = {**head, "base": base, "models": rows}
    old = load_json(path) if path.is_file() else {}
    if _chunks(old) == _chunks(report):
        found = {_identity(row): row for row in [*old["models"], *rows]}
        report["models"] = list(found.values())
    write_json(path, report)
    return report


def _chunks(report: dict) -> dict:
    """Values that all rows of one table must share."""
    common = {name: value for name, value in report.items() if name not in ("base", "models")}
    return common | {"base": (report.get("base") or {}).get("sha256")}


def _identity(row: dict) -> tuple:
    return row["path"], _backend(row)


def show(report: dict) -> None:
    """Print the tables of a report."""
    corpus, base, rows = report["corpus"], report["base"], report["models"]
    print(f"{corpus['name']}: {corpus['bytes']} bytes, {corpus['tokens']} tokens, "
          f"SHA-256 {corpus['sha256']}")
    print(f"{report['chunks']} chunks of {report['context']} tokens"
          f"{', each begun by BOS' if report['bos'] else ''}; {report['scored_tokens']} tokens "
          f"scored, which spell {report['scored_bytes']} bytes")
    table("", ["model", "d", "stored b/w", "info b/w", "squared error", "PPL", "bits/byte",
               "seconds"], [_model(row) for row in ([base] if base else []) + rows])
    if base:
        print(f"\nbase: {base['path']}")
        table("", ["model", "ln(PPL/base)", "KLD", "mean Δp, %", "RMS Δp, %", "same top p, %"],
              [_comparison(row) for row in rows])
        _show_percentiles("KLD", rows, "kl_percentiles", _KLD, 1, 6)
        _show_percentiles("Δp, %", rows, "delta_p_percentiles", _DELTA, 100, 3)
    print(f"\n{DEFINITIONS}.")


def _model(row: dict) -> list[str]:
    return [
        _label(row), ",".join(map(str, row["depths"])), f"{row['stored_bits']:.2f}",
        _number(row["information_bits"], ".2f"), _number(row.get("squared_error"), ".2e"),
        _estimate(row["perplexity"], 2), _estimate(row["bits_per_byte"], 4),
        f"{row['seconds']:.1f}"]


def _comparison(row: dict) -> list[str]:
    return [
        _label(row), _estimate(row["log_ratio"], 4), _estimate(row["kl"], 5),
        _estimate(row["delta_p"], 3, 100), _estimate(row["delta_p_rms"], 3, 100),
        _estimate(row["same_top"], 2, 100)]


def _show_percentiles(title: str, rows: list[dict], name: str, percents: tuple[str, ...],
                      scale: float, digits: int) -> None:
    print()
    table(title, ["model", *(_NAMES.get(percent, f"{percent}%") for percent in percents)],
          [[_label(row), *(f"{scale * row[name][percent]:.{digits}f}" for percent in percents)]
           for row in rows])


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
