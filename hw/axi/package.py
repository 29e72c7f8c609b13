"""Package of the core for other tools: Verilog, register map, FuseSoC, IP-XACT, Vivado, Vitis."""

from pathlib import Path

from tritstream.hw.axi.block_design import kv260_tcl
from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.ip_xact import VERSION, ip_xact
from tritstream.hw.axi.register_files import c_header, register_table, system_rdl
from tritstream.hw.axi.verilog import AXI_CORE, axi_verilog
from tritstream.hw.axi.vitis import kernel_files

__all__ = ["package_files"]

#: Sources of the C example, which are part of the package.
_C = Path(__file__).parent / "c"

_FUSESOC = f"""\
CAPI=2:
name: tritstream:ip:{AXI_CORE}:{VERSION}
description: Ternary GEMV engines behind AXI4 masters

filesets:
  rtl:
    files: [{AXI_CORE}.v]
    file_type: verilogSource

targets:
  default: &default
    filesets: [rtl]
    toplevel: {AXI_CORE}
  lint:
    <<: *default
    flow: lint
    flow_options:
      tool: verilator
      verilator_options: [-Wall]
"""


def package_files(config: AxiConfig, family: str = "generic") -> tuple[dict[str, str], AxiConfig]:
    """Return the files of a package by path, and ``config`` with its build id.

    Raises :class:`ValueError` if the family is unknown (:func:`.axi_verilog`).
    """
    verilog, config = axi_verilog(config, family)
    source = f"{AXI_CORE}.v"
    return {
        source:                   verilog,
        f"{AXI_CORE}.rdl":        system_rdl(config),
        f"{AXI_CORE}.h":          c_header(),
        f"{AXI_CORE}_registers.md": register_table(),
        f"{AXI_CORE}.core":       _FUSESOC,
        "component.xml":          ip_xact(config, [source]),
        **{path.name: path.read_text() for path in sorted(_C.iterdir())},
        "kv260.tcl":              kv260_tcl(config),
        **{f"vitis/{name}": text for name, text in kernel_files(config).items()},
    }, config
