"""Block designs without Vivado: a Tcl interpreter with the commands that a script may call.

A command that is not here, an option that it does not have, or an object that does not exist is an
error of the script. Ports of the core come from its ``component.xml``; those of AMD's blocks are
written down here, from PG201, PG247 and PG164.
"""

import fnmatch
import re
from pathlib import Path
from xml.etree import ElementTree

SPIRIT = "{http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009}"
_PORTS = range(4)
#: Commands without an effect here.
_QUIET = ("create_bd_design", "save_bd_design", "launch_runs", "wait_on_run", "write_hw_platform",
          "ipx::create_xgui_files", "ipx::update_checksums", "ipx::save_core")


def _processor(options):
    """Pins and interfaces of the processing system with these options."""
    pins = {"pl_clk0": "out", "pl_resetn0": "out"}
    interfaces, segments = {}, {}
    if options.get("CONFIG.PSU__USE__IRQ0") == "1":
        pins["pl_ps_irq0"] = "in"
    if options.get("CONFIG.PSU__USE__M_AXI_GP0", "1") == "1":
        pins["maxihpm0_fpd_aclk"], interfaces["M_AXI_HPM0_FPD"] = "in", "master"
    if options.get("CONFIG.PSU__USE__M_AXI_GP2", "1") == "1":
        pins["maxihpm0_lpd_aclk"], interfaces["M_AXI_HPM0_LPD"] = "in", "master"
    for port in _PORTS:
        if options.get(f"CONFIG.PSU__USE__S_AXI_GP{port + 2}") == "1":
            pins[f"saxihp{port}_fpd_aclk"] = "in"
            interfaces[f"S_AXI_HP{port}_FPD"] = "slave"
            for name in ("DDR_LOW", "DDR_HIGH", "QSPI", "LPS_OCM"):
                segments[f"SAXIGP{port + 2}/HP{port}_{name}"] = f"S_AXI_HP{port}_FPD"
    return pins, interfaces, segments, {"Data": "M_AXI_HPM0_FPD"}


def _interconnect(options):
    sides = [("S", "slave", "CONFIG.NUM_SI"), ("M", "master", "CONFIG.NUM_MI")]
    return {"aclk": "in", "aresetn": "in"}, {
        f"{letter}{number:02}_AXI": side for letter, side, count in sides
        for number in range(int(options[count]))}, {}, {}


def _resets(_):
    return {"slowest_sync_clk": "in", "ext_reset_in": "in", "peripheral_aresetn": "out",
            "interconnect_aresetn": "out"}, {}, {}, {}


def _component(path):
    """VLNV of an IP-XACT component, and its pins, interfaces, segments and address spaces."""
    root = ElementTree.parse(path).getroot()
    vlnv = ":".join(root.findtext(f"{SPIRIT}{part}") for part in
                    ("vendor", "library", "name", "version"))
    buses = {bus.findtext(f"{SPIRIT}name"): bus for bus in root.iter(f"{SPIRIT}busInterface")
             if bus.find(f"{SPIRIT}busType").get(f"{SPIRIT}name") == "aximm"}
    grouped = {port.text for bus in buses.values()
               for port in bus.findall(f".//{SPIRIT}physicalPort/{SPIRIT}name")}
    pins = {port.findtext(f"{SPIRIT}name"): port.findtext(f".//{SPIRIT}direction")
            for port in root.iter(f"{SPIRIT}port")}
    interfaces = {name: "slave" if bus.find(f"{SPIRIT}slave") is not None else "master"
                  for name, bus in buses.items()}
    segments = {f"{space.findtext(f'{SPIRIT}name')}/{block.findtext(f'{SPIRIT}name')}":
                space.findtext(f"{SPIRIT}name") for space in root.iter(f"{SPIRIT}memoryMap")
                for block in space.iter(f"{SPIRIT}addressBlock")}
    spaces = {name: name for name, side in interfaces.items() if side == "master"}
    left = {name: way for name, way in pins.items() if name not in grouped}
    return vlnv, lambda _: (left, interfaces, segments, spaces)


def commands_of(tcl, path):
    """Commands that a script calls and Tcl does not have, with their words."""
    calls = []
    tcl.createcommand("unknown", lambda *words: calls.append(words) or " ".join(words[1:2]))
    tcl.call("source", str(path))
    return calls


