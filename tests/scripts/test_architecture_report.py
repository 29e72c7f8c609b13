"""What quantize and verify say of a model: what is not packed, not known or missing."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file

from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.model.load import load_model

from support.architecture_cases import (
    changed,
    logits,
    packed,
    save_model,
    shipped,
)
from support.cli_helpers import command_fails, run_command
from support.model_helpers import MODEL


@pytest.mark.parametrize(("kind", "share", "parts"), [
    ("qwen2_moe", 0.830, {"embeddings", "output head", "norms, biases and other vectors",
                          "routers and gates of experts"}),
    ("gpt_oss", 0.882, {"embeddings", "output head", "norms, biases and other vectors",
                        "routers and gates of experts"}),
    ("qwen2_vl", 0.177, {"vision and audio parts", "embeddings", "output head",
                         "norms, biases and other vectors"}),
])
def test_summary_says_what_was_not_packed(tmp_path, kind, share, parts):
    source = save_model(tmp_path / "m", kind)
    code, out, said = run_command("quantize", source, "-o", tmp_path / "o")
    assert code == 0
    assert f"packed {share:.1%} of all weights; kept" in out
    shown = re.findall(r"^ +([\d.]+)%  ([^:]+): ", out, re.M)
    assert {reason for _, reason in shown} == parts
    assert sum(float(part) for part, _ in shown) == pytest.approx(100 * (1 - share), abs=0.3)
    assert re.search(r"^squared error of all \d\.\d\de-\d\d; 0\.\d{3} MB written in \d+\.\d s$",
                     out, re.M)
    assert said.startswith(f"warning: only {share:.1%} of the weights are packed; kept are ")
    code, out, _ = run_command("verify", tmp_path / "o")
    kind, = json.loads((source / "config.json").read_text())["architectures"]
    assert (code, out.splitlines()[-1]) == (0, f"it can be loaded, as {kind}")


def test_report_as_json(tmp_path):
    code, out, _ = run_command("quantize", MODEL, "-o", tmp_path / "o", "--json")
    report = json.loads(out)
    assert (code, report["model"], report["missing"]) == (0, "Qwen2ForCausalLM", [])
    errors = {matrix["name"]: matrix for matrix in report["tensors"] if matrix["depth"]}
    weights = load_file_as_floats(MODEL / "model.safetensors")
    energy = {name: np.square(weights[f"{name}.weight"]).sum() for name in errors}
    lost = sum(errors[name]["error"] * energy[name] for name in errors)
    assert report["error"] == pytest.approx(lost / sum(energy.values()), rel=1e-6)
    assert report["packed_share"] == pytest.approx(
        report["weights"] / sum(tensor.size for tensor in weights.values()))
    assert sum(part["share"] for part in report["kept"]) == pytest.approx(
        1 - report["packed_share"])
    assert report["seconds"] > 0


def load_file_as_floats(path):
    return {name: tensor.astype(np.float64) for name, tensor in load_file(path).items()}


MTP = np.zeros((128, 256), np.float32)


@pytest.mark.parametrize("extra", [
    {"mtp.fc.weight": MTP}, {"model.layers.4.mlp.up_proj.weight": MTP},
    {"model.layers.0.self_attn.q_proj.lora_A.weight": MTP}, {"score.weight": MTP},
    {"_orig_mod.model.layers.0.self_attn.q_proj.weight": MTP},
])
def test_tensors_that_the_model_lacks_are_kept_and_reported(tmp_path, extra):
    def add(tensors):
        tensors.update({name: tensor + 1 for name, tensor in extra.items()})

    code, out, _ = run_command("quantize", changed(tmp_path, add), "-o", tmp_path / "o")
    assert code == 0
    name, = extra
    pattern = re.sub(r"[.]\d+", ".*", name)
    assert f"  not part of Qwen2ForCausalLM: {pattern}\n" in out
    assert name in PackedCheckpoint(tmp_path / "o").kept
    code, out, _ = run_command("verify", tmp_path / "o")
    assert code == 0
    assert out.startswith(f"warning: {name}: is not part of Qwen2ForCausalLM, nor are 0 other")
    np.testing.assert_array_equal(logits(tmp_path / "o"), logits(packed(shipped(tmp_path))[1]))


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model."])
def test_prefixes_that_the_model_does_not_have(tmp_path, prefix):
    def rename(tensors):
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    path = changed(tmp_path, rename)
    code, _, said = run_command("quantize", path, "-o", tmp_path / "o")
    assert code == 1
    warning, error = said.splitlines()
    assert warning.startswith(f"warning: {path}: lacks 51 tensors of Qwen2ForCausalLM, the first ")
    assert error == (f"error: {path}: has no linear layer to quantize: Qwen2ForCausalLM has no "
                     f"{prefix}model.embed_tokens.weight, nor 49 others of these tensors; check "
                     "the names' prefix and config.json")


@pytest.mark.parametrize("name", [
    "model.norm.weight", "model.embed_tokens.weight", "model.layers.2.mlp.up_proj.weight",
    "model.layers.1.self_attn.q_proj.bias",
])
def test_missing_tensors_are_reported_at_packing_and_by_verify(tmp_path, name):
    path = changed(tmp_path, lambda tensors: tensors.pop(name))
    lacking = "lm_head.weight" if "embed" in name else name
    code, _, said = run_command("quantize", path, "-o", tmp_path / "o")
    assert code == 0
    assert said.startswith(f"warning: {path}: lacks {1 + ('embed' in name)} tensors of "
                           f"Qwen2ForCausalLM, the first {lacking}; no model can be loaded")
    failed = command_fails("verify", tmp_path / "o", "--json")
    assert failed.startswith(f"{tmp_path / 'o'}: {1 + ('embed' in name)} errors, the first in "
                             f"{lacking}: Qwen2ForCausalLM needs it, and it is missing")
    for one in (path, tmp_path / "o"):
        with pytest.raises(CheckpointError, match=f"{lacking} of the model is missing"):
            load_model(one)
