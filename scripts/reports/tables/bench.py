"""Tables of docs/benchmarks.md, from the reports of `tritstream dev bench`."""

import json
from pathlib import Path

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
    value = f"{figure['value']:.3g}"
    return (f"**{value}**" if figure["best"] else value,
            "" if figure["gain"] is None else f"{figure['gain']:+.1f}")


#: Functions that make columns and rows, by the last part of the path in the page.
TABLES = {"layout.json": _models, "layout.json#matrices": _matrices, "codec.json": _codec,
          "simulation.json": _simulation, "backends.json": _backends,
          "host-path.json": _host_path, "groups.json": _groups}
