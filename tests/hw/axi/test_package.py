import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.ip_xact import SPIRIT
from tritstream.hw.axi.package import package_files
from tritstream.hw.axi.registers import CHANNEL, GLOBAL, register
from tritstream.hw.config import DeviceConfig

from support.lint_tools import lint, verilator_shim

SPACE = {"s": SPIRIT}


@pytest.fixture(scope="module")
def files():
    """Files of a package with two channels of 8 lanes."""
    return package_files(AxiConfig(DeviceConfig(8, 1, 64), channels=2))[0]


@pytest.fixture(scope="module")
def component(files):
    return ElementTree.fromstring(files["component.xml"])


def texts(parent, path):
    return [element.text for element in parent.findall(path, SPACE)]


def ports_of(verilog):
    """Direction and width of the ports of the top module."""
    body = re.search(r"\nmodule tritstream_axi\(.*?\nendmodule", verilog, re.S)[0]
    return {name: (direction.removesuffix("put"), int(top or 0) + 1) for direction, top, name in
            re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", body, re.M)}


def test_ip_xact_has_the_ports_of_the_verilog(files, component):
    found = {}
    for port in component.findall("s:model/s:ports/s:port", SPACE):
        left = port.findtext("s:wire/s:vector/s:left", "0", SPACE)
        found[port.findtext("s:name", None, SPACE)] = (
            port.findtext("s:wire/s:direction", None, SPACE), int(left) + 1)
    assert found == ports_of(files["tritstream_axi.v"])


def test_ip_xact_maps_each_port_once(component):
    mapped = texts(component, "s:busInterfaces//s:physicalPort/s:name")
    assert sorted(mapped) == sorted(texts(component, "s:model/s:ports/s:port/s:name"))
    interfaces = texts(component, "s:busInterfaces/s:busInterface/s:name")
    assert interfaces == ["s_axi", "m00_axi", "m01_axi", "aclk", "aresetn", "irq"]
    parameters = dict(zip(texts(component, "s:busInterfaces//s:parameter/s:name"),
                          texts(component, "s:busInterfaces//s:parameter/s:value"), strict=True))
    assert parameters["ASSOCIATED_BUSIF"] == "s_axi:m00_axi:m01_axi"
    assert parameters["POLARITY"] == "ACTIVE_LOW"


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


def test_one_module_serves_all_channels(files):
    text = files["tritstream_axi.v"]
    assert len(re.findall(r"^module tritstream_axi_channel ?\(", text, re.M)) == 1
    assert len(re.findall(r"^  tritstream_axi_channel \w+ \(", text, re.M)) == 2


def test_verilator_has_nothing_to_say(files, tmp_path):
    path = tmp_path / "tritstream_axi.v"
    path.write_text(files[path.name])
    assert lint(path) == (0, "")


@pytest.mark.long       # FuseSoC is in no extra
def test_fusesoc_lints_it(files, tmp_path, monkeypatch):
    pytest.importorskip("fusesoc")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
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
