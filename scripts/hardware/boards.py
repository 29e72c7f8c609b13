"""Commands on boards: list, build, program, selftest."""

import asyncio
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from tritstream.golden.jobs.replacing import check_work_folder
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup, together
from tritstream.host.open_device import open_device
from tritstream.host.transports.serial_line import BAUD, TIMEOUT, SerialTransport
from tritstream.hw.axi.project import KV260, write_system
from tritstream.hw.boards import vivado
from tritstream.hw.boards.build import (
    STEPS,
    Choice,
    build_board,
    find_bitstream,
    needs_vivado,
)
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
from tritstream.scripts.options import Json, PlaceSeed, PlaceSeeds, Report

__all__ = ["build", "list_boards", "program", "selftest_command"]

#: openFPGALoader's own name, and that of the package openfpgaloader.
_LOADERS = ("openFPGALoader", "openfpgaloader-cli")

BoardName = Annotated[str, typer.Argument(help="Name of the board, from `tritstream hw list`.")]
#: Default of an option that the board decides.
_BOARD = "the board's own"


@reports_errors
def list_boards(as_json: Json = False):
    """List the boards, each with the device that `hw build` builds for it by default."""
    boards: list[dict[str, object]] = [{
        "name": board.name, "board": board.title, "lanes": board.lanes, "columns": board.columns,
        "max_k": board.max_k, "clock_mhz": board.clock_hz / 1e6, "baud": board.baud,
        "bridge": board.bridge, "tools": "Vivado" if board.family.vivado else "pip"}
        for board in BOARDS.values()]
    boards.append({
        "name": KV260.name, "board": KV260.title, "lanes": KV260.lanes, "columns": KV260.columns,
        "max_k": KV260.max_k, "clock_mhz": KV260.clock_hz / 1e6, "baud": None,
        "bridge": f"none: {KV260.channels} channels to memory", "tools": "Vivado"})
    if as_json:
        print_json(boards)
        return
    table("", ["name", "board", "L", "B", "max K", "MHz", "baud", "bridge",
               "tools"],
          [["-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
            for value in board.values()] for board in boards])


@reports_errors
def build(
    board: BoardName,
    lanes: Annotated[int | None, typer.Option(
        help="Lanes of the device, that is, bytes per stream word: 1, 2, 4, .., 64.",
        show_default=_BOARD)] = None,
    columns: Annotated[int | None, typer.Option(
        help="Activation vectors per pass of the device.", show_default=_BOARD)] = None,
    max_k: Annotated[int | None, typer.Option(
        help="Length of the longest activation vector that the device stores.",
        show_default=_BOARD)] = None,
    clock: Annotated[float | None, typer.Option(
        help="Clock of the device in MHz.", show_default=_BOARD)] = None,
    baud: Annotated[int | None, typer.Option(
        help="Bits per second of the serial line.", show_default=_BOARD)] = None,
    seed: PlaceSeed = 1,
    seeds: PlaceSeeds = None,
    output: Annotated[Path | None, typer.Option(
        "--output", "-o", help="Work directory of the tools.",
        show_default="build/boards/BOARD")] = None,
    plan: Annotated[bool, typer.Option(
        "--plan", help="Write the project for Vivado of a board that no tool from pip can build, "
                       "and check it by synthesis.")] = False,
    report: Report = None,
    as_json: Json = False,
):
    """Build the bitstream of a board with tools from pip, in some minutes.

    `tritstream hw list` shows the defaults of each board.
    """
    folder = output or _folder(board)
    choice = Choice(lanes, columns, max_k, round(clock * 1e6) if clock else None, baud, seed, seeds)
    if plan:
        written = _write_project(board, choice, folder)
        if report:
            write_json(report, written)
        print_json(written) if as_json else _show_project(written, folder)
        return
    if board == KV260.name:
        raise needs_vivado(board)
    found = find_board(board)
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


def _write_project(name, choice, folder):
    board, write = (KV260, write_system) if name == KV260.name else (
        find_board(name), vivado.write_project)
    check_work_folder(folder, ["project.json", "build_top.sh", f"{KV260.name}.tcl"])
    with progress(f"writing {name}", vivado.STEPS) as advance:
        return write(board, choice, folder, advance)


def _show_project(written, folder):
    _show_device(written["device"])
    for cell, (used, available) in written["cells"].items():
        print(f"{cell:<18} {used:>6} of {available}, by Yosys")
    print(f"project    {folder}, not run through Vivado: see README there")


def _show_device(device):
    print(f"device     L = {device['lanes']}, B = {device['columns']}, K up to {device['max_k']}, "
          f"build {device['build_id']:08x}")


def _show_build(built, folder):
    met = built["clock"]
    _show_device(built["device"])
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
        help="Bitstream to load.", show_default="the one that `hw build BOARD` built")] = None,
    flash: Annotated[bool, typer.Option(
        "--flash", help="Write the bitstream to the flash, so that it survives a power cycle.")] =
        False,
):
    """Load a bitstream into a board with openFPGALoader."""
    if board == KV260.name:
        raise Failure(f"{board} is loaded by its own processor: copy the bitstream there, and use "
                      "fpgautil or PYNQ")
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
    port: Annotated[str | None, typer.Option(
        help="Serial port of the board: /dev/ttyUSB0, COM3, or a URL of pyserial.",
        show_default="--device")] = None,
    device: Annotated[str | None, typer.Option(
        help="Device to test in place of a board on a serial port, specified as for `tritstream "
             "run`. Channels of a memory-mapped core are tested together.",
        show_default="--port")] = None,
    baud: Annotated[int, typer.Option(
        help="Bits per second of the serial line, from `tritstream hw list`.")] = BAUD,
    timeout: Annotated[float, typer.Option(
        help="Seconds without a response after which a request is sent again.")] = TIMEOUT,
    seconds: Annotated[float, typer.Option(
        help="Duration of the random products in seconds.")] = 60.0,
    jobs: Annotated[int | None, typer.Option(
        help="Number of random products to run; replaces --seconds.")] = None,
    size: Annotated[int, typer.Option(
        help="Size of the largest packed matrix in bytes.")] = 1 << 18,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the products.")] = 0,
    output: Annotated[Path, typer.Option(
        "--output", "-o", help="Write the report to this JSON file.")] =
        Path("build/selftest.json"),
    as_json: Json = False,
):
    """Test a board: invalid requests, known products, then random products."""
    if (port is None) == (device is None):
        raise ValueError("give --port or --device")
    soak = Soak(seconds, jobs, size, seed)
    opened = open_device(device) if device else Device(SerialTransport(str(port), baud, timeout))
    reports = asyncio.run(_try(opened, soak))
    report = {"devices": reports} if len(reports) > 1 else reports[0]
    write_json(output, report)
    if as_json:
        print_json(report)
        return
    for one in reports:
        _show(one)
    print(f"report: {output}")


async def _try(opened: Device | DeviceGroup, soak: Soak) -> list[dict]:
    """Test the devices of a group at the same time; return the report of each."""
    async with opened:
        total = len(opened.devices) * (soak.jobs or soak.seconds)
        with progress("trying", total) as advance:
            return await together(selftest(one, soak, advance) for one in opened.devices)


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
