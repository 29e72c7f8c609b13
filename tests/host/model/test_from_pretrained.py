"""Packed models by transformers' own from_pretrained, save_pretrained and pipeline."""

import gc
import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    pipeline,
)

from tritstream import TritstreamConfig
from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.host.model.backends import GoldenBackend, ReferenceBackend
from tritstream.host.model.held import set_backend
from tritstream.host.model.linear import TritEmbedding, TritLinear
from tritstream.host.model.load import load_model
from tritstream.host.model.quantizer import TritstreamQuantizer

from support.golden_helpers import message, rewrite
from support.model_helpers import MODEL, PROMPT, greedy, logits, pack_llama, prompt_ids
from support.pretrained import load, pack_shipped, same_tensors, tensors

#: transformers says that it heeds a part of the argument.
pytestmark = pytest.mark.filterwarnings("ignore:You passed `quantization_config`")

Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack_shipped(tmp_path_factory.mktemp("packed") / "d3")


@pytest.fixture
def damaged(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "damaged")


@pytest.mark.parametrize("backend", ["golden", "reference"])
def test_it_is_the_model_that_load_model_returns(packed, backend):
    model = load(packed, backend=backend)
    assert torch.equal(logits(model), logits(load_model(packed, backend=backend)))
    assert not model.training
    assert type(model.get_submodule(Q)) is TritLinear
    assert model.get_submodule(Q).trits.dtype == torch.uint8


def test_golden_in_the_dtype_of_the_checkpoint_is_the_default(packed):
    model = AutoModelForCausalLM.from_pretrained(packed)
    assert model.dtype == torch.bfloat16
    expected = load_model(packed, backend="golden", dtype=torch.bfloat16)
    assert torch.equal(logits(model), logits(expected))


def test_bits_and_a_backend_ready_made(packed):
    expected = logits(load_model(packed, backend="golden", activation_bits=16))
    assert torch.equal(logits(load(packed, activation_bits=16)), expected)
    assert torch.equal(logits(load(packed, backend=GoldenBackend(16))), expected)


def test_a_device_lives_as_long_as_the_model(packed):
    model = load(packed, backend="device", device="sim:lanes=16")
    golden = load(packed)
    assert torch.equal(logits(model), logits(golden))
    assert greedy(model, 3) == greedy(golden, 3)


def test_nothing_keeps_the_model_alive(packed):
    gc.collect()
    model = load(packed)
    reference = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert reference() is None
    finally:
        gc.enable()


def test_another_backend_for_a_loaded_model(packed):
    model = load(packed, backend=None)
    with pytest.raises(RuntimeError, match="this layer has no backend"):
        logits(model)
    for backend, name in ((GoldenBackend(), "golden"), (ReferenceBackend(), "reference")):
        set_backend(model, backend)
        assert torch.equal(logits(model), logits(load_model(packed, backend=name)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dequantized_weights_are_those_of_the_export(packed, tmp_path, dtype):
    export(packed, tmp_path / "e")
    plain = load(packed, dequantize=True, dtype=dtype)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "e", dtype=dtype)
    mine, theirs = plain.state_dict(), exported.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert type(plain.get_submodule(Q)) is nn.Linear
    assert not hasattr(plain.config, "quantization_config")
    plain.save_pretrained(tmp_path / "s")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "s", dtype=dtype)
    assert torch.equal(logits(again), logits(exported))
    assert "transformers_weights" not in json.loads((tmp_path / "s/config.json").read_text())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="shows mappings on Linux only")
def test_cpu_keeps_no_file_mapped(packed, tmp_path):
    copied = shutil.copytree(packed, tmp_path / "copied")
    held = {backend: load(copied, backend=backend) for backend in ("golden", "cpu")}
    assert str(copied) in Path("/proc/self/maps").read_text()
    del held["golden"]
    assert str(copied) not in Path("/proc/self/maps").read_text()


def test_a_change_of_dtype_leaves_the_scales(packed):
    model = load(packed)
    model.to(torch.bfloat16)
    layer = model.get_submodule(Q)
    assert layer.scales.dtype == torch.float32
    assert torch.equal(layer.scales, tensors(packed)[f"{Q}.scales"])
    assert (layer.weight.dtype, layer.bias.dtype) == (torch.bfloat16, torch.bfloat16)
    x = torch.linspace(-1, 1, layer.in_features, dtype=torch.bfloat16)
    assert torch.equal(layer(x), load(packed, dtype=torch.bfloat16).get_submodule(Q)(x))


