"""The command ``tritstream dev soak``."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer

from tritstream.scripts.assurance.soak.draw import Job
from tritstream.scripts.assurance.soak.report import SoakReport
from tritstream.scripts.assurance.soak.work import Outcome, config_of, run_job
from tritstream.scripts.console import Failure, print_json, progress, reports_errors, table
from tritstream.scripts.options import Json
from tritstream.sim.build import build_native, device_rtl

__all__ = ["DEVICES", "soak"]

#: Devices of every width, with one and several columns, and some with a short memory.
DEVICES = ["sim:lanes=1", "sim:lanes=2,columns=3", "sim:lanes=4,max_k=1024", "sim:lanes=8",
           "sim:lanes=8,columns=2,max_k=256", "sim:lanes=16", "sim:lanes=16,columns=4",
           "sim:lanes=32", "sim:lanes=64", "sim:lanes=64,columns=2,max_k=4096"]


@reports_errors
def soak(
    output: Annotated[Path | None, typer.Option(
        "--output", "-o", help="Write the report to this JSON file, or resume from it.")] = None,
    minutes: Annotated[float, typer.Option(
        help="Duration in minutes, with that of earlier runs.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of all jobs.")] = 0,
    device: Annotated[list[str], typer.Option(
        help="Simulated device to draw from. May be repeated.")] = DEVICES,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    job: Annotated[int | None, typer.Option(
        min=0, help="Run only this job, and report what it did.")] = None,
    as_json: Json = False,
):
    """Run random jobs on simulated devices over bad links, and compare every row with golden.

    A job is a product of any shape with extreme values, on one or several devices, with stalls,
    damaged and lost words, resets and abandoned frames; or a session of raw frames that is compared
    with the reference model. Job N depends only on the seed, the devices and N.
    """
    configs = [config_of(spec) for spec in device]
    if job is not None:
        _one(seed, job, device, as_json)
        return
    if output is None:
        raise ValueError("write the report somewhere with -o REPORT.json, or run one --job")
    if not minutes > 0:
        raise ValueError(f"minutes must be above 0, not {minutes:g}")
    report = SoakReport(output, seed, device)
    for config in configs:
        build_native(config.lanes, device_rtl(config))
    _run(report, seed, device, 60 * minutes, workers)
    _show(report, output, as_json)


def _one(seed, number, specs, as_json) -> None:
    job, outcome = run_job(seed, number, specs)
    devices = [specs[index] for index in job.devices]
    if as_json:
        print_json({"job": asdict(job), "devices": devices, "outcome": asdict(outcome)})
    else:
        for name, value in (asdict(job) | {"devices": ", ".join(devices)}
                            | asdict(outcome)).items():
            print(f"{name:12} {value}")
    if outcome.fault:
        raise Failure(f"job {number}: {outcome.fault}")


def _run(report, seed, specs, seconds, workers) -> None:
    """Run jobs for the given time; the report is written however this ends."""
    before = time.monotonic()
    try:
        with progress("soaking", round(seconds)) as advance:
            advance(report.seconds)
            for job, outcome in _jobs(report, seed, specs, seconds, workers):
                now = time.monotonic()
                report.add(job, outcome, now - before)
                advance(now - before, f"job {job.number}")
                before = now
    finally:
        report.write()


def _jobs(report, seed, specs: Sequence[str], seconds, workers) -> Iterator[tuple[Job, Outcome]]:
    """Yield jobs in order until the report has the given seconds."""
    if workers == 1:
        while report.seconds < seconds:
            yield run_job(seed, report.next, specs)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        running: deque = deque()
        try:
            for number in count(report.next):
                running.append(pool.submit(run_job, seed, number, specs))
                if len(running) > 2 * workers:
                    yield running.popleft().result()
                if report.seconds >= seconds:
                    return
        finally:
            pool.shutdown(cancel_futures=True)


def _show(report: SoakReport, path: Path, as_json: bool) -> None:
    plain = report.plain
    if as_json:
        print_json(plain)
    else:
        columns = ["devices", "jobs", "rows compared", "answers checked", "cycles", "words",
                   "retries", "failed"]
        rows = [[name, *(str(value) for value in counts.values())]
                for name, counts in [*sorted(plain["devices"].items()), ("all", plain["total"])]]
        table("", columns, rows)
        print(f"\n{plain['seconds'] / 60:.1f} minutes, {sum(plain['faults'].values())} faults put "
              f"in; report: {path}")
    if plain["failures"]:
        first, total = plain["failures"][0], plain["total"]
        raise Failure(f"{total['failed']} of {total['jobs']} jobs failed, the first: "
                      f"{first['fault']}; to run it again: {_command(plain['soak'], first['job'])}")


def _command(soak: dict, job: dict) -> str:
    specs = [] if soak["devices"] == DEVICES else soak["devices"]
    return " ".join(["tritstream dev soak", f"--seed {soak['seed']}", f"--job {job['number']}",
                     *(f"--device {spec}" for spec in specs)])
