"""Command that measures the CPU time in which each method quantizes a complete matrix."""

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

import numpy as np
import typer

from tritstream.golden.checkpoints.generated import GeneratedTensor
from tritstream.golden.fixed_point import half_range
from tritstream.golden.kernels import ENGINES, default_engine, load
from tritstream.golden.matrix import DirectMatrix, Encoded, whole
from tritstream.golden.quantize import CODEC, choose_scales
from tritstream.golden.quantizers.error_feedback import GROUPS, feed_back
from tritstream.golden.quantizers.grouping import Grouping
from tritstream.golden.quantizers.long_groups import search_groups
from tritstream.golden.quantizers.moments import BLOCK, Moment, blocks
from tritstream.golden.quantizers.search import SEARCH, search
from tritstream.scripts.console import reports_errors, table
from tritstream.scripts.options import Depth, Json, JsonFile, Repeat
from tritstream.scripts.reports.bench.measuring import circumstances, report_to

__all__ = ["methods"]

_PACKAGES = ("tritstream", "numpy", "numba")
#: Rows and columns of the matrix of the first run, which compiles and is not counted.
_SMALL = (20, 256)


@reports_errors
def methods(
    rows: Annotated[int, typer.Option(min=1, help="Rows of the matrix.")] = 5120,
    columns: Annotated[int, typer.Option(min=1, help="Columns of the matrix.")] = 5120,
    depth: Depth = 3,
    group: Annotated[int, typer.Option(
        help="Length of the longer groups, with coded scales: 32, 64 or 128.")] = 64,
    engine: Annotated[str | None, typer.Option(
        help=f"Engine of the inner loops: {' or '.join(ENGINES)}.",
        show_default="numba if it is installed")] = None,
    repeat: Repeat = 3,
    output: JsonFile = None,
    as_json: Json = False,
):
    """Measure the CPU time from a matrix to its integers and codes, of all threads together.

    The weights are random, with the statistics of trained ones. The calibrated methods get random
    statistics.
    """
    half_range(depth)
    engine = engine or default_engine()
    load(engine)
    if group not in GROUPS[1:]:
        raise ValueError(f"group must be one of {', '.join(map(str, GROUPS[1:]))}, not {group}")
    found = []
    for name, work in _methods(rows, columns, depth, group, engine).items():
        cpu, wall = _fastest(work, repeat)
        found.append({"method": name, "cpu": cpu, "wall": wall,
                      "million_weights_per_cpu_second": rows * columns / cpu / 1e6})
    report = circumstances(_PACKAGES) | {
        "shape": [rows, columns], "depth": depth, "engine": engine, "methods": found}
    report_to(report, output, as_json, _show)


def _methods(
    rows: int, columns: int, depth: int, group: int, engine: str,
) -> dict[str, Callable[[], object]]:
    """Return the work to measure, by name of the method; each was done on a small matrix before."""
    tensor = GeneratedTensor("bench.weight", "BF16", (rows, columns), seed=0)
    cases = [(tensor.read(), _moment(rows, columns)),
             (np.ones(_SMALL, np.float32), _moment(*_SMALL))]
    longer = Grouping(group)

    def encoders(moment: Moment) -> dict[str, Callable[..., Encoded | DirectMatrix]]:
        return {CODEC: choose_scales, SEARCH: search,
                f"{SEARCH}, G = {group}": partial(search_groups, grouping=longer),
                f"{SEARCH}, calibrated": partial(feed_back, moment=moment),
                f"{SEARCH}, calibrated, G = {group}": partial(
                    feed_back, moment=moment, group=longer.length(columns))}

    def work(weights: np.ndarray, encode: Callable[..., Encoded | DirectMatrix]) -> None:
        whole(encode(weights, depth, engine=engine))

    (weights, moment), (small, other) = cases
    for encode in encoders(other).values():
        work(small, encode)
    return {name: partial(work, weights, encode) for name, encode in encoders(moment).items()}


def _moment(rows: int, columns: int) -> Moment:
    """Return calibration statistics of random inputs of different sizes, which are correlated."""
    rng = np.random.default_rng(0)
    stored = np.zeros((columns, min(columns, BLOCK)), np.float32)
    for part in blocks(columns):
        width = part.stop - part.start
        inputs = rng.standard_normal((width + 64, width), np.float32)
        inputs[:, 1:] += inputs[:, :-1] / 2
        inputs *= np.exp(rng.standard_normal(width, np.float32))
        stored[part, :width] = inputs.T @ inputs / len(inputs)
    return Moment(stored, np.ones(rows, np.float32))


def _fastest(work: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Return the fewest CPU seconds of all threads, and the wall seconds of that run."""
    runs = []
    for _ in range(repeat):
        start = time.process_time(), time.perf_counter()
        work()
        runs.append((time.process_time() - start[0], time.perf_counter() - start[1]))
    return min(runs)


def _show(report: dict) -> None:
    rows, columns = report["shape"]
    table(f"{rows} x {columns} weights, d = {report['depth']}",
          ["method", "CPU s", "M weights/CPU s", "wall s"], [
              [row["method"], f"{row['cpu']:.2f}", f"{row['million_weights_per_cpu_second']:.1f}",
               f"{row['wall']:.2f}"] for row in report["methods"]])
