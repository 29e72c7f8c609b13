"""Command that measures quantizing: inner loops, and complete checkpoints by each engine."""

import filecmp
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tritstream.golden.checkpoints.generated import GeneratedTensor
from tritstream.golden.fixed_point import MAX_DEPTH, ROWS, SCALES, half_range
from tritstream.golden.groups import take_groups
from tritstream.golden.jobs.replacing import discard, own_files
from tritstream.golden.kernels import ENGINES, Kernels, default_engine, load
from tritstream.golden.matrix import code_values
from tritstream.golden.model_sizes import QWEN25, Sizes
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.matrix_packer import Packing
from tritstream.golden.quantize import choose_scales
from tritstream.golden.quantize import quantize as quantize_matrix
from tritstream.golden.quantizers.registry import DEFAULT, METHODS, method_of
from tritstream.golden.row_chunks import row_chunks
from tritstream.golden.tiles import row_packer
from tritstream.scripts.console import Failure, console, reports_errors, table
from tritstream.scripts.options import Depth, Json, JsonFile, Repeat
from tritstream.scripts.reports.bench.measuring import (
    Run,
    circumstances,
    cpu_seconds,
    report_to,
    run_measured,
)

__all__ = ["quantize"]

#: Columns of the generated weights for the inner loops, as in Qwen2.5-32B.
_COLUMNS = 5120
_PACKAGES = ("tritstream", "numpy", "numba")
#: Sizes to which a measured run is projected.
_PROJECTED = ("32B", "72B")


@reports_errors
def quantize(
    model: Annotated[Path | None, typer.Argument(
        help="Hugging Face directory to pack with each engine.",
        show_default="none: measure only the inner loops")] = None,
    work: Annotated[Path, typer.Option(
        help="Scratch directory, with one subdirectory per engine, which is deleted "
             "afterwards.")] = Path("build/bench"),
    depth: Depth = 3,
    method: Annotated[str, typer.Option(
        help=f"Quantizer to pack with: {', '.join(METHODS)}.")] = DEFAULT,
    repeat: Repeat = 5,
    output: JsonFile = None,
    as_json: Json = False,
):
    """Measure inner loops by engine and depth on one core, and then a complete checkpoint."""
    half_range(depth)
    method_of(method)
    engines = [name for name in ENGINES if name == "numpy" or default_engine() == name]
    report = circumstances(_PACKAGES) | {"loops": list(_loops(engines, repeat))}
    if model is not None:
        runs = {engine: _pack(model, work / engine, depth, method, engine) for engine in engines}
        report["packing"] = _packing(model, depth, runs)
        report["same_bytes"] = _same([work / engine for engine in engines])
        report["projections"] = _projections(report["packing"][-1])
        for engine in engines:
            discard(work / engine, own_files(work / engine))
    report_to(report, output, as_json, _show)


def _loops(engines: list[str], repeat: int) -> Iterator[dict]:
    """Millions of weights per second on one core, by loop, depth and engine."""
    rows = next(iter(row_chunks(1 << 16, _COLUMNS, ROWS)))
    tensor = GeneratedTensor("bench.weight", "BF16", (rows.stop, _COLUMNS), seed=0)
    groups = take_groups(tensor.read(), rows)
    for depth in range(1, MAX_DEPTH + 1):
        rates = {engine: {name: groups.size / cpu_seconds(loop, repeat) / 1e6
                          for name, loop in _cases(load(engine), engine, groups, depth).items()}
                 for engine in engines}
        for name in rates[engines[0]]:
            yield {"loop": name, "depth": depth,
                   **{engine: round(rates[engine][name], 1) for engine in engines}}


