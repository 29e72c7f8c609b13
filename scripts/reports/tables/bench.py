"""Tables of docs/benchmarks.md and docs/axi.md, from the reports of `tritstream dev bench`."""

import json
from pathlib import Path

from tritstream.scripts.hardware.soc import COLUMNS
from tritstream.scripts.hardware.soc import row as projection_row
from tritstream.scripts.reports.bench.axi_report import AXI_COLUMNS, axi_rows

__all__ = ["TABLES"]


def _models(path: Path) -> tuple[list[str], list[list[str]]]:
    return _layout(path, "models", ["model", "weights"],
                   lambda row: [f"Qwen2.5-{row['model']}", f"{row['weights'] / 1e9:.2f} G"])


def _matrices(path: Path) -> tuple[list[str], list[list[str]]]:
    return _layout(path.with_name("layout.json"), "matrices", ["model", "matrix", "shape"],
                   lambda row: [row["model"], row["matrix"],
                                f"{row['shape'][0]} x {row['shape'][1]}"])


def _layout(path, kind, heads, label):
    """Row per model or matrix: efficiency with and without folding, words per cycle."""
    rows   = json.loads(path.read_text())[kind]
    lanes  = list(dict.fromkeys(row["lanes"] for row in rows))
    places = [rows[at:at + len(lanes)] for at in range(0, len(rows), len(lanes))]
    columns = [*heads, *(f"L = {count}" for count in lanes),
               *(f"words/cycle, L = {count}" for count in lanes)]
    return columns, [[*label(some[0]), *map(_efficiency, some),
                      *(f"{row['words_per_cycle']:.4f}" for row in some)] for some in places]


def _efficiency(row):
    now, before = (f"{row[name]:.3f}" for name in ("efficiency", "unfolded_efficiency"))
    return now if now == before else f"{now} ({before})"


def _codec(path: Path) -> tuple[list[str], list[list[str]]]:
    steps = json.loads(path.read_text())["steps"]
    return ["step", "M weights/s", "M weights/CPU s"], [
        [row["step"], f"{row['million_weights_per_second']:.0f}",
         f"{row['million_weights_per_cpu_second']:.0f}"] for row in steps]


def _simulation(path: Path) -> tuple[list[str], list[list[str]]]:
    devices = json.loads(path.read_text())["devices"]
    return ["L", "words per token", "cycles per token", "CPU s per token", "M cycles/s", "MB/s"], [
        [str(row["lanes"]), f"{row['token_words']:,}", f"{row['token_cycles']:,}",
         f"{row['token_cpu_seconds']:.1f}", f"{row['million_cycles_per_second']:.2f}",
         f"{row['megabytes_per_second']:.1f}"] for row in devices]


def _backends(path: Path) -> tuple[list[str], list[list[str]]]:
    rows = json.loads(path.read_text())["backends"]
    return ["backend", "tokens/CPU s", "prompt tokens/CPU s", "memory, MB"], [
        [row["backend"], f"{row['tokens_per_cpu_second']:.2f}",
         f"{row['prompt_tokens_per_cpu_second']:.0f}", f"{row['resident_bytes'] / 1e6:.0f}"]
        for row in rows]


def _host_path(path: Path) -> tuple[list[str], list[list[str]]]:
    rows = json.loads(path.read_text())["paths"]
    return ["L", "weights", "requests", "round trips per layer", "CPU s per token"], [
        [str(row["lanes"]), "on the board" if row["stored"] else "sent", str(row["requests"]),
         f"{row['round_trips_per_layer']:.1f}", f"{row['cpu_seconds']:.3f}"] for row in rows]


def _ternary(path: Path) -> tuple[list[str], list[list[str]]]:
    """Row per model and form: bytes, cycles and efficiency of a token, by lanes."""
    rows   = json.loads(path.read_text())["models"]
    lanes  = list(dict.fromkeys(row["lanes"] for row in rows))
    places = [rows[at:at + len(lanes)] for at in range(0, len(rows), len(lanes))]
    heads  = [f"{what}, L = {count}" for what in (
        "MB", "bits per weight", "M cycles", "efficiency") for count in lanes]
    return ["model", "weights", "form", *heads], [
        [some[0]["model"], f"{some[0]['weights'] / 1e9:.2f} G", some[0]["form"],
         *(f"{row['stream_bytes'] / 1e6:.0f}" for row in some),
         *(f"{row['stream_bits']:.3f}" for row in some),
         *(f"{row['cycles'] / 1e6:.1f}" for row in some), *map(_efficiency, some)]
        for some in places]


