"""GGUF files where a command takes an unquantized checkpoint, against the directory."""

import json

import numpy as np
import pytest
import torch

from tritstream.golden.open_source import open_source
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.golden.quantizers.moments import Moments
from tritstream.host.model.load import is_packed, load_model, load_tokenizer
from tritstream.scripts.cli import app
from tritstream.scripts.weights.calibrate import calibrate, moments_file
from tritstream.scripts.weights.matrix_figures import figures
from tritstream.scripts.weights.quantize import quantize
from tritstream.scripts.weights.smooth import smooth

from support.gguf_helpers import tiny_qwen2
from support.model_helpers import MODEL, PROMPT, logits


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The shipped model, as bfloat16 as it is in its directory."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tiny_qwen2(path, "BF16")
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(f"{PROMPT}, and now she was. " * 200)
    return path


def test_a_model_and_its_tokenizer_are_loaded(file):
    assert not is_packed(file)
    torch.testing.assert_close(logits(load_model(file)), logits(load_model(MODEL)), rtol=0,
                               atol=1e-5)
    assert load_tokenizer(file)(PROMPT).input_ids == load_tokenizer(MODEL)(PROMPT).input_ids


def test_quantizes_with_a_calibration(file, tmp_path, text, capsys):
    quantize(file, tmp_path / "a", depth=2, calibration=[str(text)], calibration_tokens=512)
    kept, = (tmp_path / "build" / "calibration").iterdir()
    assert verify(tmp_path / "a", file, calibration=kept) == []
    found = Moments(kept)
    wanted = Moments(moments_file(MODEL, [str(text)], 512))
    for name, tensor in open_source(file).matrices().items():
        for part in ("inputs", "results"):
            np.testing.assert_allclose(
                getattr(found.of(name, tensor.shape), part),
                getattr(wanted.of(name, tensor.shape), part), rtol=1e-3, atol=1e-6)


def test_spends_a_budget_by_the_file_of_a_calibration(file, tmp_path, capsys):
    calibrate(file, tmp_path / "m.safetensors", tokens=512)
    quantize(file, tmp_path / "a", budget=4.2, calibration=["m.safetensors"])
    depths = {info.depth for info in PackedCheckpoint(tmp_path / "a").matrices.values()}
    assert len(depths) > 1


def test_smooths(file, tmp_path, text, capsys):
    smooth(file, tmp_path / "even", text, tokens=64)
    torch.testing.assert_close(logits(load_model(tmp_path / "even")), logits(load_model(MODEL)),
                               rtol=0, atol=1e-4)


def test_evaluates_as_base_and_as_model(file, tmp_path, text, capsys):
    with pytest.raises(SystemExit, match="^0$"):
        app(["eval", str(file), str(MODEL), "--base", str(file), "--text", str(text), "--ctx",
             "64", "--tokens", "128", "-o", str(tmp_path / "out"), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert [one["kl"]["value"] for one in report["models"]] == pytest.approx([0, 0], abs=1e-6)
    assert [one["stored_bits"] for one in report["models"]] == [16, 16]


def test_bits_of_a_file_are_those_of_its_blocks(tmp_path):
    tiny_qwen2(tmp_path / "q8.gguf", "Q8_0")
    assert figures(open_source(tmp_path / "q8.gguf"))["stored_bits"] == 8.5


@pytest.mark.parametrize("command", [
    ["calibrate", "FILE", "-o", "x.safetensors"],
    ["smooth", "FILE", "-o", "x", "--text", "text.txt"],
    ["quantize", "FILE", "-o", "x", "--calibration", "random"],
    ["eval", "FILE", "--text", "text.txt"],
])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, text, capsys, command):
    (tmp_path / "FILE").write_bytes(b"PK" * 100)
    with pytest.raises(SystemExit, match="^1$"):
        app(command)
    error = capsys.readouterr().err
    assert error.startswith("error: FILE: ") and error.count("\n") == 1 and "GGUF" in error
