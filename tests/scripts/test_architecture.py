"""Packing is planned by the architecture: what is packed can be loaded, and runs."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
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
