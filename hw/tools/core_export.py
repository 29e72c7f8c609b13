"""Export of the IP core as one Verilog file, and of its testbench."""

import re
from pathlib import Path

from tritstream.hw.compute.dsp_lanes import DspLanes
from tritstream.hw.compute.lane import Lane
from tritstream.hw.config import DeviceConfig
from tritstream.hw.io.axi_stream import AxiStreamDevice
from tritstream.hw.primitives.ecp5 import Ecp5
from tritstream.hw.primitives.xilinx import XC7, XCUP
from tritstream.hw.tools.export import run_yosys, to_rtlil

__all__ = ["CORE", "FAMILIES", "core_verilog", "export_core", "testbench_verilog",
           "verilog_file"]


#: Name of the top module, and prefix of every other module in its file.
CORE = "tritstream"


# Multiplexers become expressions and unused names are removed, which reduces lines, warnings and
# LUTs.
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
//     .s_axis_tlast  (s_axis_tlast),    // ignored: the frame header has the length
//     .m_axis_tdata  (m_axis_tdata),    // [{top}:0]
//     .m_axis_tvalid (m_axis_tvalid),
//     .m_axis_tready (m_axis_tready),
//     .m_axis_tlast  (m_axis_tlast)     // last word of a frame
//   );
//
"""


#: FPGA families of an exported core: platform for ``elaborate``, and a line for the file header.
FAMILIES = {
    "generic": (None, "any; memories and multipliers are inferred"),
    "ecp5":    (Ecp5(), "Lattice ECP5; CCU2C, LUT4, DP16KD and MULT18X18D are instantiated"),
    "xc7":     (XC7, "AMD 7-series; LUT4, CARRY4, RAMB18E1 and DSP48E1 are instantiated"),
    "xcup":    (XCUP, "AMD UltraScale+; LUT4, CARRY8, RAMB18E2 and DSP48E2 are instantiated"),
}


#: Verilator warnings that the file turns off for itself, with the reason.
_EXCEPTIONS = {
    "DECLFILENAME": "one file holds all modules",
    "PROCASSINIT":  "registers have power-on values, for FPGAs, in addition to their reset",
    "UNUSEDSIGNAL": "carries that are always zero; fields that are not needed everywhere",
    "WIDTHEXPAND":  "Yosys writes operators that rely on the width rules of Verilog",
    "WIDTHTRUNC":   "as for WIDTHEXPAND",
}


#: Families with a cell for the accumulators of :class:`.DspLanes`.
_DSP_FAMILIES = ("xc7", "xcup")


def core_verilog(config: DeviceConfig, family: str = "generic", dsp_lanes: bool = False) -> str:
    """Return the IP core as self-contained Verilog-2005 with the top module :data:`CORE`.

    ``family`` is one of :data:`FAMILIES`. Every family except ``generic`` instantiates vendor
    cells. With ``dsp_lanes`` the group sums are in DSP blocks (:class:`.DspLanes`). Raises
    :class:`ValueError` if the family is unknown, or has no such DSP blocks.
    """
    return export_core(config, family, dsp_lanes)[0]


def export_core(config: DeviceConfig, family: str = "generic",
                dsp_lanes: bool = False) -> tuple[str, DeviceConfig]:
    """Return the Verilog of :func:`core_verilog`, and ``config`` with its build id."""
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, not {family!r}")
    if dsp_lanes and family not in _DSP_FAMILIES:
        raise ValueError(f"lanes of DSP blocks need the family {' or '.join(_DSP_FAMILIES)}, not "
                         f"{family!r}")
    platform, title = FAMILIES[family]
    if dsp_lanes:
        vendor = title.partition(";")[0]
        title  = f"{vendor}; RAMB18 and DSP48 are instantiated, and DSP48 hold the group sums"
    core = AxiStreamDevice(config, DspLanes if dsp_lanes else Lane)
    design, config = to_rtlil(core, config, CORE, platform)
    header = _HEADER.format(
        lanes=config.lanes, bits=config.word_bits, top=config.word_bits - 1,
        columns=config.columns, max_k=config.max_k, family=title, build_id=config.build_id)
    return verilog_file(design, header), config


def verilog_file(design: str, header: str) -> str:
    """Return a design in RTLIL as a self-contained file of Verilog-2005.

    ``header`` is the comment at its start, whole lines.
    """
    exceptions = "\n".join(f"//   {name:13} {why}" for name, why in _EXCEPTIONS.items())
    body = _plain_names(_without_zeros(run_yosys(design, _SCRIPT)))
    return (f"{header}// Warnings of verilator -Wall that are suppressed, and why:\n"
            f"{exceptions}\n\n{_lint('off')}\n`default_nettype none\n\n{body}\n"
            f"`default_nettype wire\n{_lint('on')}\n")


def testbench_verilog(config: DeviceConfig) -> str:
    """Return a testbench in Verilog-2005 that replays ``requests.hex``.

    The testbench compares the responses with ``answers.hex``.
    """
    text = (Path(__file__).parent / "tb_tritstream.v").read_text()
    return re.sub(r"(parameter LANES =) \d+", rf"\1 {config.lanes}", text, count=1)


def _lint(switch: str) -> str:
    return "\n".join(f"/* verilator lint_{switch} {name} */" for name in _EXCEPTIONS)


def _without_zeros(verilog: str) -> str:
    """Remove the initial contents of memories that are initialized to zeros.

    No row is used before it is written. Each row is a line of its own, so the file is much shorter
    and faster to read.
    """
    return re.sub(r"  initial begin\n    (\S+ ?)\[0\] = (\d+'[dh]0+);\n"
                  r"(?:    \1\[\d+\] = \2;\n)+  end\n", "", verilog)


def _plain_names(verilog: str) -> str:
    """Replace escaped names, which some tools do not accept, by plain names."""
    def plain(name: re.Match[str]) -> str:
        return re.sub(r"^\$", "_", name[1]).replace(".", "_") + " "

    return re.sub(r"\\([\w.$]*[.$][\w.$]*) ", plain, verilog)
