import json
import re
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tritstream.golden.fixed_point import mantissas
from tritstream.golden.jobs.journal import Journal
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.hw.config import DeviceConfig
from tritstream.sim.build import device_rtl

from support.cli_helpers import MODEL, fails, tritstream
from support.forked import COMMANDS, run_forked

K_PROJ = "model.layers.0.self_attn.k_proj"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d2"
    code, _, err = tritstream("quantize", MODEL, "-o", path, "-d", 2)
    assert code == 0, err
    return path


@pytest.fixture(scope="module")
def flipped_rtl(tmp_path_factory):
    """The RTL with one bit of one constant flipped: sum 2 of lane 3 starts from 1, not 0."""
    rtl = device_rtl(DeviceConfig(lanes=8, max_k=512))
    path = tmp_path_factory.mktemp("rtl") / "flipped.v"
    start = rtl.index("\nmodule \\top.core.datapath.array.lane0_3 ")
    end = rtl.index("endmodule", start)
    lane, count = re.subn(
        r"(if \(clear__2\) begin\s+\S+\s*= 18'h0000)0", r"\g<1>1", rtl[start:end])
    assert count == 1
    path.write_text(rtl[:start] + lane + rtl[end:])
    return path


def test_demo_compares_every_row_of_every_matrix(tmp_path):
    code, out, err = tritstream("demo", "--output", tmp_path, "--json")
    assert code == 0, err
    report = json.loads(out)
    with safe_open(MODEL / "activations.safetensors", framework="numpy") as file:
        names = sorted(file.keys())
    runs = {run["name"]: run for run in report["matrices"]}
    assert sorted(name for name in runs if name.startswith("model.")) == names
    real = runs.pop("generated, as Qwen2.5-0.5B down_proj")
    assert (real["rows"], real["columns"]) == (896, 4864)
    assert real["words"] == 304 * (22 * 51 + 35)
    assert all(run["compared"] == run["rows"] * 16 for run in runs.values())
    assert report["totals"]["mismatches"] == 0
    assert report["totals"]["words_per_cycle"] >= 0.99
    assert all(run["error"] < 0.05 for run in runs.values())
    device, = report["devices"]
    assert (device["name"], device["lanes"], len(device["rtl_sha256"])) == ("sim", 8, 64)
    assert "Verilator" in device["engine"]
    assert all(run["seconds"]["device"] > 0 for run in report["matrices"])
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert PackedCheckpoint(tmp_path / "packed").depth == 3


def test_demo_prints_a_table_and_no_bar_in_a_pipe(tmp_path):
    code, out, err = tritstream("demo", "--output", tmp_path, "-d", 1)
    assert code == 0
    assert "\x1b" not in out + err
    assert "words/cycle" in out
    assert f"report: {tmp_path / 'report.json'}" in out
    assert re.search(rf"{K_PROJ} +64x128 +1 ", out)


def test_one_flipped_bit_of_the_rtl_is_found(packed, flipped_rtl):
    line = fails("run", packed, "--matrices", K_PROJ, "--max-k", 512, "--rtl", flipped_rtl)
    found = re.fullmatch(
        rf"{K_PROJ}: row 17 of vector 0 is (-?\d+) on the device and (-?\d+) in golden "
        r"\(2 rows differ\): the RTL that ran is not the machine golden describes", line)
    # Every group sum is one too large: the row is off by the sum of its mantissas.
    matrix = PackedCheckpoint(packed).matrix(K_PROJ)
    off = int(found[1]) - int(found[2])
    assert off == mantissas(matrix.table)[matrix.codes[17]].sum()


def test_run_with_captured_activations_in_batches(packed, tmp_path):
    report = tmp_path / "report.json"
    code, out, err = tritstream(
        "run", packed, "--activations", MODEL / "activations.safetensors", "--vectors", 5,
        "--matrices", "*.1.self_attn.*", "--columns", 2, "--max-k", 64, "--lanes", 2,
        "--report", report, "--json")
    assert code == 0, err
    assert list(tmp_path.iterdir()) == [report]
    result = json.loads(out)
    assert [run["mismatches"] for run in result["matrices"]] == [0] * 4
    assert [run["vectors"] for run in result["matrices"]] == [5] * 4
    assert result["device"]["lanes"] == 2
    assert result["device"]["columns"] == 2
    assert result["device"]["max_k"] == 64
    assert json.loads(report.read_text()) == result


