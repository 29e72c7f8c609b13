"""Commands that stream matrices through the simulated accelerator: run, demo."""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from safetensors import safe_open

from golden.checkpoint import PackedCheckpoint
from golden.generated import GeneratedTensor
from golden.quantize import TritMatrix, quantize
from golden.sizes import QWEN25
from hw.config import DeviceConfig
from scripts.console import console, print_json, progress, reports_errors, table, write_text
from scripts.pack import pack
from scripts.stream import (
    MatrixRun,
    Simulation,
    generated_activations,
    mismatch,
    stream_matrix,
    totals,
)

__all__ = ["demo", "run"]

#: name, quantized matrix, float activations (T, K)
Job = tuple[str, Callable[[], TritMatrix], np.ndarray]

_SEED = 2026

Lanes   = Annotated[int, typer.Option(help="Lanes of the device: 1, 2, 4, .., 64.")]
Columns = Annotated[int, typer.Option(help="Vectors the device takes in one pass.")]
MaxK    = Annotated[int, typer.Option(help="Longest vector the device holds.")]
Json    = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
Rtl     = Annotated[Path | None, typer.Option(help="Verilog to simulate in place of our own.")]


@reports_errors
def run(
    packed: Annotated[Path, typer.Argument(help="Packed checkpoint.")],
    activations: Annotated[Path | None, typer.Option(
        help="Safetensors with an input (T, K) for each module; generated if not given.")] = None,
    matrices: Annotated[str, typer.Option(help="Stream only modules whose name fits.")] = "*",
    vectors: Annotated[int, typer.Option(help="Use at most so many vectors a matrix.")] = 1,
    lanes: Lanes = 8,
    columns: Columns = 1,
    max_k: MaxK = 32768,
    report: Annotated[Path | None, typer.Option(help="Write the JSON report there too.")] = None,
    rtl: Rtl = None,
    as_json: Json = False,
):
    """Stream a packed checkpoint through the simulated device; compare every row with golden."""
    checkpoint = PackedCheckpoint(packed)
    names = [name for name in checkpoint.matrices if fnmatchcase(name, matrices)]
    if not names:
        raise ValueError(f"{packed}: no matrix fits {matrices!r}; `tritstream inspect` lists them")
    jobs = (_job(checkpoint, name, activations, vectors) for name in names)
    config = DeviceConfig(lanes, columns, max_k)
    _finish(_simulate(config, rtl, jobs, len(names)), report, as_json)


@reports_errors
def demo(
    model: Annotated[Path, typer.Option(help="Checkpoint with activations.safetensors.")] =
        Path("models/tiny-qwen2"),
    output: Annotated[Path, typer.Option("--output", "-o", help="Where results go.")] =
        Path("build/demo"),
    depth: Annotated[int, typer.Option(help="Trits a weight.")] = 3,
    lanes: Lanes = 8,
    columns: Columns = 1,
    rtl: Rtl = None,
    as_json: Json = False,
):
    """Quantize the shipped model, stream it through the simulated device, compare every row."""
    packed = output / "packed"
    pack(model, packed, depth, force=True)
    checkpoint = PackedCheckpoint(packed)
    names = list(checkpoint.matrices)
    real = GeneratedTensor(
        "down_proj.weight", "F32", QWEN25["0.5B"].linear()["mlp.down_proj"], _SEED)

    def jobs():
        for name in names:
            yield _job(checkpoint, name, model / "activations.safetensors", None)
        yield ("generated, as Qwen2.5-0.5B down_proj",
               lambda: quantize(real.read(), depth),
               generated_activations(_SEED, real.shape[1]))

    config = DeviceConfig(lanes, columns)
    result = _simulate(config, rtl, jobs(), len(names) + 1)
    result["packed"] = str(packed)
    _finish(result, output / "report.json", as_json)


def _job(checkpoint, name, activations, vectors) -> Job:
    columns = checkpoint.matrices[name].shape[1]
    if activations is None:
        x = generated_activations(_SEED, columns, vectors)
    else:
        x = _read_activations(activations, name, columns)[:vectors]
    return name, lambda: checkpoint.matrix(name), x


def _read_activations(path: Path, name: str, columns: int) -> np.ndarray:
    """Activations (T, K) of a module."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; it must hold an input for each module")
    with safe_open(path, framework="numpy") as file:
        if name not in set(file.keys()):
            raise ValueError(f"{path}: no activations for {name}")
        x = file.get_tensor(name)
    if x.ndim != 2 or x.shape[1] != columns:
        raise ValueError(f"{path}: activations of {name} must be (T, {columns}), not {x.shape}")
    return x.astype(np.float32)


def _simulate(config: DeviceConfig, rtl: Path | None, jobs: Iterable[Job], count: int) -> dict:
    """Stream all jobs; the report as a dict of plain values."""
    console.print(f"building the simulated device, L = {config.lanes} "
                  "(half a minute the first time)", markup=False)
    with Simulation(config, rtl.read_text() if rtl else None) as simulation:
        info, runs = asyncio.run(_stream(simulation, jobs, count))
        return {**simulation.report(info), "matrices": runs, "totals": totals(runs)}


async def _stream(simulation: Simulation, jobs: Iterator[Job], count: int):
    info = await simulation.identify()
    runs: list[MatrixRun] = []
    with progress("streaming", count) as advance:
        for name, matrix, x in jobs:
            runs.append(await stream_matrix(simulation.device, name, matrix(), x))
            advance(1, name)
    return info, runs


def _finish(result: dict, report: Path | None, as_json: bool) -> None:
    """Print and write the report; raise where a row differed."""
    runs = result["matrices"]
    plain = {**result, "matrices": [asdict(run) for run in runs]}
    if report:
        write_text(report, json.dumps(plain, indent=2))
    if as_json:
        print_json(plain)
    else:
        _show(result, report)
    if failure := mismatch(runs):
        raise failure


def _show(result, report):
    device = result["device"]
    print(f"engine  {result['engine']}")
    print(f"RTL     sha256 {result['rtl_sha256']}")
    print(f"device  L = {device['lanes']}, B = {device['columns']}, K up to {device['max_k']}\n")
    header = ["matrix", "shape", "d", "stored b/w", "info b/w", "vectors", "words", "cycles",
              "words/cycle", "rows compared", "mismatches", "error"]
    rows = [[
        run.name, f"{run.rows}x{run.columns}", str(run.depth), f"{run.stored_bits:.2f}",
        f"{run.information_bits:.2f}", str(run.vectors), str(run.words), str(run.cycles),
        f"{run.words_per_cycle:.4f}", str(run.compared), str(run.mismatches), f"{run.error:.2e}",
    ] for run in result["matrices"]]
    total = result["totals"]
    rows.append([
        f"total of {total['matrices']}", f"{total['weights']} w", "", f"{total['stored_bits']:.2f}",
        f"{total['information_bits']:.2f}", "", str(total["words"]), str(total["cycles"]),
        f"{total['words_per_cycle']:.4f}", str(total["compared"]), str(total["mismatches"]), "",
    ])
    table("", header, rows)
    rate = result["simulated_cycles"] / max(result["cpu_seconds"], 0.01)
    print(f"\n{result['simulated_cycles']} cycles simulated in {result['cpu_seconds']} s of CPU, "
          f"{rate / 1e6:.2f} M a second, comparison included")
    if "packed" in result:
        print(f"packed checkpoint: {result['packed']}")
    if report:
        print(f"report: {report}")
