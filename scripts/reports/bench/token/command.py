"""Command that sends one decoded token of a model of any size through the RTL."""

from contextlib import closing
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Annotated

import typer

from tritstream.host.layout.shapes import ModelShape
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.console import console, progress, reports_errors
from tritstream.scripts.options import Json, Seed
from tritstream.scripts.reports.bench.forms import (
    MODEL_NAMES,
    FormDepth,
    FormGroup,
    FormScales,
    formed,
)
from tritstream.scripts.reports.bench.measuring import report_to
from tritstream.scripts.reports.bench.token.lines import Lines
from tritstream.scripts.reports.bench.token.report import show_token, token_report
from tritstream.scripts.reports.bench.token.work import Task, run_tasks
from tritstream.scripts.running.run_report import mismatch
from tritstream.sim.build import build_native, device_rtl

__all__ = ["token"]


@reports_errors
def token(
    shape: Annotated[str, typer.Option(help=f"Model: {MODEL_NAMES}.")] = "qwen2.5-0.5b",
    depth: FormDepth = None,
    group: FormGroup = None,
    scales: FormScales = None,
    layers: Annotated[int | None, typer.Option(
        min=1, help="Number of decoder layers, without the head.", show_default="all")] = None,
    lanes: Annotated[int, typer.Option(help="Lanes of the simulated devices.")] = 64,
    processes: Annotated[int, typer.Option(
        min=1, help="Number of processes, each with a simulated device.")] = 2,
    seed: Seed = 0,
    report: Annotated[Path | None, typer.Option(
        help="Write the report to this JSON file, and a line per matrix to the file beside it "
             "that ends in .jsonl. The same command resumes from these lines.")] = None,
    as_json: Json = False,
):
    """Send one decoded token of a model through the RTL, and compare every row with golden.

    The weights are random, with the statistics of quantized weights. They are made matrix by
    matrix, and nothing but the report is stored, so memory and disk do not grow with the model.
    The head is a part of the token if the model is published with a ternary head.
    """
    model, config = formed(shape, depth, group, scales), DeviceConfig(lanes)
    matrices = dict(model.matrices(_checked(model, layers)))
    console.print("building the simulated device (half a minute the first time)")
    build = build_native(config.lanes, device_rtl(config))
    settings = {"model": model.name, "form": asdict(model.form), "layers": layers, "seed": seed,
                "lanes": lanes, "engine": build.engine, "rtl_sha256": build.rtl_sha256}
    tasks = [Task(name, size, model.form, seed, lanes) for name, size in matrices.items()]
    with Lines(report, settings) as lines:
        _stream(tasks, processes, lines)
    found = token_report(model, lines, settings, processes)
    report_to(found, report, as_json, show_token)
    if failure := mismatch(lines.runs):
        raise failure


def _checked(model: ModelShape, layers: int | None) -> int | None:
    if layers is not None and layers > model.sizes.layers:
        raise ValueError(f"{model.name} has {model.sizes.layers} layers, not {layers}")
    return layers


def _stream(tasks: list[Task], processes: int, lines: Lines) -> None:
    """Stream the matrices that have no line yet; show the progress in bytes of packed weights."""
    sizes = {task.name: round(prod(task.shape) * task.form.stored_bits(task.shape) / 8)
             for task in tasks}
    left = [task for task in tasks if task.name not in lines.done]
    start = sum(sizes[name] for name in lines.done)
    with progress("streaming", sum(sizes.values()), in_bytes=True, start=start) as advance, \
            closing(run_tasks(left, processes)) as results:
        for one in results:
            lines.add(one)
            advance(sizes[one.run.name], one.run.name)