def _boards(path: Path) -> tuple[list[str], list[list[str]]]:
    return COLUMNS, [projection_row(one) for one in json.loads(path.read_text())]


def _token(path: Path) -> tuple[list[str], list[list[str]]]:
    """Row per module of a token, and the sum."""
    report = json.loads(path.read_text())
    rows = [(one["module"], " ".join(f"{n} x {k}" for n, k in one["shapes"]), one)
            for one in report["modules"]]
    return ["matrix", "shape", "matrices", "weights", "words", "cycles", "words/cycle",
            "rows", "rows that differ", "device s"], [
        [name, shape, str(one["matrices"]), f"{one['weights'] / 1e9:.3f} G", f"{one['words']:,}",
         f"{one['cycles']:,}", f"{one['words_per_cycle']:.4f}", f"{one['compared']:,}",
         str(one["mismatches"]), f"{one['seconds']['device']:.1f}"]
        for name, shape, one in [*rows, ("all", "", report["totals"])]]


def _axi_rate(path: Path) -> tuple[list[str], list[list[str]]]:
    """Row per case of the reports in a directory."""
    rows = [row for report in path.glob("*.json")
            for row in axi_rows(json.loads(report.read_text()))]
    return AXI_COLUMNS, sorted(rows, key=lambda row: (
        row[1], float(row[0].removesuffix("B")), int(row[3]), int(row[2])))


def _tokens(path: Path) -> tuple[list[str], list[list[str]]]:
    """Row per report of a complete token, smallest first."""
    reports = [json.loads(file.read_text()) for file in path.parent.glob("token-*.json")]
    tokens = sorted((one for one in reports if one["projected"]),
                    key=lambda one: one["totals"]["weights"])
    return ["model", "d", "L", "matrices", "weights", "words", "cycles", "MB sent",
            "MB received", "rows", "rows that differ", "CPU s", "MB per process"], [
        [one["model"], str(one["form"]["depth"]), str(one["lanes"]), str(total["matrices"]),
         f"{total['weights'] / 1e9:.2f} G", f"{total['words']:,}", f"{total['cycles']:,}",
         f"{one['sent_bytes'] / 1e6:.1f}", f"{one['received_bytes'] / 1e6:.1f}",
         f"{total['compared']:,}", str(total["mismatches"]), f"{one['cpu_seconds']:.0f}",
         f"{one['peak_process_bytes'] / 1e6:.0f}"]
        for one in tokens for total in [one["totals"]]]


def _groups(path: Path) -> tuple[list[str], list[list[str]]]:
    """Row per depth and grouping, in the order of bits; figures that no mixture beats are bold."""
    sources = json.loads(path.read_text())["sources"]
    figures = [(source, name) for source, rows in sources.items() for name in rows[0]["figures"]]
    places = [list(rows) for rows in zip(*sources.values(), strict=True)]
    places.sort(key=lambda rows: rows[0]["stored_bits"])
    return ["d", "scales", "G", "bits", *(head for source, name in figures
                                          for head in (f"{source}: {name}", "dB"))], [
        [str(rows[0]["depth"]), rows[0]["scales"], str(rows[0]["group"]),
         f"{rows[0]['stored_bits']:.2f}",
         *(cell for row in rows for figure in row["figures"].values() for cell in _gain(figure))]
        for rows in places]


def _gain(figure):
    value = f"{figure['value']:.2e}"
    return (f"**{value}**" if figure["best"] else value,
            "" if figure["gain"] is None else f"{figure['gain']:+.1f}")


def _quantizers(path: Path) -> tuple[list[str], list[list[str]]]:
    return ["method", "CPU s", "M weights/CPU s"], [
        [row["method"], f"{row['cpu']:.2f}", f"{row['million_weights_per_cpu_second']:.1f}"]
        for row in json.loads(path.read_text())["methods"]]


#: Functions that make columns and rows, by the last part of the path in the page.
TABLES = {"layout.json": _models, "layout.json#matrices": _matrices, "codec.json": _codec,
          "simulation.json": _simulation, "backends.json": _backends,
          "host-path.json": _host_path, "ternary.json": _ternary,
          "ternary-boards.json": _boards, "token-bonsai-8b.json": _token,
          "tokens": _tokens, "axi-rate": _axi_rate,
          "groups.json": _groups, "quantize-methods.json": _quantizers}
