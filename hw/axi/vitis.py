"""The core as an RTL kernel of Vitis: wrapper, kernel.xml, packaging, connections to HBM.

Sources: AMD UG1700, UG1702 and UG1393: requirements of RTL kernels, kernel.xml, user-managed
kernels, options of the linker.
"""

from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

from amaranth.lib.wiring import In

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.interfaces import LITE_ADDRESS_BITS
from tritstream.hw.axi.ip_xact import VENDOR, VERSION, ip_xact, xml_text
from tritstream.hw.axi.names import CORE, KERNEL, UNTRIED
from tritstream.hw.axi.registers import register
from tritstream.hw.axi.top import core_ports, master

__all__ = ["CARDS", "Card", "kernel_files", "kernel_xml"]


@dataclass(frozen=True)
class Card:
    """Accelerator card with HBM.

    Parameters
    ----------
    title : str
        Name and memory.
    platform : str
        Platform of Vitis.
    banks : int
        Pseudo channels of the HBM, each a memory resource of the linker.
    """

    title:    str
    platform: str
    banks:    int = 32


CARDS = {
    "u55c": Card("Alveo U55C, 16 GB of HBM2", "xilinx_u55c_gen3x16_xdma_3_202210_1"),
    "u280": Card("Alveo U280, 8 GB of HBM2", "xilinx_u280_gen3x16_xdma_1_202211_1"),
}

_WRAPPER = f"""\
// {KERNEL.top}: {CORE.top} with the ports of an RTL kernel of Vitis. Registers: docs/axi.md.
// SPDX-License-Identifier: Apache-2.0
// {UNTRIED}
`default_nettype none
/* verilator lint_off PINCONNECTEMPTY */

module {KERNEL.top}(
{{ports}}
);
  {CORE.top} core (
{{connections}}
  );
endmodule

/* verilator lint_on PINCONNECTEMPTY */
`default_nettype wire
"""

_PACKAGE = f"""\
# {UNTRIED}
# Makes {KERNEL.top}.xo, the kernel for `v++ --link`:  vivado -mode batch -source package.tcl
set here [file dirname [file normalize [info script]]]
file copy -force $here/../{CORE.top}.v $here
create_project -in_memory -part xcu55c-fsvh2892-2L-e
set core [ipx::open_ipxact_file $here/component.xml]
set_property sdx_kernel true $core
set_property sdx_kernel_type rtl $core
set_property vitis_drc {{ctrl_protocol user_managed}} $core
set_property ipi_drc {{ignore_freq_hz true}} $core
ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity -kernel $core
ipx::save_core $core
package_xo -force -xo_path $here/{KERNEL.top}.xo -kernel_name {KERNEL.top} \\
    -ip_directory $here -kernel_xml $here/kernel.xml
"""


def kernel_files(config: AxiConfig) -> dict[str, str]:
    """Return the files of the kernel by name. They need the Verilog of the core beside them."""
    sources = [f"{CORE.top}.v", f"{KERNEL.top}.v"]
    return {
        sources[1]:      _wrapper(config),
        "component.xml": ip_xact(config, sources, KERNEL),
        "kernel.xml":    kernel_xml(config),
        "package.tcl":   _PACKAGE,
        **{f"{name}.cfg": _linker(card, config) for name, card in CARDS.items()},
    }


def kernel_xml(config: AxiConfig) -> str:
    """Return the description of the kernel for the runtime XRT.

    The control protocol is ``user_managed``: XRT neither starts nor stops the kernel, and programs
    access its registers. The arguments tell XRT which memories each master reaches,
    and where the addresses of memory and ring are written.
    """
    root   = Element("root", versionMajor="1", versionMinor="9")
    kernel = SubElement(root, "kernel", {
        "name": KERNEL.top, "language": "ip",
        "vlnv": f"{VENDOR}:kernel:{KERNEL.top}:{VERSION}", "attributes": "",
        "preferredWorkGroupSizeMultiple": "0", "workGroupSize": "1", "interrupt": "false",
        "hwControlProtocol": "user_managed"})
    ports = SubElement(kernel, "ports")
    _port(ports, KERNEL.slave, "slave", 1 << LITE_ADDRESS_BITS, 32)
    arguments = SubElement(kernel, "args")
    for channel in range(config.channels):
        _port(ports, master(channel), "master", (1 << 64) - 1, 8 * config.lanes)
        for place, what in ((2 * channel, "memory"), (2 * channel + 1, "ring")):
            low = "base_low" if what == "memory" else "ring_low"
            SubElement(arguments, "arg", {
                "name": f"channel{channel}_{what}", "addressQualifier": "1", "id": str(place),
                "port": master(channel), "size": "0x8", "offset": hex(register(low, channel)),
                "type": "void*", "hostOffset": "0x0", "hostSize": "0x8"})
    return xml_text(root)


def _port(ports: Element, name: str, mode: str, size: int, bits: int) -> None:
    SubElement(ports, "port", {
        "name": name, "mode": mode, "range": f"{size:#x}", "dataWidth": str(bits),
        "portType": "addressable", "base": "0x0"})


def _wrapper(config: AxiConfig) -> str:
    """Return the top module of the kernel, which renames ports of the core."""
    names = {name: KERNEL.port(name) or "" for name in core_ports(config)}
    ports = [f"  {'input  wire' if member.flow == In else 'output wire'} "
             f"{f'[{member.shape - 1}:0] ' if member.shape > 1 else ''}{names[name]}"
             for name, member in core_ports(config).items() if names[name]]
    connections = [f"    .{inner}({outer})" for inner, outer in names.items()]
    return _WRAPPER.format(ports=",\n".join(ports), connections=",\n".join(connections))


def _linker(card: Card, config: AxiConfig) -> str:
    """Return the connections of each master to an equal part of the memory of a card."""
    unit  = f"{KERNEL.top}_1"
    edges = [bank * card.banks // config.channels for bank in range(config.channels + 1)]
    clock = config.device.clock_hz
    return "\n".join([
        f"# {UNTRIED}",
        f"# {card.title}:  v++ --link --config FILE -o tritstream.xclbin {KERNEL.top}.xo",
        f"platform={card.platform}", "",
        *(["[clock]", f"freqHz={clock}:{unit}.{KERNEL.clock}", ""] if clock else []),
        "[connectivity]", f"nk={KERNEL.top}:1:{unit}",
        "# Each channel reads from pseudo channels of its own.",
        *(f"sp={unit}.{master(channel)}:HBM[{_banks(*edges[channel:channel + 2])}]"
          for channel in range(config.channels)), ""])


def _banks(first: int, end: int) -> str:
    return str(first) if end == first + 1 else f"{first}:{end - 1}"
