import re

import pytest

from tritstream.hw.tools.area import DEFAULT_UNITS, Area, Unit, synthesized_area, units


def test_units_come_once_each():
    found = units(DEFAULT_UNITS, [8, 16], [1, 2])
    assert len(found) == 3 + 4 * 4
    assert found[:3] == [Unit("decoder"), Unit("lane"), Unit("array", 8, 1)]
    assert units(["device"], [4, 4], [1]) == [Unit("device", 4, 1)]


def test_trit_macs():
    assert [Unit(name, 8, 2).trit_macs for name in DEFAULT_UNITS] == [0, 80, 80, 80, 80, 80, 80]
    assert Unit("core", 8, 2).trit_macs == Unit("generic core", 8, 2).trit_macs == 80
    assert Unit("lane").trit_macs == Unit("multiplier lane").trit_macs == 5


@pytest.mark.parametrize("arguments, message", [
    (("adder",), r"^unknown unit 'adder'; use one of decoder, lane, array, array with scaling, "
                 r"device, multiplier lane, multiplier array, engine, DSP array, DSP engine, core, "
                 r"generic lane, generic array, generic engine, generic core$"),
    (("array", 8, 1, "generic"), r"^family must be one of ecp5, xc7, xcup, not 'generic'$"),
    (("array", 3), r"^Lanes must be one of \(1, 2, 4, 8, 16, 32, 64\), not 3$"),
    (("array", 8, 0), r"^Columns must be 1..255, not 0$"),
])
def test_a_unit_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Unit(*arguments)


def test_a_generic_unit_has_no_cells_of_its_family():
    assert "CARRY8" in Unit("lane", family="xcup").verilog()
    assert "CARRY4" in Unit("lane", family="xc7").verilog()
    assert "CARRY" not in Unit("generic lane", family="xcup").verilog()


def test_an_engine_is_the_device_without_frames():
    verilog = Unit("engine", 1, 1, "xcup").verilog()
    assert {"top.sequencer", "top.activation", "top.datapath"} <= set(
        re.findall(r"^module \\(\S+) ", verilog, re.MULTILINE))
    ports = re.search(r"module top\((.*?)\);", verilog, re.DOTALL)[1]
    assert "sequencer_words__payload" in ports and "datapath_rows__sums" in ports
    assert "beat" not in ports


def test_cells_are_counted_by_what_they_occupy():
    assert synthesized_area({
        "LUT2": 1, "LUT6": 10, "INV": 2, "SRL16E": 3, "RAM32M16": 1, "RAM64M": 1, "CARRY4": 5,
        "CARRY8": 7, "FDRE": 20, "FDSE": 1, "RAMB18E2": 3, "RAMB36E2": 2, "DSP48E2": 4, "MUXF7": 9,
        "$scopeinfo": 3}) == {"LUT": 28, "CARRY4": 19, "flip-flops": 21, "RAMB18": 7, "DSP48": 4}
    with pytest.raises(ValueError, match=r"^the netlist has cells of unknown size: URAM288, XOR$"):
        synthesized_area({"LUT2": 1, "XOR": 1, "URAM288": 1})


def measured(macs, *placed):
    return Area({"trit_macs": macs, "placed": [
        {"fmax_mhz": fmax, "cells": {"TRELLIS_COMB": comb}} for fmax, comb in placed]})


def test_derived_figures():
    area = measured(80, (95.0, 5080), (80.0, 5086), (90.6, 5086))
    assert area.clocks == (80.0, 90.6, 95.0)
    assert area.cells("TRELLIS_COMB") == 5086 and area.cells("DP16KD") == 0
    assert area.per_mac == pytest.approx(63.575)
    # 90.6 MHz * 80 = 7.248 G trit-MAC/s, on 5.086 kLUT.
    assert area.density == pytest.approx(7.248 / 5.086)


def test_a_decoder_has_no_clock_and_multiplies_nothing():
    area = measured(0, (None, 16))
    assert (area.clocks, area.per_mac, area.density) == (None, None, None)