def test_run_on_two_devices(packed):
    code, out, err = tritstream("run", packed, "--matrices", "*.0.self_attn.*", "--json",
                                "--device", "sim,sim:lanes=2")
    assert code == 0, err
    result = json.loads(out)
    assert [(device["name"], device["lanes"]) for device in result["devices"]] == [
        ("sim (1 of 2)", 8), ("sim:lanes=2 (2 of 2)", 2)]
    assert result["device"]["lanes"] == 10
    assert result["totals"]["compared"] == 2 * (128 + 64)
    assert result["totals"]["mismatches"] == 0
    code, out, err = tritstream("run", packed, "--matrices", K_PROJ, "--device", "sim:lanes=2,sim")
    assert code == 0, err
    assert "device  sim:lanes=2 (1 of 2): L = 2, B = 1, K up to 32768" in out


#: The command of the arguments, which kills itself after its fourth record.
KILL = """
import os, signal
from tritstream.golden.jobs.journal import Journal
from tritstream.scripts.cli import main

left, record = 4, Journal.record

def recorded(journal, *line):
    global left
    record(journal, *line)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

Journal.record = recorded
main()
"""


def test_a_killed_run_resumes(packed, tmp_path):
    report, kept = tmp_path / "sub" / "report.json", tmp_path / "sub" / "report.json.partial"
    arguments = ["run", packed, "--activations", MODEL / "activations.safetensors",
                 "--report", report, "--vectors", 16]
    finished = run_forked(KILL, *arguments, modules=COMMANDS)
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    assert list(report.parent.iterdir()) == [kept]
    assert fails(*arguments[:-1], 15) == (
        f"{kept}: left by another run; remove it, or name another report")
    # The first result is marked, to be known again; a kill has cut the last.
    with Journal(kept) as journal:
        parameters, (first, record), *others = journal.lines
    kept.unlink()
    with Journal(kept) as journal:
        journal.begin(parameters)
        for name, found in [(first, record | {"error": 7.0}), *others]:
            journal.record(name, found)
    kept.write_bytes(kept.read_bytes()[:-9])
    code, _, err = tritstream(*arguments)
    assert code == 0, err
    assert list(report.parent.iterdir()) == [report]
    result = json.loads(report.read_text())
    assert [run["name"] for run in result["matrices"]] == list(PackedCheckpoint(packed).matrices)
    assert [run["error"] > 1 for run in result["matrices"]] == [True] + [False] * 27
    assert result["totals"]["compared"] == sum(run["rows"] * 16 for run in result["matrices"])


