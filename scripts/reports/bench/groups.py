"""Command that compares group lengths and kinds of scales at equal stored bits."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import log10
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer

from tritstream.golden.checkpoints.safetensors_reader import load_json
from tritstream.golden.matrix import dequantized_chunks, whole
from tritstream.golden.packed.layout import Layout
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.report import square_sums
from tritstream.golden.quantizers.depth_budget import DEPTHS
from tritstream.golden.quantizers.grouping import GROUPING, Grouping
from tritstream.golden.quantizers.long_groups import search_groups
from tritstream.golden.quantizers.registry import SEARCH, method_of
from tritstream.golden.scales import DIRECT
from tritstream.scripts.console import Failure, progress, reports_errors, table
from tritstream.scripts.evaluation.report import texts_of
from tritstream.scripts.options import Json, JsonFile
from tritstream.scripts.reports.bench.measuring import circumstances, report_to, run_measured
from tritstream.scripts.shipped import shipped_model

__all__ = ["compare", "groups"]

#: Tokens per chunk of a text, as the shipped model was trained.
_CONTEXT = 128
_PACKAGES = ("tritstream", "numpy", "numba")
_GROUPINGS = (GROUPING, *(Grouping(group) for group in (32, 64)),
              *(Grouping(group, DIRECT) for group in (32, 64, 128, 256)))
#: Weights that no group adapts to, and weights with heavy tails: Student's t of 4 degrees.
_DRAWN = {"normal": lambda rng, shape: rng.standard_normal(shape),
          "Student's t": lambda rng, shape: rng.standard_t(4, shape)}


@reports_errors
def groups(
    text: Annotated[list[Path] | None, typer.Option(
        help="Text on which `tritstream eval` compares the packed models with the shipped one. May "
             "be repeated.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the random matrices.")] = 1280,
    columns: Annotated[int, typer.Option(min=1, help="Columns of the random matrices.")] = 2048,
    tokens: Annotated[int, typer.Option(min=0, help="Tokens to score per text.")] = 3072,
    output: JsonFile = None,
    as_json: Json = False,
):
    """Compare group lengths and kinds of scales, on random matrices and on the shipped model.

    Each is compared with groups of 16 and coded scales at equal stored bits, which are two depths
    mixed.
    """
    steps = (len(_DRAWN) + 1) * len(_GROUPINGS) * len(DEPTHS) + bool(text)
    with progress("measuring", steps) as advance:
        sources = {name: [_measured(weights, grouping, depth, advance)
                          for grouping, depth in _settings()]
                   for name, weights in _random((rows, columns))}
        sources["shipped model"] = _model(text or [], tokens, advance)
    for found in sources.values():
        compare(found)
    report = circumstances(_PACKAGES) | {"shape": [rows, columns], "sources": sources}
    report_to(report, output, as_json, _show)


def compare(rows: Sequence[dict]) -> None:
    """Add to each figure of each row how it compares with others at equal stored bits.

    ``gain`` is in dB, against the two depths of groups of 16 with coded scales that have these bits
    on average if they are mixed; None below their bits. ``best`` says whether no mixture of two
    rows has a smaller figure at these bits.
    """
    usual = [row for row in rows if _grouping(row) == GROUPING]
    for row in rows:
        for name, figure in row["figures"].items():
            mixed = [_mixed(low, high, row["stored_bits"], name) for low, high in pairwise(usual)]
            value, held = figure["value"], [one for one in mixed if one is not None]
            figure["gain"] = 10 * log10(held[0] / value) if held else None
            others = (_mixed(low, high, row["stored_bits"], name) for low in rows for high in rows)
            figure["best"] = all(one is None or one >= value for one in others)


def _mixed(low: dict, high: dict, bits: float, name: str) -> float | None:
    """Return the figure of a mixture of two rows with so many bits; None if there is none."""
    width, above = high["stored_bits"] - low["stored_bits"], bits - low["stored_bits"]
    if not 0 <= above <= width:
        return None
    share = above / width if width else 0.0
    first, last = (row["figures"][name]["value"] for row in (low, high))
    return (1 - share) * first + share * last


def _settings() -> Iterator[tuple[Grouping, int]]:
    return ((grouping, depth) for grouping in _GROUPINGS for depth in DEPTHS)


def _grouping(row: dict) -> Grouping:
    return Grouping(row["group"], row["scales"])


def _random(shape: tuple[int, int]) -> Iterator[tuple[str, np.ndarray]]:
    for name, draw in _DRAWN.items():
        yield name, draw(np.random.default_rng(0), shape).astype(np.float32)


def _measured(
    weights: np.ndarray, grouping: Grouping, depth: int, advance: Callable[[float], None],
) -> dict:
    """Quantize a matrix; return a row."""
    rows, columns = weights.shape
    matrix = whole(search_groups(weights, depth, grouping=grouping, engine=None))
    lost, energy = square_sums(dequantized_chunks(matrix), weights)
    bits = 8 * Layout.of(grouping, columns).size((rows, columns), depth) / weights.size
    advance(1)
    return _row(grouping, depth, bits, lost / energy)


def _row(grouping: Grouping, depth: int, bits: float, error: float) -> dict:
    return {"depth": depth, "group": grouping.group, "scales": grouping.scales,
            "stored_bits": bits, "figures": {"squared error": {"value": error}}}


def _model(texts: Sequence[Path], tokens: int, advance: Callable[[float], None]) -> list[dict]:
    """Pack the shipped model in all ways, and evaluate it on texts; return rows."""
    model, rows = shipped_model(), []
    with TemporaryDirectory() as work:
        paths = []
        for grouping, depth in _settings():
            paths.append(Path(work) / f"{depth}-{grouping.scales}-{grouping.group}")
            method = method_of(SEARCH, grouping=grouping)
            packed = pack_checkpoint(model, paths[-1], depth, method=method)
            rows.append(_row(grouping, depth, packed.stored_bits, packed.error))
            advance(1)
        if texts:
            _evaluate(rows, model, paths, texts, tokens)
            advance(1)
    return rows


def _evaluate(
    rows: list[dict], model: Path, paths: list[Path], texts: Sequence[Path], tokens: int,
) -> None:
    """Add the divergence of each packed model on each text, by `tritstream eval`."""
    out = paths[0].with_name("eval")
    options = [option for text in texts for option in ("--text", text)]
    done = run_measured([
        "eval", *map(str, paths), "--base", model, *options, "--ctx", str(_CONTEXT), "--tokens",
        str(tokens), "-o", out])
    if done.status:
        raise Failure(f"eval: {done.error}")
    for report in texts_of(load_json(out / "report.json")):
        for row, found in zip(rows, report["models"], strict=True):
            row["figures"][f"KLD, {report['corpus']['name']}"] = found["kl"]


def _show(report: dict) -> None:
    for source, rows in report["sources"].items():
        names = list(rows[0]["figures"])
        table(source, ["d", "scales", "group", "stored b/w",
                       *(head for name in names for head in (name, "dB"))],
              [[str(row["depth"]), row["scales"], str(row["group"]), f"{row['stored_bits']:.3f}",
                *(cell for name in names for cell in _cells(row["figures"][name]))]
               for row in sorted(rows, key=lambda row: row["stored_bits"])])
        print()
    print("dB: against groups of 16 with coded scales that have the same stored bits, two depths "
          "mixed; *: no mixture of two other rows is as good")


def _cells(figure: dict) -> tuple[str, str]:
    gain = "" if figure["gain"] is None else f"{figure['gain']:+.2f}"
    return f"{figure['value']:.3e}{'*' if figure['best'] else ' '}", gain
