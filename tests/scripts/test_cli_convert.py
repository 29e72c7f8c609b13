import json
import re

import pytest
from safetensors import safe_open

from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.packed.reader import PackedCheckpoint

from support.cli_helpers import MODEL, command_fails, fails, run_command, tritstream
from support.gguf_helpers import tiny_qwen2, write_random
from support.golden_helpers import contents


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
        "README.md", "config.json", "generation_config.json", "model.safetensors.index.json",
        "packed.safetensors", "tokenizer.json", "tokenizer_config.json"}
    code, out, err = tritstream("verify", tmp_path / "packed", "--against", file)
    assert (code, err) == (0, "")


def test_converts_a_gguf_file(file, tmp_path):
    code, out, err = tritstream("convert", file, "-o", tmp_path / "hf")
    assert (code, out) == (0, f"Hugging Face checkpoint: {tmp_path / 'hf'}\n")
    assert re.fullmatch(r"model.safetensors: 29 tensors converted, the worst \S+: float32 to "
                        r"float16, largest error \S+e-0\d \(\S+e-0\d of its largest value\)\n", err)
    assert sum(path.stat().st_size for path in (tmp_path / "hf").glob("*.safetensors")) < 2e6
    code, out, err = tritstream("convert", file, "-o", tmp_path / "wide", "--dtype", "float32")
    assert (code, err) == (0, "")
    assert {tensor.dtype for tensor in DirectorySource(tmp_path / "wide").tensors.values()} == {
        "F32"}
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
        f"{MODEL / 'model.safetensors'}: is one file of a checkpoint; give the directory {MODEL}")
    assert fails("quantize", file, "-o", file.parent) == (
        f"{file.parent}: must not be the source or hold it; choose another")
    assert not out.exists()


def test_a_tokenizer_that_is_not_known_can_be_left_out(tmp_path):
    file, packed = tmp_path / "odd.gguf", tmp_path / "packed"
    write_random(file, "llama", tokenizer={
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-5",
        "tokenizer.ggml.tokens": ["a", "b"], "tokenizer.ggml.merges": []})
    for command in ("quantize", "convert"):
        assert command_fails(command, file, "-o", packed) == (
            f"{file}: its tokenizer cannot be converted: its pre-tokenizer (way to split text), "
            "gpt-5, is not known; leave it out with --no-tokenizer, and copy tokenizer.json of the "
            "original model")
    code, _, _ = run_command("quantize", file, "-o", packed, "-d", 2, "--no-tokenizer")
    assert code == 0
    assert {path.name for path in packed.iterdir()} >= {"config.json", "packed.safetensors"}
    assert not list(packed.glob("tokenizer*"))
    assert run_command("verify", packed, "--against", file)[0] == 0
    code, _, _ = run_command("convert", file, "-o", tmp_path / "hf", "--no-tokenizer")
    assert code == 0 and not list((tmp_path / "hf").glob("tokenizer*"))
    assert command_fails("quantize", tmp_path / "hf", "-o", tmp_path / "x", "--no-tokenizer") == (
        f"{tmp_path / 'hf'}: is a directory, whose tokenizer is copied and not converted; "
        "--no-tokenizer is for GGUF files")


def test_dtype_of_what_is_kept_and_exported(file, tmp_path):
    packed = tmp_path / "packed"
    code, out, _ = run_command("quantize", file, "-o", packed, "-d", 2)
    assert code == 0
    assert "\nconverted: model.embed_tokens.weight: float32 to float16, largest error " in out
    code, _, err = run_command("export", packed, "-o", tmp_path / "e", "--dtype", "bfloat16")
    assert code == 0 and " float32 to bfloat16, largest error " in err
    assert {tensor.dtype for tensor in DirectorySource(tmp_path / "e").tensors.values()} == {
        "BF16"}
    for command, source in (("quantize", file), ("convert", file), ("export", packed)):
        assert command_fails(command, source, "-o", tmp_path / "x", "--dtype", "half") == (
            "dtype must be one of auto, float32, float16, bfloat16, not half")
    assert not (tmp_path / "x").exists()


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
