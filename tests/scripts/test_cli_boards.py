import json
import os
import stat
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tritstream.hw.boards import vivado
from tritstream.hw.boards.catalog import BOARDS
from tritstream.scripts.hardware.commands import app

from support.board_tools import Tools
from support.cli_helpers import fails, tritstream


@pytest.fixture
def loader(tmp_path, monkeypatch):
    """Function that puts a loader with this name and exit code on PATH; and how it was called."""
    calls = tmp_path / "calls.json"

    def install(name="openFPGALoader", code=0):
        path = tmp_path / "bin" / name
        path.parent.mkdir()
        path.write_text(f"#!{sys.executable}\nimport json, sys\n"
                        f"json.dump(sys.argv[1:], open({str(calls)!r}, 'w'))\nsys.exit({code})\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
        return lambda: json.loads(calls.read_text())

    return install


@pytest.fixture
def bitstream(tmp_path):
    path = tmp_path / "top.bit"
    path.write_bytes(b"bits")
    return path


def test_list():
    code, out, _ = tritstream("hw", "list", "--json")
    assert code == 0
    boards = {board["name"]: board for board in json.loads(out)}
    assert list(boards) == [*BOARDS, "kv260"]
    assert boards["icebreaker"]["lanes"] == 1 and boards["icebreaker"]["clock_mhz"] == 24
    code, out, _ = tritstream("hw", "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["name", *BOARDS, "kv260"]
    assert boards["arty-a7-35"]["tools"] == boards["kv260"]["tools"] == "Vivado"


@pytest.mark.parametrize("name, board", [("openFPGALoader", "ulx3s-85f"),
                                         ("openfpgaloader-cli", "icebreaker")])
def test_program(loader, bitstream, name, board):
    called = loader(name)
    code, _, err = tritstream("hw", "program", board, bitstream)
    assert code == 0, err
    assert called() == ["-b", BOARDS[board].loader, str(bitstream)]


def test_program_into_the_flash(loader, bitstream):
    called = loader()
    assert tritstream("hw", "program", "ecpix5-85", bitstream, "--flash")[0] == 0
    assert called() == ["-b", "ecpix5", "--write-flash", str(bitstream)]


def test_program_that_fails(loader, bitstream):
    loader(code=3)
    assert fails("hw", "program", "ulx3s-85f", bitstream).endswith(
        f"openFPGALoader -b ulx3s {bitstream}: failed (3)")


def test_program_without_a_loader(bitstream, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert fails("hw", "program", "ulx3s-85f", bitstream) == (
        "openFPGALoader is missing: install it (apt install openfpgaloader) or load the file with "
        "another tool")


def test_program_without_a_bitstream(loader, tmp_path, monkeypatch):
    loader()
    missing = tmp_path / "missing.bit"
    assert fails("hw", "program", "ulx3s-85f", missing) == f"{missing}: no such file"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    assert fails("hw", "program", "ulx3s-85f") == (
        "build/boards/ulx3s-85f: no bitstream found; build one with `tritstream hw build`")


def test_build(tmp_path, monkeypatch):
    monkeypatch.setattr("tritstream.hw.boards.build.run_tool", Tools())
    monkeypatch.setattr("tritstream.hw.boards.build.tool_version", lambda _: "1")
    command = ["build", "icebreaker", "--max-k", "64", "-o", str(tmp_path), "--report",
               str(tmp_path / "kept" / "icebreaker.json")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "kept" / "icebreaker.json").read_text())
    assert report == json.loads((tmp_path / "build.json").read_text())
    assert done.stdout == (
        f"device     L = 1, B = 1, K up to 64, build {report['device']['build_id']:08x}\n"
        "clock      100 MHz reached, 50 wanted\n"
        "line       6000000 baud\n"
        "LUT                     5 of 10\n"
        f"bitstream  {tmp_path / 'top.bin'}, 4 bytes\n"
        f"report     {tmp_path / 'kept' / 'icebreaker.json'}\n")
    done = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(done.stdout) == json.loads((tmp_path / "build.json").read_text())


def test_plan(tmp_path, monkeypatch):
    monkeypatch.setattr(vivado, "synthesize", lambda *_: {"LUT6": 500})
    monkeypatch.setattr(vivado, "tool_versions", lambda _: {})
    command = ["build", "arty-a7-35", "--plan", "--lanes", "1", "--columns", "1", "--max-k", "64",
               "-o", str(tmp_path / "arty")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "arty" / "project.json").read_text())
    assert done.stdout == (
        f"device     L = 1, B = 1, K up to 64, build {report['device']['build_id']:08x}\n"
        "LUT                   500 of 20800, by Yosys\n"
        "flip-flops              0 of 41600, by Yosys\n"
        "RAMB18                  0 of 100, by Yosys\n"
        "DSP48                   0 of 90, by Yosys\n"
        f"project    {tmp_path / 'arty'}, not run through Vivado: see README there\n")
    # The folder may be written again, and no other.
    assert CliRunner().invoke(app, [*command, "--json"]).exit_code == 0
    assert "and no build of tritstream" in fails(
        "hw", "build", "arty-a7-35", "--plan", "-o", tmp_path)


def test_a_kv260_needs_vivado():
    assert fails("hw", "build", "kv260") == (
        "kv260 is built by Vivado, which this command does not run: use --plan, and run Vivado on "
        "the project that it writes")
    assert fails("hw", "program", "kv260") == (
        "kv260 is loaded by its own processor: copy the bitstream there, and use fpgautil or PYNQ")


@pytest.mark.parametrize("command", ["build", "program"])
def test_unknown_board(command):
    assert fails("hw", command, "ulx3s").startswith("unknown board 'ulx3s'; use one of ulx3s-85f, ")


def test_impossible_builds_are_refused(tmp_path):
    assert fails("hw", "build", "ulx3s-85f", "--lanes", 5, "-o", tmp_path).startswith(
        "Lanes must be one of")
    assert fails("hw", "build", "ulx3s-85f", "--clock", 3000, "-o", tmp_path) == (
        "the PLL of an ECP5 at 25 MHz cannot generate 3000 MHz; the nearest clock is 800.000 MHz")
