"""Commands on boards: list, build, program, selftest."""

import asyncio
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from tritstream.golden.jobs.replacing import check_work_folder
from tritstream.host.device import Device
from tritstream.host.transports.serial_line import BAUD, TIMEOUT, SerialTransport
from tritstream.hw.boards.build import STEPS, Choice, build_board, find_bitstream
from tritstream.hw.boards.catalog import BOARDS, find_board
from tritstream.scripts.console import (
    Failure,
    print_json,
    progress,
    reports_errors,
    table,
    write_json,
)
from tritstream.scripts.hardware.selftest import Soak, selftest

__all__ = ["build", "list_boards", "program", "selftest_command"]

#: openFPGALoader's own name, and that of the package openfpgaloader.
_LOADERS = ("openFPGALoader", "openfpgaloader-cli")

BoardName = Annotated[str, typer.Argument(help="Board, as `hw list` tells.")]
Json      = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@reports_errors
def list_boards(as_json: Json = False):
    """Boards, and the device each carries by default."""
    boards = [{
        "name": board.name, "board": board.title, "lanes": board.lanes, "columns": board.columns,
        "max_k": board.max_k, "clock_mhz": board.clock_hz / 1e6, "baud": board.baud,
        "bridge": board.bridge} for board in BOARDS.values()]
    if as_json:
        print_json(boards)
        return
    table("", ["name", "board", "L", "B", "max K", "MHz", "baud", "bridge"],
          [[f"{value:g}" if isinstance(value, float) else str(value) for value in board.values()]
           for board in boards])


@reports_errors
def build(
    board: BoardName,
    lanes: Annotated[int | None, typer.Option(help="Lanes: 1, 2, 4, .., 64.")] = None,
    columns: Annotated[int | None, typer.Option(help="Vectors taken in one pass.")] = None,
    max_k: Annotated[int | None, typer.Option(help="Longest vector.")] = None,
    clock: Annotated[float | None, typer.Option(help="Clock in MHz.")] = None,
    baud: Annotated[int | None, typer.Option(help="Bits a second of the serial line.")] = None,
    seed: Annotated[int, typer.Option(
        min=0, max=(1 << 31) - 1, help="Seed of place and route.")] = 1,
    seeds: Annotated[int | None, typer.Option(
        min=1, help="Place with seeds 1 to this too, to tell how the clock varies.")] = None,
    output: Annotated[Path | None, typer.Option(
        "--output", "-o", help="Where the tools work; build/boards/BOARD if not "
                                    "given.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the JSON report there too.")] = None,
    as_json: Json = False,
):
    """Build a board's bitstream with tools from pip; minutes. Defaults are as `hw list` tells."""
    found  = find_board(board)
    folder = output or _folder(board)
    choice = Choice(lanes, columns, max_k, clock and round(clock * 1e6), baud, seed, seeds)
    check_work_folder(folder, ["build.json", "build_top.sh"])
    with progress(f"building {board}", STEPS) as advance:
        built = build_board(found, choice, folder, advance)
    if report:
        write_json(report, built)
    if as_json:
        print_json(built)
        return
    _show_build(built, folder)
    print(f"report     {report or folder / 'build.json'}")


def _show_build(built, folder):
    device, met = built["device"], built["clock"]
    print(f"device     L = {device['lanes']}, B = {device['columns']}, K up to {device['max_k']}, "
          f"build {device['build_id']:08x}")
    print(f"clock      {met['achieved']:g} MHz reached, {met['constraint']:g} wanted")
    if len(built["reached"]) > 1:
        print("seeds      " + ", ".join(f"{seed}: {clock:g} MHz" for seed, clock
                                        in sorted(built["reached"].items())))
    print(f"line       {built['baud']} baud")
    for cell, (used, available) in built["cells"].items():
        print(f"{cell:<18} {used:>6} of {available}")
    print(f"bitstream  {folder / built['bitstream']['file']}, {built['bitstream']['bytes']} bytes")


@reports_errors
def program(
    board: BoardName,
    bitstream: Annotated[Path | None, typer.Argument(
        help="As built by `hw build BOARD`, if not given.")] = None,
    flash: Annotated[bool, typer.Option("--flash", help="Into the flash, not only until power "
                                        "goes.")] = False,
):
    """Load a bitstream into a board with openFPGALoader."""
    found = find_board(board)
    path  = bitstream or find_bitstream(_folder(board))
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    loader = next(filter(None, map(shutil.which, _LOADERS)), None)
    if not loader:
        raise Failure("openFPGALoader is missing: install it (apt install openfpgaloader) or "
                      "load the file with another tool")
    command = [loader, "-b", found.loader, *(["--write-flash"] if flash else []), str(path)]
    if code := subprocess.run(command, check=False).returncode:
        raise Failure(f"{' '.join(command)}: failed ({code})")


def _folder(board):
    return Path("build/boards") / board


@reports_errors
def selftest_command(
    port: Annotated[str, typer.Option(help="Serial port of the board: /dev/ttyUSB0, COM3, "
                                    "or a URL of pyserial.")],
    baud: Annotated[int, typer.Option(help="Bits a second, as `hw list` tells.")] = BAUD,
    timeout: Annotated[float, typer.Option(help="Seconds of silence before a retry.")] = TIMEOUT,
    seconds: Annotated[float, typer.Option(help="How long to try random products.")] = 60.0,
    jobs: Annotated[int | None, typer.Option(
        help="Try so many random products instead, however long it takes.")] = None,
    size: Annotated[int, typer.Option(help="Bytes of the largest packed matrix.")] = 1 << 18,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random products.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Report to write.")] =
        Path("build/selftest.json"),
    as_json: Json = False,
):
    """Try out a board: refusals, known products at every depth, random ones for a while."""
    soak = Soak(seconds, jobs, size, seed)
    transport = SerialTransport(port, baud, timeout)
    try:
        with progress("trying", jobs or seconds) as advance:
            report = asyncio.run(selftest(Device(transport), soak, advance))
    finally:
        transport.close()
    write_json(output, report)
    if as_json:
        print_json(report)
        return
    _show(report)
    print(f"report: {output}")


def _show(report):
    device, soak, counters = report["device"], report["soak"], report["counters"]
    print(f"device    L = {device['lanes']}, B = {device['columns']}, K up to {device['max_k']}, "
          f"{device['clock_hz'] / 1e6:g} MHz, build {device['build_id']:08x}")
    print(f"refusals  {report['refusals']} wrong requests refused")
    print(f"known     {report['known']} products right")
    print(f"soak      {soak['jobs']} products in {soak['seconds']:.1f} s, "
          f"{soak['rows_compared']} rows right, {soak['bytes_per_second']} bytes of weights/s")
    print(f"link      {report['retries']} retries")
    print(f"counters  {counters['frames_good']} frames good, {counters['frames_bad']} bad, "
          f"last error {counters['last_error']}, {counters['cycles']} cycles")