@pytest.mark.parametrize("include", [["lm_head"], ["embed_tokens"], ["lm_head", "embed_tokens"]])
def test_heads_and_embeddings(tmp_path, include):
    source, _ = pack_llama(tmp_path)
    pack_checkpoint(source, tmp_path / "o", 4, include=include)
    ids = torch.arange(6)[None]
    model = load(tmp_path / "o", backend="reference")
    assert torch.equal(logits(model, ids), logits(load_model(tmp_path / "o"), ids))
    model.save_pretrained(tmp_path / "s")
    assert same_tensors(tmp_path / "s", tmp_path / "o") and verify(tmp_path / "s", source) == []
    plain = load(tmp_path / "o", dequantize=True)
    torch.testing.assert_close(logits(plain, ids), logits(model, ids), rtol=0, atol=1e-4)


def test_a_packed_embedding_that_is_the_head_too(tmp_path):
    pack_checkpoint(MODEL, tmp_path / "o", 3, include=["embed_tokens"])
    model = load(tmp_path / "o")
    assert type(model.model.embed_tokens) is TritEmbedding
    assert type(model.lm_head) is TritLinear
    assert model.lm_head.trits.data_ptr() == model.model.embed_tokens.trits.data_ptr()
    load(tmp_path / "o", dtype=torch.bfloat16).save_pretrained(tmp_path / "s")
    assert same_tensors(tmp_path / "s", tmp_path / "o")
    assert json.loads((tmp_path / "s/config.json").read_text())["tie_word_embeddings"]
    assert torch.equal(logits(load(tmp_path / "s")), logits(model))
    plain = load(tmp_path / "o", dequantize=True)
    assert plain.lm_head.weight is plain.model.embed_tokens.weight
    torch.testing.assert_close(logits(plain), logits(load(tmp_path / "o", backend="reference")),
                               rtol=0, atol=2e-2)


def test_the_base_model_and_another_head(packed):
    hidden = load(packed, AutoModel, backend="reference")(prompt_ids()).last_hidden_state
    causal = load(packed, backend="reference")
    assert torch.equal(hidden, causal.model(prompt_ids()).last_hidden_state)
    classifier = load(packed, AutoModelForSequenceClassification, backend="reference")
    assert type(classifier.get_submodule(Q)) is TritLinear
    assert torch.equal(classifier.model(prompt_ids()).last_hidden_state, hidden)


def test_pipeline(packed):
    generate = pipeline("text-generation", str(packed))
    found, = generate(PROMPT, max_new_tokens=8, do_sample=False, return_full_text=False)
    expected = generate.tokenizer.decode(greedy(generate.model, 8))
    assert found["generated_text"] == expected
    assert type(generate.model.get_submodule(Q)) is TritLinear


def test_a_snapshot_of_the_hub_whose_files_are_links(packed, tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    shutil.copytree(packed, blobs)
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert torch.equal(logits(load(snapshot)), logits(load(packed)))


def test_a_matrix_that_the_model_does_not_have(damaged, packed):
    def add(found, records):
        for end in ("trits", "scales"):
            found[f"extra.{end}"] = found[f"{Q}.{end}"]
            records[f"extra.{end}"] = dict(records[f"{Q}.{end}"])

    rewrite(damaged, add)
    # As with any tensor that a model does not have, transformers says so and goes on.
    assert torch.equal(logits(load(damaged)), logits(load(packed)))
    with pytest.raises(CheckpointError, match=message(
            "packed matrix extra (128, 128) is no linear layer of Qwen2ForCausalLM; pack the model "
            "again")):
        load_model(damaged)


def test_wrong_backend_or_place(packed):
    with pytest.raises(ValueError, match="^backend must be "):
        load(packed, backend="fpga")
    with pytest.raises(ValueError, match=message(
            'packed layers cannot stay on the disk; leave "disk" out of device_map')):
        TritstreamQuantizer(TritstreamConfig()).validate_environment(device_map={"": "disk"})


@pytest.mark.parametrize("end", ["trits", "scales", "norm"])
@pytest.mark.parametrize("dequantize", [False, True])
def test_damage_is_named(damaged, end, dequantize):
    name = "model.norm.weight" if end == "norm" else f"{Q}.{end}"
    tensor = PackedCheckpoint(damaged)._tensors[name]
    data = bytearray(tensor.path.read_bytes())
    data[tensor.offset] ^= 1
    tensor.path.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"packed\.safetensors: {name}: CRC-32 is .*; copy"):
        load(damaged, dequantize=dequantize)


def test_a_value_that_is_not_finite_stops_a_pass(damaged):
    def change(found, records):
        found["model.layers.2.input_layernorm.weight"][5] = np.nan

    rewrite(damaged, change)
    with pytest.raises(CheckpointError, match="model.layers.2.input_layernorm gives nan at"):
        logits(AutoModelForCausalLM.from_pretrained(damaged))


def test_a_class_without_a_packed_matrix(packed, tmp_path):
    config = json.loads((packed / "config.json").read_text())
    other = shutil.copytree(packed, tmp_path / "other")
    config |= {"model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"]}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="GPTNeoXForCausalLM has none of its packed matrices"):
        AutoModelForCausalLM.from_pretrained(other)
