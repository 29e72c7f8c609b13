"""The command ``tritstream dev rtl-fuzz``."""

import time
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from tritstream.hw.config import DeviceConfig
from tritstream.scripts.assurance.rtl_fuzz.compare import Fault
from tritstream.scripts.assurance.rtl_fuzz.report import FuzzReport, read_session, write_session
from tritstream.scripts.assurance.rtl_fuzz.session import Session, Tally, run_session
from tritstream.scripts.console import Failure, print_json, progress, reports_errors, table
from tritstream.scripts.options import ColumnCounts, Json, LaneCounts, MaxK, Rtl
from tritstream.sim.build import build_native, device_rtl
from tritstream.sim.native import NativeDevice

__all__ = ["fuzz"]

_LANES, _COLUMNS = [8], [1]


@reports_errors
def fuzz(
    lanes: LaneCounts = _LANES,
    columns: ColumnCounts = _COLUMNS,
    max_k: MaxK = 32768,
    cycles: Annotated[int, typer.Option(
        min=1, help="Minimum number of cycles per device.")] = 5_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of all sessions.")] = 0,
    session: Annotated[int | None, typer.Option(
        min=0, help="Run only this session, without a report.")] = None,
    replay: Annotated[Path | None, typer.Option(
        help="Run the session in this file instead of random ones.")] = None,
    rtl: Rtl = None,
    output: Annotated[Path | None, typer.Option(
        "--output", "-o", help="Write the report to this JSON file, or resume from it. Sessions "
                               "that find a fault are written next to it.")] = None,
    as_json: Json = False,
):
    """Compare simulated devices with the reference model, on valid and damaged frames.

    Every response must be complete, in time, and equal to the one that docs/protocol.md requires. A
    session has 40 elements, from the reset of its device to a product that must be computed. The
    first session that finds a fault is written to a file for --replay.
    """
    text = rtl.read_text() if rtl else None
    if replay:
        _replay(replay, text)
        return
    configs = [DeviceConfig(*sizes, max_k) for sizes in product(lanes, columns)]
    report = FuzzReport(output if session is None else None, seed)
    numbers = None if session is None else (session,)
    with progress("fuzzing", cycles * len(configs)) as advance:
        for config in configs:
            _fuzz(report, config, text, seed, cycles, numbers, output, advance)
    _show(report, as_json)


def _fuzz(report, config, text, seed, cycles, numbers, output, advance) -> None:
    """Run sessions of one device up to the number of cycles, or to the first fault."""
    build = build_native(config.lanes, text or device_rtl(config))
    sizes = {"lanes": config.lanes, "columns": config.columns, "max_k": config.max_k}
    entry = report.entry(sizes, build, Tally())
    advance(entry["cycles"])
    numbers = iter(numbers or range(entry["sessions"], 1 << 62))
    try:
        while not entry["faults"] and (number := next(numbers, None)) is not None and (
                entry["cycles"] < cycles):
            tally, began = Tally(), time.monotonic()
            done, fault = run_session(build.library, config, seed, number, tally)
            report.count(entry, tally, time.monotonic() - began)
            advance(tally.cycles, f"L = {config.lanes}, B = {config.columns}")
            if fault:
                entry["faults"].append(_keep(config, seed, number, done, fault, output))
    finally:
        report.write()


def _keep(config, seed, number, session, fault, output) -> dict:
    """Write the session to a file and return the description of its fault."""
    stem = output.stem if output else "fuzz"
    path = (output.parent if output else Path()) / (
        f"{stem}.fault-L{config.lanes}-B{config.columns}-{number}.json")
    write_session(path, config, session, fault)
    again = (f"tritstream dev rtl-fuzz --lanes {config.lanes} --columns {config.columns} --max-k "
             f"{config.max_k} --seed {seed} --session {number}")
    return {"session": number, "fault": fault, "kept": path.name, "again": again}


def _replay(path: Path, text: str | None) -> None:
    config, steps = read_session(path)
    build = build_native(config.lanes, text or device_rtl(config))
    with NativeDevice(build.library) as device:
        session = Session(device, config)
        try:
            for step in steps:
                session.take(step)
        except Fault as fault:
            raise Failure(f"{path}: step {len(session.steps)} of {len(steps)}: {fault}") from None
    print(f"{path}: {len(steps)} steps, {sum(session.answers.values())} responses, no fault")


def _show(report: FuzzReport, as_json: bool) -> None:
    if as_json:
        print_json(report.plain)
    else:
        columns = ["device", "sessions", "cycles", "words in", "words out", "elements", "responses",
                   "errors among them", "faults"]
        table("", columns, [[str(cell) for cell in _row(one)] for one in report.plain["devices"]])
    if report.faults:
        first = report.faults[0]
        raise Failure(f"{first['fault']}; kept in {first['kept']}; to run it again: "
                      f"{first['again']}")


def _row(entry: dict) -> list:
    errors = sum(count for name, count in entry["answers"].items() if name.startswith("ERROR"))
    return [f"L = {entry['lanes']}, B = {entry['columns']}", entry["sessions"], entry["cycles"],
            entry["words_in"], entry["words_out"], sum(entry["elements"].values()),
            sum(entry["answers"].values()), errors, len(entry["faults"])]
