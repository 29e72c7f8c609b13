"""The command calibrate, layer by layer."""

import signal

import pytest

from tritstream.golden.open_source import open_source
from tritstream.scripts.weights import calibrate_layers
from tritstream.scripts.weights.calibrate import calibrate
from tritstream.scripts.weights.calibrate_layers import whole_model_bytes

from support.cli_helpers import command_fails, run_command
from support.forked import COMMANDS, run_forked
from support.model_helpers import MODEL, PROMPT


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(f"{PROMPT}, and now she was. " * 200)
    return path


@pytest.fixture
def due(tmp_path, text, capsys):
    """The file of a calibration of the complete model."""
    path = tmp_path / "whole.safetensors"
    calibrate(MODEL, path, [str(text)], 1024)
    capsys.readouterr()
    return path.read_bytes()


#: Calibrates and kills itself in the middle of the vectors of the eighth step.
KILL = """
import os, signal, sys
from tritstream.scripts.cli import app
real, seen = os.pwrite, 0

def dying(file, data, place):
    global seen
    seen += len(data) == 4 * 512 * 128
    if seen == 15:
        real(file, bytes(data)[:len(data) // 2], place)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(file, data, place)

os.pwrite = dying
app(sys.argv[1:])
"""


def test_a_kill_and_a_restart_give_the_bytes_of_the_complete_model(tmp_path, text, due):
    out = tmp_path / "m.safetensors"
    arguments = ("calibrate", MODEL, "-o", out, "--text", text, "--tokens", 1024, "--by-layer",
                 "--torch-device", "cpu")
    killed = run_forked(KILL, *arguments, modules=COMMANDS)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stderr.splitlines()[0] == (
        f"calibrating layer by layer: 0 of 20 windows of all steps are finished; {out}.partial is "
        "kept for a restart")
    assert command_fails(*arguments[:-3], "--whole-model") == (
        f"{out}.partial: was left by a calibration with another loading (layer by layer, on cpu, "
        "not complete model); finish that calibration, choose another output, or force")
    code, said, err = run_command(*arguments)
    assert (code, said) == (
        0, f"calibration of 29 layers, 1024 tokens of text.txt, random read: {out}\n")
    assert err.splitlines()[0] == (
        f"calibrating layer by layer: 14 of 20 windows of all steps are finished; {out}.partial is "
        "kept for a restart")
    assert out.read_bytes() == due
    assert not out.with_name("m.safetensors.partial").exists()


@pytest.mark.parametrize(("more", "how"), [
    (0, "calibrating: "), (-1, "calibrating layer by layer: ")])
def test_a_model_that_needs_more_than_the_memory(tmp_path, text, due, monkeypatch, capsys,
                                                 more, how):
    needed = whole_model_bytes(open_source(MODEL))
    assert needed == 4 * (919_680 + sum(k * min(k, 2048) for k in 4 * (6 * [128] + [384]) + [128])
                          + 2 * 512 * 1024)
    monkeypatch.setattr(calibrate_layers, "_memory", lambda: needed + more)
    calibrate(MODEL, tmp_path / "m.safetensors", [str(text)], 1024)
    assert capsys.readouterr().err.startswith(how)
    assert (tmp_path / "m.safetensors").read_bytes() == due


def test_the_memory_of_a_container(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(calibrate_layers, "_CONTAINER", limit)
    machine = calibrate_layers._memory()
    for said, found in (("max\n", machine), ("4096\n", 4096), (f"{2 * machine}\n", machine)):
        limit.write_text(said)
        assert calibrate_layers._memory() == found


def test_devices_of_torch(tmp_path, text):
    arguments = ("calibrate", MODEL, "-o", tmp_path / "m.safetensors", "--tokens", 1024, "--text",
                 text)
    assert command_fails(*arguments, "--by-layer", "--torch-device", "abacus").startswith(
        "torch finds no device 'abacus'; it finds ")
    assert command_fails(*arguments[:-2], "--by-layer") == (
        "self is written by the complete model, which is not loaded layer by layer; give another "
        "text, or --whole-model")
    assert command_fails(*arguments, "--torch-device", "cpu") == (
        "the complete model is calibrated on the CPU; give --by-layer for another --torch-device")


def test_reconstructed_matrices_are_packed_and_verified(tmp_path, text, due):
    moments, tuned = tmp_path / "whole.safetensors", tmp_path / "r.safetensors"
    code, said, err = run_command(
        "reconstruct", MODEL, "-o", tuned, "--text", text, "--calibration", moments, "--tokens",
        512, "--epochs", 2, "--exclude", "layers.0.*")
    assert code == 0, err
    assert said == f"21 matrices at d = 2, tuned on 512 tokens of text.txt: {tuned}\n"
    assert err.splitlines()[0] == (
        f"reconstructing: 0 of 9 windows of all steps are finished; {tuned}.partial is kept for a "
        "restart")
    packed = tmp_path / "packed"
    quantize = ("quantize", MODEL, "--exclude", "layers.0.*", "--calibration", tuned)
    assert run_command(*quantize, "-o", packed, "-d", 2)[0] == 0
    code, said, _ = run_command("verify", packed, "--against", MODEL, "--calibration", tuned)
    assert code == 0, said
    # Other integers than those of the calibration alone.
    assert run_command("verify", packed, "--against", MODEL, "--calibration", moments)[0] == 1
    assert "was reconstructed at d = 2, not 3" in run_command(
        *quantize, "-o", tmp_path / "o", "-d", 3)[2]
    assert command_fails(*quantize, "-o", tmp_path / "o", "--budget", 3) == (
        f"{tuned}: has matrices of one depth; give it without --budget")
