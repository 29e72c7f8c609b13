import re

import pytest

from tritstream.hw.axi.block_design import kv260_tcl
from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.ip_xact import ip_xact
from tritstream.hw.config import DeviceConfig

from support.vivado import Vivado

tkinter = pytest.importorskip("tkinter", reason="Tcl is missing: build Python with tkinter")


def designed(folder, config, change=lambda text: text):
    """Run the script for a core, which may be changed, and return what it made."""
    (folder / "component.xml").write_text(ip_xact(config, ["tritstream_axi.v"]))
    (folder / "kv260.tcl").write_text(change(kv260_tcl(config)))
    vivado = Vivado(tkinter.Tcl())
    vivado.run(folder / "kv260.tcl")
    return vivado


@pytest.mark.parametrize("channels, lanes, bits", [(1, 8, "64"), (3, 16, "128"), (4, 32, "128"),
                                                   (6, 64, "128"), (32, 16, "128")])
def test_each_channel_reaches_memory(tmp_path, channels, lanes, bits):
    vivado = designed(tmp_path, AxiConfig(DeviceConfig(lanes), channels))
    # The script validated: each clock, reset and interface is connected once.
    assert ("validate_bd_design",) in vivado.calls
    ports = min(channels, 4)
    for port in range(ports):
        assert vivado.options["ps"][f"CONFIG.PSU__SAXIGP{port + 2}__DATA_WIDTH"] == bits
        assert vivado.options[f"memory{port}"]["CONFIG.NUM_SI"] == str(
            len(range(port, channels, ports)))
    for channel in range(channels):
        port  = channel % ports
        space = f"core/m{channel:02}_axi"
        where = f"ps/SAXIGP{port + 2}/HP{port}"
        assert [segment for segment, _, _ in vivado.addresses[space]] == [
            f"{where}_DDR_LOW", f"{where}_DDR_HIGH"]
        assert {(space, f"{where}_QSPI"), (space, f"{where}_LPS_OCM")} <= vivado.excluded


def test_processor_reaches_registers_and_interrupt(tmp_path):
    vivado = designed(tmp_path, AxiConfig(DeviceConfig(16), 2))
    assert vivado.addresses["ps/Data"] == [("core/s_axi/registers", "0xa0000000", "64K")]
    assert ("core/irq", "ps/pl_ps_irq0") in vivado.nets
    assert ("set_property", "board_part", "xilinx.com:kv260_som:part0:1.4",
            "project") in vivado.calls
    assert vivado.calls[-1][0] == "write_hw_platform"


@pytest.mark.parametrize("clock, expected", [(0, "250"), (187_500_000, "187.5")])
def test_clock_is_that_of_the_core(tmp_path, clock, expected):
    vivado = designed(tmp_path, AxiConfig(DeviceConfig(16, clock_hz=clock)))
    assert vivado.options["ps"]["CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ"] == expected


@pytest.mark.parametrize("pattern, new, message", [
    (r"m%02d_axi \$channel\]\n    \}", r"m%02d $channel]\n    }", "core/m00: there is no such"),
    (r"lappend clocks memory\$port/aclk", "lappend clocks", "memory0/aclk is connected 0 times"),
    (r"get_bd_pins core/irq", "get_bd_pins core/s_axi_awaddr", "core/s_axi_awaddr: there is no"),
    (r"set port  \[expr \{\$channel % \$ports\}\]", "set port 0",
     "core/m01_axi does not reach ps/SAXIGP2/HP0_DDR_LOW"),
    (r"save_bd_design", "save_the_design", 'invalid command name "save_the_design"'),
])
def test_a_wrong_script_is_noticed(tmp_path, pattern, new, message):
    def change(text):
        changed, count = re.subn(pattern, new, text, count=1)
        assert count
        return changed

    with pytest.raises(Exception, match=f"^{re.escape(message)}"):
        designed(tmp_path, AxiConfig(DeviceConfig(16), 2), change)
