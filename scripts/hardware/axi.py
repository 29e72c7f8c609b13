"""Command that writes the memory-mapped core as a package."""

from typing import Annotated

import typer

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.package import package_files
from tritstream.hw.config import DeviceConfig
from tritstream.hw.tools.core_export import FAMILIES
from tritstream.scripts.console import reports_errors, write_text
from tritstream.scripts.options import Columns, Lanes, MaxK, Output

__all__ = ["axi"]


@reports_errors
def axi(
    output: Output,
    channels: Annotated[int, typer.Option(
        help="Memory channels, 1..32. Each has an engine and an AXI4 master.")] = 1,
    lanes: Lanes = 32, columns: Columns = 1, max_k: MaxK = 32768,
    clock: Annotated[int, typer.Option(
        help="Clock in Hz that the engines report to the host; 0 means unknown.")] = 0,
    burst: Annotated[int, typer.Option(
        help="Largest number of beats per burst, a power of two. A burst has 64 to 4096 "
             "bytes.")] = 64,
    outstanding: Annotated[int, typer.Option(
        help="Largest number of outstanding read bursts per channel.")] = 16,
    depth: Annotated[int, typer.Option(
        "--buffer", help="Words that a channel has requested or buffered at most. For full rate, "
                         "the latency of the memory in cycles and two bursts.")] = 512,
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
