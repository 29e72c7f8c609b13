"""Project of a Kria KV260 for Vivado: package of the core, block design, check by Yosys."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.package import package_files
from tritstream.hw.axi.top import CHANNEL_MODULE
from tritstream.hw.axi.verilog import AXI_CORE
from tritstream.hw.boards.build import Choice
from tritstream.hw.boards.vivado import check_cells, finish_project
from tritstream.hw.config import DeviceConfig
from tritstream.hw.tools.synth import synthesize, tool_versions

__all__ = ["KV260", "System", "write_system"]

_FAMILY = "xcup"


@dataclass(frozen=True)
class System:
    """Board whose processor runs the memory-mapped core, and the core that it carries by default.

    Parameters
    ----------
    name, title : str
        Name in commands, and full name with the FPGA part.
    channels, lanes, columns, max_k, clock_hz : int
        Parameters of the core, see :class:`.AxiConfig`.
    cells : dict
        What the FPGA has, by column of :func:`.synthesized_area`.
    """

    name:     str
    title:    str
    channels: int
    lanes:    int
    columns:  int
    max_k:    int
    clock_hz: int
    cells:    dict[str, int]


#: One channel per port of 128 bits to memory, at the rate of the DDR4: 16 GB/s of 19.2.
KV260 = System("kv260", "AMD Kria KV260, XCK26", channels=4, lanes=16, columns=1, max_k=32768,
               clock_hz=250_000_000,
               cells={"LUT": 117120, "flip-flops": 234240, "RAMB18": 288, "DSP48": 1248})


def write_system(system: System, choice: Choice, folder: Path, advance: Callable) -> dict:
    """Write the project of a system for Vivado into ``folder``, and return a report.

    Like :func:`tritstream.hw.boards.vivado.write_project`, with the same steps. Yosys synthesizes
    the core, not the blocks of AMD around it.

    Raises :class:`.SynthError` if a tool is missing or fails, or if the FPGA is too small.
    Raises :class:`ValueError` if a parameter is invalid, or is of a serial line or of a placement.
    """
    if choice.baud or choice.seeds or choice.seed != Choice.seed:
        raise ValueError(f"{system.name} has no serial line and is not placed: leave out --baud, "
                         "--seed and --seeds")
    advance(0, "plan")
    lanes, columns, max_k, clock = (
        choice.of(system, name) for name in ("lanes", "columns", "max_k", "clock_hz"))
    device = DeviceConfig(lanes, columns, max_k, clock, build_id=None)
    files, config = package_files(AxiConfig(device, system.channels), _FAMILY)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    advance(1, "yosys")
    source  = f"{AXI_CORE}.v"
    counted = synthesize(files[source], folder / "yosys", _FAMILY, AXI_CORE, CHANNEL_MODULE)
    report  = {"board": system.name, "command": f"{choice.command(system.name, 'seed')} --plan",
               "channels": system.channels, "device": asdict(config.device),
               "cells": check_cells(system.name, counted, system.cells),
               "tools": tool_versions(_FAMILY)}
    finish_project(report, folder, system.title,
                   f"project for Vivado with {system.channels} channels", f"{system.name}.tcl",
                   f"{system.name}.xsa with the bitstream", source)
    advance(1)
    return report
