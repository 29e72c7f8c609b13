import json

import pytest
from gguf_helpers import tiny_qwen2
from golden_helpers import contents
from safetensors import safe_open
from test_cli import MODEL, fails, tritstream

from golden.checkpoint import PackedCheckpoint
from golden.sources import DirectorySource


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tiny_qwen2(path, "Q8_0")
    return path


def test_quantizes_a_gguf_file(file, tmp_path):
    code, out, err = tritstream("quantize", file, "-o", tmp_path / "packed", "-d", 2, "--json")
    assert code == 0 and err.startswith("warning: only 85.5% of the weights are packed")
    assert json.loads(out)["model"] == "Qwen2ForCausalLM"
    assert json.loads(out)["weights"] == sum(
        matrix.shape[0] * matrix.shape[1]
        for matrix in PackedCheckpoint(tmp_path / "packed").matrices.values())
    assert contents(tmp_path / "packed").keys() == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json"}
    code, out, err = tritstream("verify", tmp_path / "packed", "--against", file)
    assert (code, err) == (0, "")


def test_converts_a_gguf_file(file, tmp_path):
    code, out, err = tritstream("convert", file, "-o", tmp_path / "hf")
    assert (code, out, err) == (0, f"Hugging Face checkpoint: {tmp_path / 'hf'}\n", "")
    source = DirectorySource(tmp_path / "hf")
    assert source.tensors.keys() == DirectorySource(MODEL).tensors.keys()
    before = contents(tmp_path / "hf")
    assert fails("convert", file, "-o", tmp_path / "hf") == (
        f"{tmp_path / 'hf'}: exists already; remove it, choose another, or force")
    assert tritstream("convert", file, "-o", tmp_path / "hf", "--force")[0] == 0
    assert contents(tmp_path / "hf") == before


def test_what_cannot_be_read(file, tmp_path):
    out, cut = tmp_path / "out", tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:-1000])
    assert fails("convert", MODEL, "-o", out) == (
        f"{MODEL}: is a directory already; give a GGUF file")
    assert fails("convert", cut, "-o", out).startswith(f"{cut}: cut short, ")
    assert fails("quantize", MODEL / "model.safetensors", "-o", out) == (
        f"{MODEL / 'model.safetensors'}: not a GGUF file; give one, or a directory")
    assert fails("quantize", file, "-o", file.parent) == (
        f"{file.parent}: must not be the source or hold it; choose another")
    assert not out.exists()


def test_writes_a_random_model(tmp_path):
    arguments = ("random-model", "0.5B", "--layers", 1, "--vocab", 32, "--dtype", "float16")
    code, out, err = tritstream(*arguments, "-o", tmp_path / "m", "--seed", 3)
    assert (code, err) == (0, "")
    assert out == (
        "14941952 random weights, 14909440 of them in linear layers; no tokenizer\n"
        f"Hugging Face checkpoint: {tmp_path / 'm'}\n")
    assert sorted(contents(tmp_path / "m")) == ["config.json", "model.safetensors"]
    with safe_open(tmp_path / "m" / "model.safetensors", "numpy") as read:
        assert read.metadata() == {
            "format": "pt", "generated": "random weights in the shapes of Qwen2.5-0.5B, seed 3"}
        assert read.get_slice("model.layers.0.mlp.down_proj.weight").get_shape() == [896, 4864]
        assert read.get_slice("model.embed_tokens.weight").get_dtype() == "F16"
    assert json.loads((tmp_path / "m" / "config.json").read_text())["num_hidden_layers"] == 1


def test_dtype_of_a_random_model(tmp_path):
    assert fails("random-model", "7B", "--dtype", "int8", "-o", tmp_path / "m") == (
        "dtype must be one of bfloat16, float16, float32, not int8")
