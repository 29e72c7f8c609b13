"""Commands that write the device as Verilog."""

from pathlib import Path
from typing import Annotated

import typer

from tritstream.hw.config import DeviceConfig
from tritstream.hw.tools.core_export import FAMILIES, core_verilog
from tritstream.hw.tools.export import device_verilog
from tritstream.scripts.console import Failure, reports_errors, write_text
from tritstream.scripts.hardware.testbench import write_testbench

__all__ = ["testbench", "verilog"]

Lanes   = Annotated[int, typer.Option(help="Lanes, bytes of a word: 1, 2, 4, .., 64.")]
Columns = Annotated[int, typer.Option(help="Vectors taken in one pass.")]
MaxK    = Annotated[int, typer.Option(help="Longest vector.")]
Clock   = Annotated[int, typer.Option(help="Clock in Hz, told to the host.")]


@reports_errors
def verilog(
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    lanes: Lanes = 8, columns: Columns = 1, max_k: MaxK = 32768, clock: Clock = 0,
    plain: Annotated[bool, typer.Option("--plain", help="The device as `run` simulates it, for "
                                        "its option --rtl, in place of the core.")] = False,
    family: Annotated[str, typer.Option(help=f"FPGA family of the core: {', '.join(FAMILIES)}. "
                                        "For another than generic, its cells are instantiated.")] =
        "generic",
):
    """Write the IP core, a device with AXI4-Stream ports, as one Verilog file."""
    if plain and family != "generic":
        raise Failure("--plain is for simulation and has no cells of a vendor: leave out --family")
    config = DeviceConfig(lanes, columns, max_k, clock, build_id=None)
    write_text(output, device_verilog(config) if plain else core_verilog(config, family))
    print(f"Verilog: {output}")


@reports_errors
def testbench(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write to.")],
    lanes: Lanes = 8, columns: Columns = 1, max_k: MaxK = 32768, clock: Clock = 0,
):
    """Write the IP core with a Verilog testbench: requests, and the answers golden expects."""
    write_testbench(DeviceConfig(lanes, columns, max_k, clock, build_id=None), output)
    print(f"testbench: {output}; to run it there:\n"
          f"  iverilog -g2005 -o tb tritstream.v tb_tritstream.v && vvp tb")
