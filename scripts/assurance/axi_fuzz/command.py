"""The command ``tritstream dev axi-fuzz``."""

import time
from pathlib import Path
from typing import Annotated

import typer

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.assurance.axi_fuzz.session import Tally, run_session
from tritstream.scripts.assurance.rtl_fuzz.report import FuzzReport
from tritstream.scripts.console import Failure, print_json, progress, reports_errors, table
from tritstream.scripts.options import Burst, Json, Lanes, Outstanding, ReadBuffer
from tritstream.sim.axi_build import build_axi

__all__ = ["fuzz"]


@reports_errors
def fuzz(
    lanes: Lanes = 8,
    channels: Annotated[int, typer.Option(help="Number of channels.")] = 2,
    burst: Burst = 64,
    outstanding: Outstanding = 16,
    depth: ReadBuffer = 512,
    cycles: Annotated[int, typer.Option(
        min=1, help="Minimum number of cycles.")] = 5_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of all sessions.")] = 0,
    session: Annotated[int | None, typer.Option(
        min=0, help="Run only this session, without a report.")] = None,
    output: Annotated[Path | None, typer.Option(
        "--output", "-o", help="Write the report to this JSON file, or resume from it.")] = None,
    as_json: Json = False,
):
    """Disturb the simulated memory-mapped core, and compare it with the reference model.

    Requests are valid, damaged or nonsense, as for rtl-fuzz. Memories are slow or late, stand
    still, or answer by errors. Channels are restarted at any time, and software reads late. Every
    response must be complete and correct, or its channel must halt with an error of its memory.
    """
    config = AxiConfig(DeviceConfig(lanes, 1, 1024), channels, burst, outstanding, depth)
    report = FuzzReport(output if session is None else None, seed)
    with progress("fuzzing", cycles) as advance:
        build = build_axi(config)
        sizes = {"lanes": lanes, "channels": channels, "burst": burst,
                 "outstanding": outstanding, "buffer": depth}
        entry = report.entry(sizes, build, Tally())
        advance(entry["cycles"])
        try:
            while entry["cycles"] < cycles and not entry["faults"]:
                number, tally = entry["sessions"] if session is None else session, Tally()
                began = time.monotonic()
                fault = run_session(build, config, seed, number, tally)
                report.count(entry, tally, time.monotonic() - began)
                advance(tally.cycles)
                if fault:
                    entry["faults"].append({"session": number, "fault": fault,
                                            "again": _again(sizes, seed, number)})
                if session is not None:
                    break
        finally:
            report.write()
    _show(report, as_json)


def _again(sizes: dict[str, int], seed: int, number: int) -> str:
    """Return the command that runs a session again."""
    options = " ".join(f"--{name} {value}" for name, value in sizes.items())
    return f"tritstream dev axi-fuzz {options} --seed {seed} --session {number}"


def _show(report: FuzzReport, as_json: bool) -> None:
    if as_json:
        print_json(report.plain)
    else:
        table("", ["core", "sessions", "cycles", "elements", "disturbances", "memory errors",
                   "responses", "products", "faults"],
              [[str(cell) for cell in _row(entry)] for entry in report.plain["devices"]])
    if report.faults:
        first = report.faults[0]
        raise Failure(f"{first['fault']}; to run it again: {first['again']}")


def _row(entry: dict) -> list:
    return [f"C = {entry['channels']}, L = {entry['lanes']}", entry["sessions"], entry["cycles"],
            sum(entry["elements"].values()), sum(entry["disturbances"].values()), entry["errors"],
            sum(entry["answers"].values()), entry["answers"].get("DONE", 0), len(entry["faults"])]
