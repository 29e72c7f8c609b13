import configparser
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.registers import register
from tritstream.hw.axi.vitis import CARDS, kernel_files

from support.verilog_ports import ports_of
from support.vivado import Vivado


@pytest.fixture
def kernel(package):
    return ElementTree.fromstring(package["vitis/kernel.xml"]).find("kernel")


def test_kernel_manages_itself(kernel):
    assert kernel.attrib == {
        "name": "tritstream_kernel", "language": "ip",
        "vlnv": "tritstream.org:kernel:tritstream_kernel:1.0", "attributes": "",
        "preferredWorkGroupSizeMultiple": "0", "workGroupSize": "1", "interrupt": "false",
        "hwControlProtocol": "user_managed"}


def test_kernel_has_the_ports_of_its_verilog(package, kernel):
    ports = ports_of(package["vitis/tritstream_kernel.v"], "tritstream_kernel")
    assert {"ap_clk": ("in", 1), "ap_rst_n": ("in", 1)}.items() <= ports.items()
    assert not {"aclk", "aresetn", "irq", "interrupt"} & set(ports)
    found = {port.get("name"): (port.get("mode"), int(port.get("dataWidth")))
             for port in kernel.findall("ports/port")}
    assert found == {"s_axi_control": ("slave", 32),
                     **{f"m{channel:02}_axi": ("master", 64) for channel in range(2)}}
    for name, (_, bits) in found.items():
        assert ports[f"{name}_rdata"][1] == ports[f"{name}_wdata"][1] == bits
    # XRT maps the registers; the window has 16 bits of address at most.
    slave = kernel.find("ports/port[@name='s_axi_control']")
    assert int(slave.get("range"), 16) == 1 << ports["s_axi_control_araddr"][1] == 1 << 16


def test_arguments_are_addresses_of_channels(kernel):
    arguments = [argument.attrib for argument in kernel.findall("args/arg")]
    assert [int(argument["id"]) for argument in arguments] == [*range(4)]
    assert [(argument["name"], argument["port"], int(argument["offset"], 16))
            for argument in arguments] == [
        (f"channel{channel}_{what}", f"m{channel:02}_axi", register(f"{low}_low", channel))
        for channel in range(2) for what, low in (("memory", "base"), ("ring", "ring"))]
    assert {(argument["addressQualifier"], argument["size"], argument["hostSize"])
            for argument in arguments} == {("1", "0x8", "0x8")}
    # The high halves follow.
    assert register("base_high", 0) - register("base_low", 0) == 4
    assert register("ring_high", 0) - register("ring_low", 0) == 4


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("channels, expected", [
    (1, ["0:31"]), (4, ["0:7", "8:15", "16:23", "24:31"]), (3, ["0:9", "10:20", "21:31"]),
    (32, [str(bank) for bank in range(32)])])
def test_channels_share_the_memory_of_a_card(card, channels, expected):
    lines = kernel_files(AxiConfig(channels=channels))[f"{card}.cfg"].splitlines()
    assert [line for line in lines if line.startswith("sp=")] == [
        f"sp=tritstream_kernel_1.m{channel:02}_axi:HBM[{banks}]"
        for channel, banks in enumerate(expected)]
    assert f"platform={CARDS[card].platform}" in lines
    assert "nk=tritstream_kernel:1:tritstream_kernel_1" in lines
    assert "[clock]" not in lines


def test_linker_gets_the_clock_of_the_core(package):
    parser = configparser.ConfigParser(strict=False)
    parser.read_string("[top]\n" + package["vitis/u55c.cfg"])
    assert parser["clock"]["freqhz"] == "300000000:tritstream_kernel_1.ap_clk"


def test_packaging(package_folder):
    tkinter = pytest.importorskip("tkinter", reason="Tcl is missing: build Python with tkinter")
    folder = package_folder / "vitis"
    vivado = Vivado(tkinter.Tcl())
    vivado.run(folder / "package.tcl")
    assert "tritstream.org:ip:tritstream_kernel:1.0" in vivado.catalog
    assert ("set_property", "vitis_drc", "ctrl_protocol user_managed",
            "component") in vivado.calls
    name, *options = vivado.calls[-1]
    options = dict(zip(options[1::2], options[2::2], strict=True))
    assert (name, options["-kernel_name"]) == ("package_xo", "tritstream_kernel")
    assert Path(options["-ip_directory"]) == folder
    # All sources of the component are beside it.
    sources = re.findall(r"<spirit:name>(\w+\.v)<", (folder / "component.xml").read_text())
    assert sources == ["tritstream_axi.v", "tritstream_kernel.v"]
    assert all((folder / name).exists() for name in sources)


def test_every_file_says_that_it_is_untried(package):
    for name, text in package.items():
        if name.endswith((".tcl", ".cfg", ".xml", "kernel.v")):
            assert "No tool of AMD has read this file." in text, name
