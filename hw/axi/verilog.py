"""Verilog of the memory-mapped core."""

from dataclasses import replace

from amaranth.back import rtlil

from tritstream.hw.axi.channel import Channel
from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.names import CORE
from tritstream.hw.axi.top import CHANNEL_MODULE, TritstreamAxi
from tritstream.hw.tools.core_export import FAMILIES, verilog_file
from tritstream.hw.tools.export import to_rtlil, to_verilog

__all__ = ["AXI_CORE", "axi_plain", "axi_verilog"]

#: Name of the top module, and prefix of every other module in its file.
AXI_CORE = CORE.top

_HEADER = """\
// {core}: ternary GEMV engines behind AXI4 masters, with AXI4-Lite registers.
//
//   channels {channels}, lanes {lanes} (data bus {bits} bits), columns {columns}, K up to {max_k}
//   bursts of up to {burst} beats, {outstanding} outstanding, {depth} words buffered per channel
//   family: {family}
//   build id {build_id:08x}
//   SPDX-License-Identifier: Apache-2.0
//
// Generated; registers and integration: docs/axi.md, frames in memory: docs/protocol.md.
//
"""


def axi_verilog(config: AxiConfig, family: str = "generic") -> tuple[str, AxiConfig]:
    """Return the core as self-contained Verilog-2005, and ``config`` with its build id.

    The top module is :data:`AXI_CORE`. ``family`` is one of :data:`.FAMILIES`. Raises
    :class:`ValueError` if the family is unknown.
    """
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, not {family!r}")
    platform, title = FAMILIES[family]
    design, config = _design(config, platform)
    device = config.device
    header = _HEADER.format(
        core=AXI_CORE, channels=config.channels, lanes=config.lanes, bits=device.word_bits,
        columns=device.columns, max_k=device.max_k, burst=config.burst,
        outstanding=config.outstanding, depth=config.depth, family=title, build_id=device.build_id)
    return verilog_file(design, header), config


def axi_plain(config: AxiConfig) -> str:
    """Return the core as Verilog-2001 for a compiled simulation; the top is :data:`AXI_CORE`."""
    return to_verilog(_design(config)[0])


def _design(config: AxiConfig, platform: object = None) -> tuple[str, AxiConfig]:
    """Return the core as RTLIL, and ``config`` with its build id."""
    # One module for all channels, so that the file does not grow with their number.
    channel, device = to_rtlil(Channel(config), config.device, CHANNEL_MODULE, platform)
    config = replace(config, device=device)
    top = rtlil.convert(TritstreamAxi(config), name=AXI_CORE, platform=platform, emit_src=False)
    return f"{top}\n{channel}", config
