"""The IP core as one Verilog file, and its testbench."""

import re
from pathlib import Path

from tritstream.hw.config import DeviceConfig
from tritstream.hw.io.axi_stream import AxiStreamDevice
from tritstream.hw.primitives.ecp5 import Ecp5
from tritstream.hw.tools.export import run_yosys, to_rtlil

__all__ = ["CORE", "FAMILIES", "core_verilog", "export_core", "testbench_verilog"]


#: Name of the core, and the prefix of every other module in its file.
CORE = "tritstream"


# Multiplexers as expressions, and no name that nothing uses: fewer lines, warnings and LUTs.
_SCRIPT = """
proc -norom
memory_collect
opt_expr
opt_clean -purge
attrmap -remove full_case -remove unused_bits
attrmap -modattr -remove generator -remove top
write_verilog -norename -noparallelcase
"""


_HEADER = """\
// tritstream: GEMV accelerator for packed balanced-ternary weights, AXI4-Stream both ways.
//
//   lanes {lanes} (TDATA {bits} bits), columns {columns}, K up to {max_k}
//   family: {family}
//   build id {build_id:08x}
//   SPDX-License-Identifier: Apache-2.0
//
// Generated; protocol, integration and testbench: docs/protocol.md, docs/ip-core.md.
//
//   tritstream u_tritstream (
//     .aclk          (aclk),
//     .aresetn       (aresetn),         // synchronous, low for two cycles or more
//     .s_axis_tdata  (s_axis_tdata),    // [{top}:0], byte 0 of a frame in bits 7:0
//     .s_axis_tvalid (s_axis_tvalid),
//     .s_axis_tready (s_axis_tready),
//     .s_axis_tlast  (s_axis_tlast),    // ignored: a frame's header tells its length
//     .m_axis_tdata  (m_axis_tdata),    // [{top}:0]
//     .m_axis_tvalid (m_axis_tvalid),
//     .m_axis_tready (m_axis_tready),
//     .m_axis_tlast  (m_axis_tlast)     // last word of a frame
//   );
//
// Lint (verilator -Wall), what is let pass and why:
{exceptions}

{off}
`default_nettype none

"""


#: Families that a core can be exported for: platform for ``elaborate``, and a line for its header.
FAMILIES = {
    "generic": (None, "any; memories and multipliers are inferred"),
    "ecp5":    (Ecp5(), "Lattice ECP5; CCU2C, DP16KD and MULT18X18D are instantiated"),
}


#: Warnings that the file turns off for itself.
_EXCEPTIONS = {
    "DECLFILENAME": "one file holds all modules",
    "PROCASSINIT":  "registers have power-on values, for FPGAs, beside their reset",
    "UNUSEDSIGNAL": "carries that the number formats keep at zero; fields not needed everywhere",
    "WIDTHEXPAND":  "operators rely on Verilog's own rules for widths, as Yosys writes them",
    "WIDTHTRUNC":   "the same",
}


def core_verilog(config: DeviceConfig, family: str = "generic") -> str:
    """Verilog-2005 of the IP core, self-contained, its top module named :data:`CORE`.

    ``family`` is one of :data:`FAMILIES`; for another than ``generic``, cells of the vendor are
    instantiated. Raises :class:`ValueError` for an unknown family.
    """
    return export_core(config, family)[0]


def export_core(config: DeviceConfig, family: str = "generic") -> tuple[str, DeviceConfig]:
    """Verilog as of :func:`core_verilog`, and the configuration with its build id."""
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, not {family!r}")
    platform, title = FAMILIES[family]
    design, config = to_rtlil(AxiStreamDevice(config), config, CORE, platform)
    body = run_yosys(design, _SCRIPT)
    header = _HEADER.format(
        lanes=config.lanes, bits=config.word_bits, top=config.word_bits - 1,
        columns=config.columns, max_k=config.max_k, family=title, build_id=config.build_id,
        off=_lint("off"),
        exceptions="\n".join(f"//   {name:13} {why}" for name, why in _EXCEPTIONS.items()))
    text = f"{header}{_plain_names(_without_zeros(body))}\n`default_nettype wire\n{_lint('on')}\n"
    return text, config


def testbench_verilog(config: DeviceConfig) -> str:
    """Testbench that replays ``requests.hex`` and compares ``answers.hex``; Verilog-2005."""
    text = (Path(__file__).parent / "tb_tritstream.v").read_text()
    return re.sub(r"(parameter LANES =) \d+", rf"\1 {config.lanes}", text, count=1)


def _lint(switch):
    return "\n".join(f"/* verilator lint_{switch} {name} */" for name in _EXCEPTIONS)


def _without_zeros(verilog):
    """Memories that begin as zeros may begin as anything: no row counts before it is written.

    Each row would be a line, which takes Yosys minutes.
    """
    return re.sub(r"  initial begin\n    (\S+ ?)\[0\] = (\d+'[dh]0+);\n"
                  r"(?:    \1\[\d+\] = \2;\n)+  end\n", "", verilog)


def _plain_names(verilog):
    """Generated names without the backslash and the dots that some tools do not take."""
    def plain(name):
        return re.sub(r"^\$", "_", name[1]).replace(".", "_") + " "

    return re.sub(r"\\([\w.$]*[.$][\w.$]*) ", plain, verilog)
