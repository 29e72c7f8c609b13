"""Projects for Vivado, of boards that no tool from pip can build. Yosys checks them."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tritstream.golden.atomic_write import write_json
from tritstream.hw.boards.board import Board
from tritstream.hw.boards.build import Choice, plan_board
from tritstream.hw.tools.area import synthesized_area
from tritstream.hw.tools.export import to_verilog
from tritstream.hw.tools.synth import SynthError, synthesize, tool_versions

__all__ = ["STEPS", "check_cells", "finish_project", "write_project"]

#: Number of steps: plan, synthesis.
STEPS = 2

_README = (
    "{title}: {what}, build id {build_id:08x}, written by `{command}`.\n"
    "`vivado -mode batch -source {script}` makes {product}; its timing report says whether "
    "{clock:g} MHz are met.\n"
    "No tool of AMD has read these files. Yosys synthesized {top}: {used}.\n")


def write_project(board: Board, choice: Choice, folder: Path, advance: Callable) -> dict:
    """Write the project of a board for Vivado into ``folder``, and return a report.

    The report is also written to ``project.json``. Yosys synthesizes the top module, so that cells
    and connections are those of the family, and the design fits the FPGA; there is no placement and
    no clock. ``advance(count, label)`` is called when ``count`` more of the :data:`STEPS` steps are
    finished and step ``label`` starts.

    Raises :class:`.SynthError` if a tool is missing or fails, or if the FPGA is too small.
    Raises :class:`ValueError` if the board is built by other tools, or if the device or the clock
    is invalid.
    """
    if not board.family.vivado:
        raise ValueError(f"{board.name} is built by tools from pip: leave out --plan")
    advance(0, "plan")
    plan, config = plan_board(board, choice)
    plan.files["top.v"] = to_verilog(plan.files.pop("top.il"))
    plan.files.pop("top.debug.v")
    plan.extract(folder)
    advance(1, "yosys")
    counted = synthesize(plan.files["top.v"], folder / "yosys", board.family.vivado)
    report = {"board": board.name, "command": f"{choice.command(board.name, 'seed')} --plan",
              "device": asdict(config), "baud": choice.of(board, "baud"),
              "cells": check_cells(board.name, counted, board.cells),
              "tools": tool_versions(board.family.vivado)}
    finish_project(report, folder, board.title, "project for Vivado", "top.tcl", "top.bit", "top.v")
    advance(1)
    return report


def check_cells(name: str, counted: dict, available: dict) -> dict[str, list[int]]:
    """Return used and available cells; raise :class:`.SynthError` if there are too few."""
    used  = synthesized_area(counted)
    cells = {column: [used[column], count] for column, count in available.items()}
    for column, (need, count) in cells.items():
        if need > count:
            raise SynthError(f"{name}: the device takes {need} {column}, the FPGA has {count}; "
                             "take fewer --lanes or --columns, or a smaller --max-k")
    return cells


def finish_project(report: dict, folder: Path, title: str, what: str, script: str, product: str,
                   top: str) -> None:
    """Write the report of a project, ``project.json``, and a README of three lines.

    Parameters
    ----------
    report : dict
        Report of :func:`write_project`.
    folder : Path
        Folder of the project.
    title, what : str
        Board, and what the folder has.
    script, product, top : str
        Files: for Vivado, what Vivado makes of it, and what Yosys synthesized.
    """
    device = report["device"]
    write_json(folder / "project.json", report)
    (folder / "README").write_text(_README.format(
        title=title, what=what, build_id=device["build_id"], command=report["command"],
        script=script, product=product, clock=device["clock_hz"] / 1e6, top=top,
        used=", ".join(f"{used} of {count} {column}"
                       for column, (used, count) in report["cells"].items())))