def test_example_of_the_readme_runs(tmp_path):
    text = (MODEL.parents[1] / "README.md").read_text()
    block = re.search(r"^From Python:\n\n((?: {4}.*\n|\n)+)", text, re.MULTILINE)[1]
    (tmp_path / "example.py").write_text(textwrap.dedent(block))
    done = subprocess.run([sys.executable, "-W", "error", tmp_path / "example.py"],
                          capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_inspect_shows_each_matrix(packed):
    code, out, _ = tritstream("inspect", packed)
    assert code == 0
    assert re.search(rf"{K_PROJ} +64x128 +2 +16 +3.55 +3.47 ", out)
    code, out, _ = tritstream("inspect", packed, "--json")
    report = json.loads(out)
    assert len(report["matrices"]) == 28
    assert all(0.3 < matrix["zero_share"] < 0.6 for matrix in report["matrices"])
    assert "model.embed_tokens.weight" in report["kept"]


def test_verify_against_the_source(packed):
    code, out, err = tritstream("verify", packed, "--against", MODEL)
    assert (code, err) == (0, "")
    assert out.endswith("all valid\nit can be loaded, as Qwen2ForCausalLM\n")


def overwritten(packed, tmp_path, tensor, at, value):
    """A copy of a checkpoint with other bytes in a tensor."""
    damaged = tmp_path / "damaged"
    shutil.copytree(packed, damaged)
    shard = damaged / "packed.safetensors"
    data = bytearray(shard.read_bytes())
    header = int.from_bytes(data[:8], "little")
    place = 8 + header + json.loads(data[8:8 + header])[tensor]["data_offsets"][0] + at
    assert data[place:place + len(value)] != value
    data[place:place + len(value)] = value
    shard.write_bytes(data)
    return damaged


def test_run_names_a_damaged_table(packed, tmp_path):
    damaged = overwritten(packed, tmp_path, K_PROJ + ".scales", 8, np.float32(-1).tobytes())
    assert fails("run", damaged, "--matrices", K_PROJ) == (
        f"{damaged / 'packed.safetensors'}: {K_PROJ}.scales: table must be finite and positive, "
        "not -1.0 at code 2; copy it again")


def test_verify_names_the_tensor_of_a_flipped_byte(packed, tmp_path):
    damaged = overwritten(packed, tmp_path, K_PROJ + ".trits", 100, b"\xff\xff\xff")
    line = fails("verify", damaged)
    assert line.startswith(f"{damaged}: 1 errors, the first in {K_PROJ}")


def test_export_has_the_dequantized_weights(packed, tmp_path):
    code, _, err = tritstream("export", packed, "-o", tmp_path / "out")
    assert code == 0, err
    weights = load_file(tmp_path / "out" / "model.safetensors")
    matrix = PackedCheckpoint(packed).matrix(K_PROJ)
    scale = matrix.table[matrix.codes].repeat(16, axis=1)
    expected = ((scale * matrix.q) / np.float32(4)).astype(np.float16)
    np.testing.assert_array_equal(weights[K_PROJ + ".weight"], expected)
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_quantize_refuses_what_it_cannot_do(tmp_path):
    out = tmp_path / "out"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert fails("quantize", empty, "-o", out) == (
        f"{empty}: is empty; give the directory of a checkpoint")
    shutil.copy(MODEL / "config.json", empty)
    assert "safetensors" in fails("quantize", empty, "-o", out)
    assert "depth" in fails("quantize", MODEL, "-o", out, "-d", 5)
    cut = tmp_path / "cut"
    shutil.copytree(MODEL, cut)
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[:-1000])
    assert "model.safetensors" in fails("quantize", cut, "-o", out)
    assert not out.exists()


def test_quantize_names_a_matrix_that_is_not_finite(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    tensors = load_file(model / "model.safetensors")
    tensors[K_PROJ + ".weight"][3, 7] = np.nan
    save_file(tensors, model / "model.safetensors")
    line = fails("quantize", model, "-o", tmp_path / "out")
    assert K_PROJ in line and "nan" in line
    assert not (tmp_path / "out").exists()


def test_run_refuses_what_does_not_fit(packed, flipped_rtl, tmp_path):
    assert fails("run", packed, "--lanes", 3) == (
        "Lanes must be one of (1, 2, 4, 8, 16, 32, 64), not 3")
    assert fails("run", packed, "--lanes", 16, "--rtl", flipped_rtl) == (
        "the Verilog is of a device with L = 8 lanes, not 16: ask for 8 lanes")
    assert fails("run", packed, "--matrices", "nothing") == (
        f"{packed}: no matrix fits 'nothing'; `tritstream inspect` lists them")
    assert fails("run", packed, "--activations", tmp_path / "none") == (
        f"{tmp_path / 'none'}: no such file; it must hold an input for each module")
    assert "quantization_config" in fails("run", MODEL)


def test_verilog_is_written_whole(tmp_path):
    place = tmp_path / "sub" / "core.v"
    for option, module in (((), "tritstream"), (("--plain",), "top"),
                           (("--family", "ecp5"), "tritstream")):
        code, _, err = tritstream("hw", "verilog", "--lanes", 1, *option, "-o", place)
        assert code == 0, err
        assert f"\nmodule {module}(" in place.read_text()
        assert list(place.parent.iterdir()) == [place]
        assert ("DP16KD" in place.read_text()) == ("ecp5" in option)
    assert fails("hw", "verilog", "--plain", "--family", "ecp5", "-o", place) == (
        "--plain is for simulation and has no cells of a vendor: leave out --family and "
        "--dsp-lanes")
    assert fails("hw", "verilog", "--dsp-lanes", "-o", place) == (
        "lanes of DSP blocks need the family xc7 or xcup, not 'generic'")
    assert fails("hw", "verilog", "--family", "virtex", "-o", place) == (
        "family must be one of generic, ecp5, xc7, xcup, not 'virtex'")
