"""Commands that stream matrices through devices and compare every row: run, demo."""

import asyncio
from dataclasses import asdict
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tritstream.golden.checkpoints.generated import GeneratedTensor
from tritstream.golden.fixed_point import tiles_shape
from tritstream.golden.jobs.directory_job import fingerprint
from tritstream.golden.model_sizes import QWEN25
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.quantize import quantize
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup
from tritstream.host.device_spec import SIMULATED, parse_specs
from tritstream.host.layout.prepare import tiles_of
from tritstream.host.open_device import open_device
from tritstream.host.placement.work import Step, steps_of_checkpoint
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.console import console, print_json, progress, reports_errors, write_json
from tritstream.scripts.options import (
    Columns,
    Depth,
    DeviceSpec,
    Json,
    Lanes,
    MaxK,
    Packed,
    Rtl,
)
from tritstream.scripts.running.activations import read_activations
from tritstream.scripts.running.run_report import RunResults, describe, mismatch, show, totals
from tritstream.scripts.running.stream import Job, generated_activations, stream_matrix
from tritstream.scripts.shipped import shipped_model
from tritstream.scripts.weights.quantize import pack

__all__ = ["demo", "run", "tell_of_building"]

_SEED = 2026


@reports_errors
def run(
    packed: Packed,
    activations: Annotated[Path | None, typer.Option(
        help="Safetensors file with an input (T, K) per module.",
        show_default="generated numbers")] = None,
    matrices: Annotated[str, typer.Option(
        metavar="GLOB", help="Stream only the modules whose names match this pattern.")] = "*",
    vectors: Annotated[int, typer.Option(
        help="Maximum number of activation vectors per matrix.")] = 1,
    device: DeviceSpec = "sim",
    lanes: Lanes = 8,
    columns: Columns = 1,
    max_k: MaxK = 32768,
    report: Annotated[Path | None, typer.Option(
        help="Write the report to this JSON file. An interrupted run with the same file "
             "resumes.")] = None,
    rtl: Rtl = None,
    as_json: Json = False,
):
    """Stream a packed checkpoint through a device, and compare every row with golden."""
    checkpoint = PackedCheckpoint(packed)
    names = [name for name in checkpoint.matrices if fnmatchcase(name, matrices)]
    if not names:
        raise ValueError(f"{packed}: no matrix fits {matrices!r}; `tritstream inspect` lists them")
    if activations and not activations.is_file():
        raise ValueError(f"{activations}: no such file; it must hold an input for each module")
    jobs = [_job(checkpoint, name, activations, vectors) for name in names]
    settings = {"activations": fingerprint([activations] if activations else []),
                "packed": fingerprint(shard.path for shard in checkpoint.shards.values()),
                "matrices": matrices, "vectors": vectors}
    opened = _open(device, DeviceConfig(lanes, columns, max_k), rtl)
    with RunResults(report) as results:
        result = asyncio.run(_stream(opened, jobs, results, settings,
                                     steps_of_checkpoint(checkpoint, names)))
        _write(result, report)
        results.discard()
    _finish(result, report, as_json)


@reports_errors
def demo(
    model: Annotated[Path | None, typer.Option(
        help="Checkpoint with activations.safetensors.",
        show_default="the shipped model")] = None,
    output: Annotated[Path, typer.Option(
        "--output", "-o", help="Directory for the packed checkpoint and the report.")] =
        Path("build/demo"),
    depth: Depth = 3,
    device: DeviceSpec = "sim",
    lanes: Lanes = 8,
    columns: Columns = 1,
    rtl: Rtl = None,
    as_json: Json = False,
):
    """Quantize the shipped model, stream it through a device, and compare every row."""
    packed, model = output / "packed", model or shipped_model()
    pack(model, packed, depth, force=True)
    checkpoint = PackedCheckpoint(packed)
    shape = QWEN25["0.5B"].linear()["mlp.down_proj"]
    real = GeneratedTensor("down_proj.weight", "F32", shape, _SEED)
    jobs = [_job(checkpoint, name, model / "activations.safetensors", None)
            for name in checkpoint.matrices]
    jobs.append(Job("generated, as Qwen2.5-0.5B down_proj", shape, depth,
                    lambda: tiles_of(quantize(real.read(), depth)),
                    lambda: generated_activations(_SEED, shape[1]),
                    size=prod(tiles_shape(shape, depth))))
    opened = _open(device, DeviceConfig(lanes, columns), rtl)
    result = asyncio.run(_stream(opened, jobs, RunResults(), {},
                                 steps_of_checkpoint(checkpoint, checkpoint.matrices)))
    result["packed"], report = str(packed), output / "report.json"
    _write(result, report)
    _finish(result, report, as_json)


def _job(checkpoint: PackedCheckpoint, name: str, activations: Path | None,
         vectors: int | None) -> Job:
    info = checkpoint.matrices[name]

    def read() -> np.ndarray:
        if activations is None:
            return generated_activations(_SEED, info.shape[1], 1 if vectors is None else vectors)
        return read_activations(activations, name, info.shape[1])[:vectors]

    return Job(name, info.shape, info.depth, lambda: checkpoint.stored(name), read, info.form,
               checkpoint.tensors_of(name)[0].size)


def tell_of_building(device: str) -> None:
    """Report on standard error that building a simulated device delays the first result."""
    if any(spec.scheme in SIMULATED for spec in parse_specs(device)):
        console.print("building the simulated device (half a minute the first time)")


def _open(device: str, config: DeviceConfig, rtl: Path | None) -> Device | DeviceGroup:
    tell_of_building(device)
    return open_device(device, config, rtl.read_text() if rtl else None)


async def _stream(opened: Device | DeviceGroup, jobs: list[Job], results: RunResults,
                  settings: dict, steps: list[Step]) -> dict:
    """Stream all jobs that have no result yet; return the report with a :class:`MatrixRun` each."""
    async with opened as device:
        about = await describe(device)
        if isinstance(device, DeviceGroup):
            await device.place(steps)
        results.begin(settings | about)
        runs = []
        with progress("streaming", sum(job.size for job in jobs), in_bytes=True) as advance:
            for job in jobs:
                run = results.get(job.name)
                if not run:
                    run = await stream_matrix(device, job)
                    results.add(run)
                runs.append(run)
                advance(job.size, job.name)
    return {**about, "matrices": runs, "totals": totals(runs)}


def _plain(result: dict) -> dict:
    return {**result, "matrices": [asdict(run) for run in result["matrices"]]}


def _write(result: dict, report: Path | None) -> None:
    if report:
        write_json(report, _plain(result))


def _finish(result: dict, report: Path | None, as_json: bool) -> None:
    """Print the report; raise if a row differs."""
    print_json(_plain(result)) if as_json else show(result, report)
    if failure := mismatch(result["matrices"]):
        raise failure
