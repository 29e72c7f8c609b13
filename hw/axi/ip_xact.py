"""IP-XACT description of the core: bus interfaces, memory map and ports."""

from collections.abc import Iterable, Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from amaranth.lib.wiring import In

from tritstream.hw.axi.burst_writer import OUTSTANDING
from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.interfaces import ADDRESS_BITS, LITE_ADDRESS_BITS, AxiLite
from tritstream.hw.axi.names import CORE, UNTRIED, Names
from tritstream.hw.axi.registers import BANK, CHANNEL, GLOBAL, Register
from tritstream.hw.axi.top import core_ports, master, master_ports

__all__ = ["LIBRARY", "SPIRIT", "VENDOR", "VERSION", "ip_xact",
           "xml_text"]

#: Namespace of IEEE 1685-2009, the version that Vivado reads and writes.
SPIRIT = "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"
#: Vendor, library and version of the core.
VENDOR, LIBRARY, VERSION = "tritstream.org", "ip", "1.0"


def ip_xact(config: AxiConfig, files: Iterable[str], names: Names = CORE) -> str:
    """Return the IP-XACT component (IEEE 1685-2009) of a core whose Verilog is in ``files``.

    ``names`` has the names of the top module and of its ports.
    """
    ElementTree.register_namespace("spirit", SPIRIT)
    root = Element(_tag("component"))
    _texts(root, vendor=VENDOR, library=LIBRARY, name=names.top, version=VERSION)
    masters = [*map(master, range(config.channels))]
    interfaces = SubElement(root, _tag("busInterfaces"))
    _bus_interface(interfaces, names.slave, AxiLite.members, slave=True, PROTOCOL="AXI4LITE",
                   DATA_WIDTH=32, ADDR_WIDTH=LITE_ADDRESS_BITS)
    for name in masters:
        # The interconnect sizes its buffers by these.
        _bus_interface(interfaces, name, master_ports(config.lanes), PROTOCOL="AXI4",
                       DATA_WIDTH=8 * config.lanes, ADDR_WIDTH=ADDRESS_BITS, ID_WIDTH=1,
                       SUPPORTS_NARROW_BURST=0, MAX_BURST_LENGTH=config.burst,
                       NUM_READ_OUTSTANDING=config.outstanding, NUM_WRITE_OUTSTANDING=OUTSTANDING)
    _signal(interfaces, names.clock, "clock", "CLK",
            ASSOCIATED_BUSIF=":".join([names.slave, *masters]), ASSOCIATED_RESET=names.reset)
    _signal(interfaces, names.reset, "reset", "RST", POLARITY="ACTIVE_LOW")
    if names.interrupt:
        _signal(interfaces, names.interrupt, "interrupt", "INTERRUPT", is_master=True,
                SENSITIVITY="LEVEL_HIGH")
    spaces = SubElement(root, _tag("addressSpaces"))
    for name in masters:
        space = SubElement(spaces, _tag("addressSpace"))
        _texts(space, name=name, range=str(1 << ADDRESS_BITS), width=str(8 * config.lanes))
    _memory_map(root, config, names)
    _model(root, config, names)
    _file_set(root, files)
    _texts(root, description="Ternary GEMV engines behind AXI4 masters")
    return xml_text(root)


def xml_text(root: Element) -> str:
    """Return an XML file that says that no tool of AMD has read it."""
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode", xml_declaration=True)
    return text.replace("\n", f"\n<!-- {UNTRIED} -->\n", 1) + "\n"


def _tag(name: str) -> str:
    return f"{{{SPIRIT}}}{name}"


def _texts(parent: Element, **texts: str) -> None:
    for name, text in texts.items():
        SubElement(parent, _tag(name)).text = text


def _library(parent: Element, tag: str, library: str, name: str) -> None:
    """Add a reference to a definition of the bus or signal in Vivado's library."""
    SubElement(parent, _tag(tag), {
        _tag("vendor"): "xilinx.com", _tag("library"): library, _tag("name"): name,
        _tag("version"): "1.0"})


