"""Command that writes the memory-mapped core as a package."""

from typing import Annotated

import typer

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.package import package_files
from tritstream.hw.config import DeviceConfig
from tritstream.hw.tools.core_export import FAMILIES
from tritstream.scripts.console import reports_errors, write_text
from tritstream.scripts.options import (
    Burst,
    Columns,
    Lanes,
    MaxK,
    Output,
    Outstanding,
    ReadBuffer,
)

__all__ = ["axi"]


@reports_errors
def axi(
    output: Output,
    channels: Annotated[int, typer.Option(
        help="Memory channels, 1..32. Each has an engine and an AXI4 master.")] = 1,
    lanes: Lanes = 32, columns: Columns = 1, max_k: MaxK = 32768,
    clock: Annotated[int, typer.Option(
        help="Clock in Hz that the engines report to the host; 0 means unknown.")] = 0,
    burst: Burst = 64, outstanding: Outstanding = 16, depth: ReadBuffer = 512,
    family: Annotated[str, typer.Option(
        help=f"FPGA family: {', '.join(FAMILIES)}. A family other than generic instantiates its "
             "cells.")] = "generic",
):
    """Write the memory-mapped core for AXI systems, with files for FuseSoC, Vivado and Vitis."""
    device = DeviceConfig(lanes, columns, max_k, clock, build_id=None)
    files, config = package_files(
        AxiConfig(device, channels, burst, outstanding, depth), family)
    for name, text in files.items():
        write_text(output / name, text)
    print(f"package: {output}, {channels} channels of {lanes} lanes, build id "
          f"{config.device.build_id:08x}")
