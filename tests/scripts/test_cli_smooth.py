import json
import shutil

import pytest
import torch

from tritstream.host.model.load import load_model
from tritstream.scripts.weights.smooth import smooth

from support.golden_helpers import write_json
from support.model_helpers import MODEL, PROMPT, logits


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(f"{PROMPT}, and now she was. " * 40)
    return path


def refused(capsys, *arguments, **options):
    """The one line that the command says on the way out."""
    with pytest.raises(SystemExit, match="^1$"):
        smooth(*arguments, **options)
    return capsys.readouterr().err.removeprefix("error: ").removesuffix("\n")


def test_the_model_stays_what_it_was(tmp_path, text, capsys):
    out = tmp_path / "even"
    smooth(MODEL, out, text, tokens=300, as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert (report["depth"], report["tokens"]) == (3, 300)
    assert len(report["inputs"]) == 4 * 4
    assert all(each["error_after"] <= each["error_before"] for each in report["inputs"])
    assert any(each["alpha"] > 0 for each in report["inputs"])
    assert (out / "tokenizer.json").read_bytes() == (MODEL / "tokenizer.json").read_bytes()
    torch.testing.assert_close(logits(load_model(out)), logits(load_model(MODEL)), rtol=0,
                               atol=1e-4)


def test_the_outcome_of_each_input_is_reported(tmp_path, text, capsys):
    smooth(MODEL, tmp_path / "even", text, depth=2, tokens=20)
    out, err = capsys.readouterr()
    assert err == ""
    assert len([line for line in out.splitlines() if line.startswith("model.layers.")]) == 16
    assert "20 tokens read; errors are of weights at d = 2 and int8 activations" in out


def test_nothing_is_read_if_the_output_cannot_be_written(tmp_path, text, capsys):
    assert refused(capsys, MODEL, tmp_path, text) == (
        f"{tmp_path}: exists already; remove it, choose another, or force")
    assert refused(capsys, MODEL, tmp_path, text, force=True) == (
        f"{tmp_path}: text.txt was not written by tritstream, so nothing is replaced; choose "
        "another directory, or remove this one yourself")


def test_wrong_options(tmp_path, text, capsys):
    out = tmp_path / "even"
    assert refused(capsys, MODEL, out, text, depth=5) == "depth must be 1..4, not 5"
    assert refused(capsys, MODEL, out, tmp_path / "none") == (
        f"{tmp_path / 'none'}: no such file; give plain text")
    assert refused(capsys, MODEL, out, text, tokens=0) == (
        f"{text}: gives no token to read; give a longer text or more tokens")
    other = shutil.copytree(MODEL, tmp_path / "other")
    write_json(other / "config.json", {"model_type": "gemma"})
    assert refused(capsys, other, out, text) == (
        f"{other}: model_type must be one of llama, mistral, qwen2, qwen3 to be "
        "smoothed, not 'gemma'")
    assert refused(capsys, MODEL / "model.safetensors", out, text) == (
        f"{MODEL / 'model.safetensors'}: is one file of a checkpoint; give the directory {MODEL}")
    assert not out.exists()
