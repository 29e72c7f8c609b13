"""Packing is planned by the architecture: what is packed can be loaded, and runs."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.host.model.config import TritstreamConfig
from tritstream.host.model.load import load_model

from support.architecture_cases import (
    ARCHITECTURES,
    IDS,
    changed,
    found_in,
    logits,
    packed,
    save_model,
    shipped,
)
from support.cli_helpers import command_fails, run_command
from support.golden_helpers import rewrite
from support.model_helpers import MODEL

ATTENTION = {f"self_attn.{name}_proj" for name in "qkvo"}
MLP = {f"mlp.{name}_proj" for name in ("gate", "up", "down")}
EXPERTS = {name.replace("mlp", "mlp.experts.*") for name in MLP}
PACKED = {
    **dict.fromkeys(("qwen2", "qwen3", "llama", "mistral", "gemma", "gemma2"), ATTENTION | MLP),
    "qwen3_5_text": ATTENTION | MLP | {
        f"linear_attn.{name}" for name in ("in_proj_qkv", "in_proj_z", "out_proj")},
    "phi3": {"self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"},
    "gpt_neox": {"attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h",
                 "mlp.dense_4h_to_h"},
    "qwen2_moe": ATTENTION | EXPERTS | {name.replace("mlp", "mlp.shared_expert") for name in MLP},
    "qwen3_moe": ATTENTION | EXPERTS,
    "mixtral": ATTENTION | {f"block_sparse_moe.experts.*.w{number}" for number in (1, 2, 3)},
    "deepseek_v3": MLP | EXPERTS | {name.replace("mlp", "mlp.shared_experts") for name in MLP} | {
        f"self_attn.{name}" for name in (
            "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")},
    "gpt_oss": ATTENTION | {"mlp.experts.gate_up_proj.*", "mlp.experts.down_proj.*"},
    "granitemoe": ATTENTION | {f"block_sparse_moe.{name}_linear.weight.*"
                               for name in ("input", "output")},
    "llama4_text": ATTENTION | {f"feed_forward.experts.{name}.*"
                                for name in ("gate_up_proj", "down_proj")} | {
        name.replace("mlp", "feed_forward.shared_expert") for name in MLP},
    "mamba": {"mixer.in_proj", "mixer.x_proj", "mixer.out_proj"},
    "bloom": {"mlp.dense_h_to_4h", "mlp.dense_4h_to_h", "self_attention.dense",
              "self_attention.query_key_value"},
    "falcon": {"mlp.dense_h_to_4h", "mlp.dense_4h_to_h", "self_attention.dense",
               "self_attention.query_key_value"},
    "gemma3_text": ATTENTION | MLP,
    "qwen2_vl": ATTENTION | MLP,
}


#: Kinds with experts.
MIXTURES = {"qwen2_moe", "qwen3_moe", "mixtral", "deepseek_v3", "gpt_oss", "granitemoe",
            "llama4_text"}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request, tmp_path_factory):
    """A model, and it packed as the command packs it."""
    path = tmp_path_factory.mktemp(request.param)
    return packed(save_model(path / "m", request.param))


@pytest.mark.filterwarnings("ignore")
def test_a_packed_model_computes_the_same_as_its_export(model, tmp_path):
    source, out = model
    export(out, tmp_path / "exported")
    exact = logits(tmp_path / "exported")
    # Its weights are rounded to float16.
    torch.testing.assert_close(logits(out), exact, rtol=0, atol=2e-3)
    assert (logits(source) - exact).abs().max() > 2e-4
    integers = logits(out, backend="golden", activation_bits=16)
    torch.testing.assert_close(integers, exact, rtol=0, atol=5e-3)


@pytest.mark.filterwarnings("ignore")
@torch.inference_mode()
def test_from_pretrained_gives_the_same_and_saves_it(model, tmp_path):
    source, out = model
    export(out, tmp_path / "exported")
    kind = type(load_model(source))
    for backend in ("reference", "golden"):
        loaded = kind.from_pretrained(out, dtype=torch.float32,
                                      quantization_config=TritstreamConfig(backend=backend))
        assert torch.equal(loaded(input_ids=IDS).logits[0], logits(out, backend=backend))
    loaded.save_pretrained(tmp_path / "saved")
    assert found_in(tmp_path / "saved") == [] and verify(tmp_path / "saved", source) == []
    assert tensors_of(tmp_path / "saved") == tensors_of(out)
    how = {"dtype": torch.float32, "quantization_config": TritstreamConfig(dequantize=True)}
    if loaded.config.model_type in MIXTURES:
        with pytest.raises(CheckpointError, match="cannot be loaded with dequantize=True; export "):
            kind.from_pretrained(out, **how)
        return
    plain = kind.from_pretrained(out, **how)
    assert torch.equal(plain(input_ids=IDS).logits[0], logits(tmp_path / "exported"))


def tensors_of(path):
    """Bytes of each tensor of a packed checkpoint."""
    checkpoint = PackedCheckpoint(path)
    return {name: tensor.read().tobytes() for shard in checkpoint.shards.values()
            for name, tensor in shard.tensors.items()}


def test_the_page_has_its_share(model, request):
    checkpoint, kind = PackedCheckpoint(model[1]), request.node.callspec.params["model"]
    weights = sum(math.prod(info.shape) for info in checkpoint.matrices.values())
    others = sum(math.prod(tensor.shape) for tensor in checkpoint.kept.values())
    page = (Path(__file__).parents[2] / "docs" / "transformers.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith(f"| `{kind}` |")]
    assert len(rows) == 1
    assert all(f"| {weights / (weights + others):.1%} |".replace("%", " %") in row for row in rows)


def test_which_layers_of_it_are_packed(model, request):
    kind = request.node.callspec.params["model"]
    names = {re.sub(r"\.\d+(?=\.|$)", ".*", re.sub(r"^.*?\.\d+\.", "", name))
             for name in PackedCheckpoint(model[1]).matrices}
    assert names == PACKED[kind]


def test_verify_says_that_it_can_be_loaded(model):
    source, out = model
    assert found_in(out) == []
    assert verify(out, source) == []


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


def test_a_classifier_is_no_model_that_generates(tmp_path):
    _, out = packed(save_model(tmp_path / "m", "qwen2", "ForSequenceClassification"))
    assert "score.weight" in PackedCheckpoint(out).kept
    assert found_in(out) == []
    with pytest.raises(CheckpointError, match="lm_head.weight of the model is missing"):
        load_model(out)


@pytest.mark.filterwarnings("ignore")
@torch.inference_mode()
def test_a_classifier_by_from_pretrained(tmp_path):
    _, out = packed(save_model(tmp_path / "m", "qwen2", "ForSequenceClassification"))
    kind = AutoModelForSequenceClassification
    found = [kind.from_pretrained(out, dtype=torch.float32, quantization_config=TritstreamConfig(
        **fields))(input_ids=IDS).logits for fields in ({"dequantize": True},
                                                        {"backend": "reference"})]
    export(out, tmp_path / "exported")
    exported = kind.from_pretrained(tmp_path / "exported", dtype=torch.float32)
    assert torch.equal(found[0], exported(input_ids=IDS).logits)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=2e-3)


def test_verify_finds_what_cannot_be_run_packed(tmp_path):
    source = save_model(tmp_path / "m", "mixtral")
    # Without the architecture, experts are packed by name only.
    pack_checkpoint(source, tmp_path / "o", 2, include=["experts.1.w1"])
    place = "model.layers.0.mlp.experts.gate_up_proj"
    assert {finding.message for finding in found_in(tmp_path / "o")} == {
        f"is packed, but cannot be loaded so (not all matrices of {place.replace('0', layer)} are "
        "packed); pack the model again" for layer in "01"}
    with pytest.raises(CheckpointError, match=(
            r"model.layers.0.block_sparse_moe.experts.0.w1 is not packed, but other matrices of "
            f"{place} are; pack the model again")):
        load_model(tmp_path / "o")


def test_experts_that_the_model_computes_in_its_own_way(tmp_path, monkeypatch):
    own = GptOssExperts.forward

    def transposed(self, *arguments, **options):
        self.down_proj.transpose(1, 2)
        return own(self, *arguments, **options)

    monkeypatch.setattr(GptOssExperts, "forward", transposed)
    code, out, said = run_command("quantize", save_model(tmp_path / "m", "gpt_oss"),
                                  "-o", tmp_path / "o")
    assert code == 0
    part = "experts of GptOssExperts, which computes in its own way"
    assert f" 25.2%  {part}: model.layers.*.mlp.experts.down_proj\n" in out
    assert said.startswith("warning: only 63.0% of the weights are packed; kept are "
                           f"{part} (25.2%)")
    assert found_in(tmp_path / "o") == []
    load_model(tmp_path / "o")


def test_another_configuration_is_reported(tmp_path):
    path = shipped(tmp_path)
    config = path / "config.json"
    config.write_text(config.read_text().replace('"model_type": "qwen2"', '"model_type": "qwen9"'))
    code, out, said = run_command("quantize", path, "-o", tmp_path / "o")
    assert code == 0
    assert said.startswith(
        f"warning: {path}: transformers cannot build the model (model_type 'qwen9' is not known); "
        "check its config.json. Matrices are chosen by their names\n")
    assert "\nmatrices were chosen by their names: " in out
    assert "model_type 'qwen9' is not known" in command_fails("verify", tmp_path / "o", "--json")


def test_without_transformers_names_decide(tmp_path, monkeypatch):
    monkeypatch.setattr("tritstream.scripts.weights.architecture.find_spec", lambda name: None)
    source = save_model(tmp_path / "m", "qwen2_moe")
    code, out, _ = run_command("quantize", source, "-o", tmp_path / "o")
    assert code == 0
    assert "matrices were chosen by their names: torch and transformers are not installed" in out
    code, out, _ = run_command("verify", tmp_path / "o")
    assert out.endswith("whether it can be loaded was not checked: torch and transformers are not "
                        "installed\n")
    monkeypatch.undo()
    assert found_in(tmp_path / "o") == []
    load_model(tmp_path / "o")


@pytest.mark.parametrize("fields", [{}, None])
def test_an_empty_quantization_config_is_loaded(tmp_path, fields):
    path = shipped(tmp_path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"quantization_config": fields}))
    np.testing.assert_array_equal(logits(path), logits(MODEL))
    assert found_in(packed(path)[1]) == []


def test_a_model_that_the_import_packs_can_be_loaded(tmp_path):
    _, out = packed(save_model(tmp_path / "m", "qwen3_moe"))
    export(out, tmp_path / "published")
    code, text, _ = run_command("import", tmp_path / "published", "-o", tmp_path / "o",
                                "--exclude", "layers.1.*")
    assert code == 0 and "  left out on request: model.layers.*.mlp.experts.*." in text
    checkpoint = PackedCheckpoint(tmp_path / "o")
    assert checkpoint.config["quantization_config"]["exclude"] == ["layers.1.*"]
    assert len(checkpoint.matrices) == 4 + 4 * 3
    assert found_in(tmp_path / "o") == []
    torch.testing.assert_close(logits(tmp_path / "o"), logits(tmp_path / "published"),
                               rtol=0, atol=2e-3)


def test_a_norm_that_is_missing_from_a_packed_file(tmp_path):
    _, out = packed(shipped(tmp_path))

    def drop(tensors, records):
        del tensors["model.norm.weight"], records["model.norm.weight"]

    rewrite(out, drop)
    assert [finding.tensor for finding in found_in(out)] == ["model.norm.weight"]