def _cases(
    kernels: Kernels, engine: str, groups: np.ndarray, depth: int,
) -> dict[str, Callable[[], object]]:
    """Loops to measure, on groups that fit the processor's cache."""
    half, pack, weights = half_range(depth), row_packer(depth, engine), groups.reshape(-1, _COLUMNS)
    matrix = quantize_matrix(weights, depth, engine=engine)

    def all_of_it() -> None:
        scaled = choose_scales(weights, depth, engine=engine)
        deque(Packing(scaled, weights, engine).pieces(), maxlen=0)

    q, codes, values = matrix.q.reshape(-1, 16), matrix.codes.ravel(), code_values(matrix)
    scales, edges = matrix.table[codes], np.geomspace(1e-3, 1, SCALES - 1)
    return {
        "scales of tritllm-v2": lambda: kernels.choose_scales(groups, half),
        "best of 27 codes": lambda: kernels.best_codes(groups, matrix.table, half),
        "codes of scales": lambda: kernels.find_codes(scales, edges),
        "levels": lambda: kernels.find_levels(groups, scales, half),
        "squared error": lambda: kernels.square_sums(groups, q, codes, values),
        "count of levels": lambda: kernels.count_levels(q, half),
        "tiles": lambda: pack(matrix.q, matrix.codes),
        "all, to tiles and report": all_of_it,
    }


def _pack(model: Path, out: Path, depth: int, method: str, engine: str) -> Run:
    """Pack in a separate process, so that its peak memory can be measured."""
    run = run_measured(["quantize", model, "-o", out, "-d", str(depth), "--method", method,
                        "--engine", engine, "--force", "--json"])
    if run.status:
        raise Failure(run.error.removeprefix("error: "))
    return run


def _packing(model: Path, depth: int, runs: dict[str, Run]) -> list[dict]:
    source = open_source(model)
    size = sum(tensor.size for tensor in source.tensors.values())
    weights = sum(math.prod(tensor.shape) for tensor in source.matrices().values())
    return [{"engine": engine, "depth": depth, "bytes": size, "weights": weights,
             "million_weights_per_second": weights / run.wall / 1e6,
             "million_weights_per_cpu_second": weights / run.cpu / 1e6,
             "megabytes_per_second": size / run.wall / 1e6,
             **{name: value for name, value in asdict(run).items() if name in (
                 "wall", "cpu", "peak")}} for engine, run in runs.items()]


def _same(directories: list[Path]) -> bool:
    """Whether all files of the directories are the same."""
    names = sorted(path.name for path in directories[0].iterdir())
    if any(sorted(path.name for path in other.iterdir()) != names for other in directories):
        return False
    return all(not any(filecmp.cmpfiles(directories[0], other, names, shallow=False)[1:])
               for other in directories[1:])


def _projections(run: dict) -> list[dict]:
    """Complete models at the rate of a run; all of its time is attributed to packed weights."""
    return [{"projection": f"Qwen2.5-{name}", "weights": _linear(QWEN25[name]),
             "wall": _linear(QWEN25[name]) / run["weights"] * run["wall"],
             "cpu": _linear(QWEN25[name]) / run["weights"] * run["cpu"]} for name in _PROJECTED]


def _linear(sizes: Sizes) -> int:
    return sizes.layers * sum(math.prod(shape) for shape in sizes.linear().values())


def _show(report: dict) -> None:
    engines = [name for name in ENGINES if name in report["loops"][0]]
    table("inner loops: millions of weights per second of one core", ["loop", "d", *engines], [
        [row["loop"], str(row["depth"]), *(f"{row[engine]:.0f}" for engine in engines)]
        for row in report["loops"]])
    if "packing" not in report:
        return
    table("\na checkpoint", ["engine", "GB", "M weights", "wall s", "CPU s", "M weights/s",
                             "M weights/CPU s", "MB/s", "peak MB"], [[
        row["engine"], f"{row['bytes'] / 1e9:.2f}", f"{row['weights'] / 1e6:.0f}",
        f"{row['wall']:.1f}", f"{row['cpu']:.1f}", f"{row['million_weights_per_second']:.1f}",
        f"{row['million_weights_per_cpu_second']:.1f}", f"{row['megabytes_per_second']:.0f}",
        f"{row['peak'] / 1e6:.0f}"] for row in report["packing"]])
    print(f"same bytes: {report['same_bytes']}")
    table("\nprojections, not measured: whole models at the rate of the last run",
          ["model", "M weights", "wall min", "CPU min"], [
              [row["projection"], f"{row['weights'] / 1e6:.0f}", f"{row['wall'] / 60:.1f}",
               f"{row['cpu'] / 60:.1f}"] for row in report["projections"]])
    if not report["same_bytes"]:
        console.print("warning: the engines gave different bytes", markup=False)
