"""Commands whose output is read to no end, or goes where not every character can go."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import Qwen2Config, Qwen2ForCausalLM

from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.scripts.console import print_json, write_json
from tritstream.scripts.streams import GONE, storable

from support.golden_helpers import ROOT
from support.model_helpers import MODEL
from support.text_cases import make_text

COMMANDS = [["hw", "list"], ["hw", "list", "--json"], ["--help"], ["quantize", "--help"],
            ["--version"], ["inspect", "{packed}"], ["verify", "{packed}"],
            ["quantize", "{model}", "-o", "{out}"], ["export", "{packed}", "-o", "{out}"],
            ["hw", "verilog", "--lanes", "1", "-o", "{out}/core.v"]]
#: A byte that is not UTF-8, as Python has it in the name of a file.
NAME = os.fsdecode(b"n\xffme")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("streams")
    # Most of its weights are in linear layers, so that packing it gives no warning.
    config = Qwen2Config(vocab_size=32, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=2)
    Qwen2ForCausalLM(config).save_pretrained(root / "model")
    pack_checkpoint(root / "model", root / "packed", 2)
    return root


def start(arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.Popen([sys.executable, "-W", "error", "-m", "tritstream.scripts.cli",
                             *map(os.fspath, arguments)], env=environment, **options)


def done(arguments, **options):
    """Exit code, standard output and standard error, in bytes."""
    process = start(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def filled(command, places, tmp_path):
    return [part.format(model=places / "model", packed=places / "packed", out=tmp_path / "out")
            for part in command]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_that_goes_away_ends_a_command_quietly(places, tmp_path, command):
    reader, writer = os.pipe()
    os.close(reader)
    process = start(filled(command, places, tmp_path), stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (GONE, b"")


def test_a_log_whose_reader_goes_away(places):
    reader, writer = os.pipe()
    os.close(reader)
    process = start(["inspect", places / "none"], stdout=subprocess.PIPE, stderr=writer)
    os.close(writer)
    out, _ = process.communicate(timeout=300)
    assert (process.returncode, out) == (GONE, b"")


@pytest.mark.parametrize("command", [["hw", "list"], ["--version"], ["--help"]], ids=" ".join)
def test_results_that_a_full_disk_does_not_take(command):
    with Path("/dev/full").open("wb") as full:
        process = start(command, stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert err == (b"error: [Errno 28] No space left on device; the output is not complete: "
                   b"'standard output'\n")


@pytest.mark.parametrize("descriptor", [1, 2])
def test_a_stream_that_the_shell_closed(places, descriptor):
    code, out, err = done(["inspect", places / "packed"], preexec_fn=lambda: os.close(descriptor))
    assert (code, err) == (0, b"")
    assert bool(out) == (descriptor == 2)


def test_a_terminal_of_ascii(tmp_path):
    text = tmp_path / "text"
    text.write_text(make_text(300), encoding="utf-8")
    code, out, err = done(
        ["eval", MODEL, "--text", text, "--ctx", "64", "--tokens", "124", "-o", tmp_path / "eval"],
        env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert (code, err) == (0, b"")
    assert out.isascii() and b" +- " in out and b"delta p" in out
    report = json.loads((tmp_path / "eval" / "report.json").read_text())
    assert "±" in report["definitions"]


def test_help_on_a_terminal_of_ascii():
    code, out, err = done(["--help"], env={"PYTHONIOENCODING": "ascii"})
    assert (code, err) == (0, b"")
    assert out.isascii()


def test_names_of_files_that_are_not_utf8(places, tmp_path):
    model, packed = places / NAME, tmp_path / NAME
    if not model.exists():
        model.symlink_to(places / "model")
    code, out, err = done(["quantize", model, "-o", packed])
    assert (code, err) == (0, b"") and out.endswith(b"n\\xffme\n")
    code, out, err = done(["verify", packed, "--json"])
    assert (code, err) == (0, b"")
    assert json.loads(out)["packed"] == str(tmp_path / "n\\xffme")
    code, out, err = done(["inspect", tmp_path / "none" / NAME])
    assert code == 1 and b"none/n\\xffme: no such file or directory" in err


def test_values_that_no_file_can_hold(tmp_path, capsys):
    value = {NAME: [NAME, ("é", 3, None)], "x": "\ud800"}
    expected = {"n\\xffme": ["n\\xffme", ["é", 3, None]], "x": "\\ud800"}
    assert storable(value) == expected
    write_json(tmp_path / "report.json", value)
    assert json.loads((tmp_path / "report.json").read_bytes()) == expected
    print_json(value)
    assert json.loads(capsys.readouterr().out) == expected
    assert np.array_equal(storable([1.5]), [1.5])
