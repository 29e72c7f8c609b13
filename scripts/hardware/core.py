"""Commands that write the device as Verilog."""

from pathlib import Path
from typing import Annotated

import typer

from tritstream.hw.config import DeviceConfig
from tritstream.hw.tools.core_export import FAMILIES, core_verilog
from tritstream.hw.tools.export import device_verilog
from tritstream.scripts.console import Failure, reports_errors, write_text
from tritstream.scripts.hardware.testbench import write_testbench
from tritstream.scripts.options import Columns, Lanes, MaxK, Output

__all__ = ["testbench", "verilog"]

Clock = Annotated[int, typer.Option(
    help="Clock in Hz that the device reports to the host; 0 means unknown.")]


@reports_errors
def verilog(
    output: Annotated[Path, typer.Option("--output", "-o", help="Verilog file to write.")],
    lanes: Lanes = 8, columns: Columns = 1, max_k: MaxK = 32768, clock: Clock = 0,
    plain: Annotated[bool, typer.Option(
        "--plain", help="Write the device without AXI4-Stream ports, as `run --rtl` simulates "
                        "it.")] = False,
    family: Annotated[str, typer.Option(
        help=f"FPGA family of the core: {', '.join(FAMILIES)}. A family other than generic "
             "instantiates its cells.")] = "generic",
    dsp_lanes: Annotated[bool, typer.Option(
        "--dsp-lanes", help="Keep the sums of the lanes in DSP blocks, five for two lanes, which "
                            "saves LUTs. For the families xc7 and xcup.")] = False,
):
    """Write the IP core, a device with AXI4-Stream ports, as one Verilog file."""
    if plain and (family != "generic" or dsp_lanes):
        raise Failure("--plain is for simulation and has no cells of a vendor: leave out --family "
                      "and --dsp-lanes")
    config = DeviceConfig(lanes, columns, max_k, clock, build_id=None)
    write_text(output, device_verilog(config) if plain else core_verilog(
        config, family, dsp_lanes))
    print(f"Verilog: {output}")


@reports_errors
def testbench(
    output: Output,
    lanes: Lanes = 8, columns: Columns = 1, max_k: MaxK = 32768, clock: Clock = 0,
):
    """Write the IP core, a Verilog testbench, and requests with the responses golden expects."""
    write_testbench(DeviceConfig(lanes, columns, max_k, clock, build_id=None), output)
    print(f"testbench: {output}; to run it there:\n"
          f"  iverilog -g2005 -o tb tritstream.v tb_tritstream.v && vvp tb")