class Vivado:
    """Vivado's block designs, as far as their scripts use them, and a record of what they made."""

    def __init__(self, tcl):
        self.tcl, self.calls, self._error = tcl, [], None
        self.catalog = {"xilinx.com:ip:zynq_ultra_ps_e": _processor,
                        "xilinx.com:ip:smartconnect": _interconnect,
                        "xilinx.com:ip:proc_sys_reset": _resets}
        self.cells, self.options, self.repository = {}, {}, None
        self.nets, self.buses, self.addresses, self.excluded = [], [], {}, set()
        for name in _QUIET:
            tcl.createcommand(name, self._recorded(name, lambda *_: ""))
        for name in dir(self):
            if name.startswith("do_"):
                command = name[3:].replace("ipx_", "ipx::")
                tcl.createcommand(command, self._recorded(command, getattr(self, name)))

    def _recorded(self, name, do):
        def call(*words):
            self.calls.append((name, *words))
            try:
                return do(*words)
            except Exception as error:      # Tcl would lose it
                self._error = error
                raise
        return call

    def run(self, path):
        """Run a script, and raise the error of the first command that failed."""
        try:
            self.tcl.call("source", str(path))
        except Exception as error:
            raise self._error or error from None

    def _parts(self, cell):
        make, options = self.catalog[self.cells[cell]], self.options[cell]
        return make(options)

    def _find(self, name, kind):
        cell, _, inner = name.partition("/")
        if cell not in self.cells or inner not in self._parts(cell)[kind]:
            raise ValueError(f"{name}: there is no such object")
        return name

    def _side(self, name, kind=0):
        cell, _, inner = name.partition("/")
        return self._parts(cell)[kind][inner]

    # Projects and properties

    def do_create_project(self, *words):
        assert "-part" in words

    def do_get_board_parts(self, pattern):
        known = ["xilinx.com:kv260_som:part0:1.3", "xilinx.com:kv260_som:part0:1.4"]
        return " ".join(reversed(fnmatch.filter(known, pattern)))

    def do_current_project(self):
        return "project"

    def do_current_fileset(self):
        return "sources_1"

    def do_set_property(self, *words):
        pairs = self.tcl.splitlist(words[1]) if words[0] == "-dict" else words[:2]
        values = dict(zip(pairs[::2], pairs[1::2], strict=True))
        if words[-1] in self.cells:
            self.options[words[-1]] |= values
        if "ip_repo_paths" in values:
            self.repository = Path(values["ip_repo_paths"])

    def do_update_ip_catalog(self):
        for path in self.repository.rglob("component.xml"):
            vlnv, make = _component(path)
            self.catalog[vlnv] = make

    # Block design

    def do_create_bd_cell(self, *words):
        options = dict(zip(words[:-1:2], words[1:-1:2], strict=True))
        if options["-vlnv"] not in self.catalog or words[-1] in self.cells:
            raise ValueError(f"cannot make {words[-1]} of {options['-vlnv']}")
        self.cells[words[-1]], self.options[words[-1]] = options["-vlnv"], {}
        return words[-1]

    def do_apply_bd_automation(self, *words):
        assert words[:2] == ("-rule", "xilinx.com:bd_rule:zynq_ultra_ps_e")

    def do_get_bd_pins(self, name):
        return self._find(name, 0)

    def do_get_bd_intf_pins(self, name):
        return self._find(name, 1)

    def do_get_bd_addr_segs(self, name):
        return self._find(name, 2)

    def do_get_bd_addr_spaces(self, name):
        return self._find(name, 3)

    def do_connect_bd_net(self, source, target):
        if (self._side(source), self._side(target)) != ("out", "in"):
            raise ValueError(f"cannot drive {target} by {source}")
        self.nets.append((source, target))

    def do_connect_bd_intf_net(self, source, target):
        if (self._side(source, 1), self._side(target, 1)) != ("master", "slave"):
            raise ValueError(f"cannot connect {source} to {target}")
        self.buses.append((source, target))

    def do_assign_bd_address(self, *words):
        options = dict(zip(words[:-1:2], words[1:-1:2], strict=True))
        self.addresses.setdefault(options["-target_address_space"], []).append(
            (words[-1], options.get("-offset"), options.get("-range")))

    def do_exclude_bd_addr_seg(self, *words):
        self.excluded.add((words[1], words[2]))

    def do_validate_bd_design(self):
        """Refuse what is not connected, connected twice, or out of reach."""
        driven = [target for _, target in self.nets]
        joined = [end for pair in self.buses for end in pair]
        for cell in self.cells:
            pins, interfaces, _, _ = self._parts(cell)
            wanted = [f"{cell}/{pin}" for pin, way in pins.items() if way == "in"]
            for ends, names in ((driven, wanted), (joined, [f"{cell}/{n}" for n in interfaces])):
                for name in names:
                    if ends.count(name) != 1:
                        raise ValueError(f"{name} is connected {ends.count(name)} times")
        for space, segments in self.addresses.items():
            for segment, _, _ in segments:
                if self._port(segment) not in self._reached(self._master(space)):
                    raise ValueError(f"{space} does not reach {segment}")

    def _port(self, segment):
        return f"{segment.partition('/')[0]}/{self._side(segment, 2)}"

    def _master(self, space):
        return f"{space.partition('/')[0]}/{self._side(space, 3)}"

    def _reached(self, master):
        """Slaves behind a master, through interconnects."""
        target = dict(self.buses)[master]
        cell = target.partition("/")[0]
        if self.cells[cell] != "xilinx.com:ip:smartconnect":
            return {target}
        return set().union(*(self._reached(source) for source in dict(self.buses)
                             if re.match(rf"{cell}/M\d\d_AXI$", source)))

    def do_get_files(self, name):
        return name

    def do_make_wrapper(self, *words):
        assert words[:2] == ("-files", "system.bd") and "-top" in words

    # Packaging of a kernel

    def do_ipx_open_ipxact_file(self, path):
        self.catalog.update([_component(path)])
        return "component"

    def do_ipx_check_integrity(self, *words):
        assert words[0] == "-kernel"

    def do_package_xo(self, *words):
        options = dict(zip(words[1::2], words[2::2], strict=True))
        assert words[0] == "-force"
        assert set(options) == {"-xo_path", "-kernel_name", "-ip_directory", "-kernel_xml"}
        for name in ("-ip_directory", "-kernel_xml"):
            assert Path(options[name]).exists()