def _bus_interface(
    parent: Element, name: str, members: Iterable[str], slave: bool = False,
    **parameters: str | int,
) -> None:
    interface = SubElement(parent, _tag("busInterface"))
    _texts(interface, name=name)
    _library(interface, "busType", "interface", "aximm")
    _library(interface, "abstractionType", "interface", "aximm_rtl")
    side = SubElement(interface, _tag("slave" if slave else "master"))
    if slave:
        SubElement(side, _tag("memoryMapRef"), {_tag("memoryMapRef"): name})
    else:
        SubElement(side, _tag("addressSpaceRef"), {_tag("addressSpaceRef"): name})
    _port_maps(interface, {signal.upper(): f"{name}_{signal}" for signal in members})
    _parameters(interface, parameters)


def _signal(parent: Element, name: str, kind: str, logical: str, is_master: bool = False,
            **parameters: str) -> None:
    interface = SubElement(parent, _tag("busInterface"))
    _texts(interface, name=name)
    _library(interface, "busType", "signal", kind)
    _library(interface, "abstractionType", "signal", f"{kind}_rtl")
    SubElement(interface, _tag("master" if is_master else "slave"))
    _port_maps(interface, {logical: name})
    _parameters(interface, parameters)


def _parameters(interface: Element, parameters: Mapping[str, str | int]) -> None:
    group = SubElement(interface, _tag("parameters"))
    for key, value in parameters.items():
        _texts(SubElement(group, _tag("parameter")), name=key, value=str(value))


def _port_maps(interface: Element, ports: dict[str, str]) -> None:
    maps = SubElement(interface, _tag("portMaps"))
    for logical, physical in ports.items():
        entry = SubElement(maps, _tag("portMap"))
        _texts(SubElement(entry, _tag("logicalPort")), name=logical)
        _texts(SubElement(entry, _tag("physicalPort")), name=physical)


def _memory_map(root: Element, config: AxiConfig, names: Names) -> None:
    memory = SubElement(SubElement(root, _tag("memoryMaps")), _tag("memoryMap"))
    _texts(memory, name=names.slave)
    block = SubElement(memory, _tag("addressBlock"))
    _texts(block, name="registers", baseAddress="0x0", range=f"{1 << LITE_ADDRESS_BITS:#x}",
           width="32", usage="register")
    for register in GLOBAL.values():
        _register(block, register, "", 0)
    for channel in range(config.channels):
        for register in CHANNEL.values():
            _register(block, register, f"channel{channel}_", BANK * (1 + channel))


def _register(block: Element, register: Register, prefix: str, base: int) -> None:
    access = {"r": "read-only", "w": "write-only", "rw": "read-write"}[register.access]
    _texts(SubElement(block, _tag("register")), name=prefix + register.name,
           description=register.text, addressOffset=f"{base + register.offset:#x}", size="32",
           access=access)


def _model(root: Element, config: AxiConfig, names: Names) -> None:
    model = SubElement(root, _tag("model"))
    views = SubElement(model, _tag("views"))
    for view_name, use in (("xilinx_anylanguagesynthesis", "synthesis"),
                           ("xilinx_anylanguagebehavioralsimulation", "simulation")):
        view = SubElement(views, _tag("view"))
        _texts(view, name=view_name, envIdentifier=f":vivado.xilinx.com:{use}", language="Verilog",
               modelName=names.top)
        _texts(SubElement(view, _tag("fileSetRef")), localName="rtl")
    ports = SubElement(model, _tag("ports"))
    for core_name, member in core_ports(config).items():
        if not (name := names.port(core_name)):
            continue
        port = SubElement(ports, _tag("port"))
        _texts(port, name=name)
        wire = SubElement(port, _tag("wire"))
        _texts(wire, direction="in" if member.flow == In else "out")
        if member.shape > 1:
            vector = SubElement(wire, _tag("vector"))
            _texts(vector, left=str(member.shape - 1), right="0")


def _file_set(root: Element, files: Iterable[str]) -> None:
    file_set = SubElement(SubElement(root, _tag("fileSets")), _tag("fileSet"))
    _texts(file_set, name="rtl")
    for name in files:
        _texts(SubElement(file_set, _tag("file")), name=name, fileType="verilogSource")
