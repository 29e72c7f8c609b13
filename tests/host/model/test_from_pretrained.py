"""Packed models by transformers' own from_pretrained, save_pretrained and pipeline."""

import copy
import gc
import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    pipeline,
)

import tritstream
from tritstream import TritstreamConfig
from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.golden.quantizers.grouping import Grouping
from tritstream.golden.quantizers.registry import method_of
from tritstream.host.model.backends import GoldenBackend, ReferenceBackend
from tritstream.host.model.held import set_backend
from tritstream.host.model.linear import TritEmbedding, TritLinear
from tritstream.host.model.load import load_model
from tritstream.host.model.quantizer import TritstreamQuantizer
from tritstream.host.model.replacement import packed_layers

from support.golden_helpers import message, rewrite
from support.model_helpers import MODEL, PROMPT, greedy, logits, pack_llama, prompt_ids

#: transformers says that it heeds a part of the argument.
pytestmark = pytest.mark.filterwarnings("ignore:You passed `quantization_config`")

Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d3"
    pack_checkpoint(MODEL, path, 3, overrides={"*.down_proj": 2})
    return path


@pytest.fixture
def damaged(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "damaged")


def load(path, kind=AutoModelForCausalLM, dtype=torch.float32, **fields):
    return kind.from_pretrained(path, dtype=dtype, quantization_config=TritstreamConfig(**fields))


def tensors(path):
    """All tensors of a checkpoint by name."""
    return {name: tensor for file in path.glob("*.safetensors")
            for name, tensor in load_file(file).items()}


def same_tensors(one, other):
    mine, theirs = tensors(one), tensors(other)
    return mine.keys() == theirs.keys() and all(
        torch.equal(mine[name], theirs[name]) and mine[name].dtype == theirs[name].dtype
        for name in mine)


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


def test_what_is_saved_is_a_packed_checkpoint(packed, tmp_path):
    AutoModelForCausalLM.from_pretrained(packed).save_pretrained(tmp_path / "s")
    assert same_tensors(tmp_path / "s", packed)
    assert verify(tmp_path / "s") == []
    assert verify(tmp_path / "s", MODEL) == []
    saved, config = PackedCheckpoint(tmp_path / "s"), PackedCheckpoint(packed).config
    assert saved.config["quantization_config"] == config["quantization_config"]
    assert saved.config["transformers_weights"] == config["transformers_weights"]
    assert {path.name for path in (tmp_path / "s").iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors.index.json",
        "packed.safetensors"}
    assert torch.equal(logits(load(tmp_path / "s")), logits(load(packed)))


def test_cpu_holds_a_matrix_once_and_saves_it(packed, tmp_path):
    """The tiles of the layers are empty, and made again for a file, a copy or another backend."""
    model = load(packed, backend="cpu", dtype=torch.bfloat16)
    assert all(layer.trits.numel() == 0 for layer in packed_layers(model))
    expected = logits(model)
    assert torch.equal(expected, logits(load(packed, dtype=torch.bfloat16)))
    copied = copy.deepcopy(model)
    model.save_pretrained(tmp_path / "s")
    assert same_tensors(tmp_path / "s", packed) and verify(tmp_path / "s") == []
    assert all(layer.trits.numel() == 0 for layer in packed_layers(model))
    set_backend(model, GoldenBackend())
    assert torch.equal(logits(model), expected)
    assert model.get_submodule(Q).trits.numel() > 0
    del model
    assert torch.equal(logits(copied), expected)
    copied.save_pretrained(tmp_path / "c")
    assert same_tensors(tmp_path / "c", packed)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="shows mappings on Linux only")
def test_cpu_keeps_no_file_mapped(packed, tmp_path):
    copied = shutil.copytree(packed, tmp_path / "copied")
    held = {backend: load(copied, backend=backend) for backend in ("golden", "cpu")}
    assert str(copied) in Path("/proc/self/maps").read_text()
    del held["golden"]
    assert str(copied) not in Path("/proc/self/maps").read_text()


def test_saved_in_shards_and_over_what_was_loaded(packed, tmp_path):
    copied = shutil.copytree(packed, tmp_path / "copied")
    model = load(copied, dtype=torch.bfloat16)
    expected = logits(model)
    model.save_pretrained(copied, max_shard_size="200KB")
    assert len(list(copied.glob("packed-*.safetensors"))) > 2
    assert not (copied / "packed.safetensors").exists()
    assert verify(copied, MODEL) == []
    again = load(copied, dtype=torch.bfloat16)
    assert torch.equal(logits(again), expected)
    again.save_pretrained(copied)
    assert same_tensors(copied, packed)
    assert not list(copied.glob("packed-*")) and verify(copied) == []
    assert torch.equal(logits(model), expected)


def test_saved_in_another_dtype(packed, tmp_path):
    load(packed).save_pretrained(tmp_path / "s")
    saved = PackedCheckpoint(tmp_path / "s")
    assert {tensor.dtype for tensor in saved.kept.values()} == {"F32"}
    assert saved.config["quantization_config"]["converted"] == dict.fromkeys(saved.kept, "BF16")
    assert verify(tmp_path / "s", MODEL) == []
    load(tmp_path / "s", dtype=torch.bfloat16).save_pretrained(tmp_path / "t")
    assert same_tensors(tmp_path / "t", packed)
    assert "converted" not in PackedCheckpoint(tmp_path / "t").config["quantization_config"]


def test_a_copy_saves_itself(packed, tmp_path):
    model = load(packed, dtype=torch.bfloat16)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.model.norm.weight += 1
    copied.save_pretrained(tmp_path / "c")
    model.save_pretrained(tmp_path / "m")
    assert same_tensors(tmp_path / "m", packed)
    norm = tensors(packed)["model.norm.weight"]
    assert torch.equal(tensors(tmp_path / "c")["model.norm.weight"], norm + 1)


@pytest.mark.parametrize("name", ["push_to_hub", "variant", "distributed_checkpoint"])
def test_ways_of_saving_that_are_refused(packed, tmp_path, name):
    with pytest.raises(ValueError, match=message(
            f"a packed model cannot be saved with {name}; save it without, and push_to_hub() it "
            "then")):
        load(packed).save_pretrained(tmp_path / "s", **{name: "yes"})


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


def test_quantized_while_it_is_loaded(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(MODEL, quantization_config=TritstreamConfig(
        3, depths={"*.down_proj": 2}, exclude=["layers.0.*"]))
    pack_checkpoint(MODEL, tmp_path / "o", 3, overrides={"*.down_proj": 2}, exclude=["layers.0.*"])
    assert torch.equal(logits(model), logits(AutoModelForCausalLM.from_pretrained(tmp_path / "o")))
    model.save_pretrained(tmp_path / "s")
    assert same_tensors(tmp_path / "s", tmp_path / "o")
    assert (PackedCheckpoint(tmp_path / "s").config["quantization_config"]
            == PackedCheckpoint(tmp_path / "o").config["quantization_config"])
    assert verify(tmp_path / "s", MODEL) == []


def test_quantized_in_long_groups_while_it_is_loaded(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(MODEL, quantization_config=TritstreamConfig(
        2, group=64, scales="direct", backend="cpu"))
    model.save_pretrained(tmp_path / "s")
    pack_checkpoint(MODEL, tmp_path / "o", 2, method=method_of(
        "search", grouping=Grouping(64, "direct")))
    assert same_tensors(tmp_path / "s", tmp_path / "o")
    assert verify(tmp_path / "s", MODEL) == []
    assert torch.equal(logits(model), logits(AutoModelForCausalLM.from_pretrained(tmp_path / "o")))


def test_quantized_from_shards_by_another_method(tmp_path):
    source, _ = pack_llama(tmp_path)
    AutoModelForCausalLM.from_pretrained(source).save_pretrained(tmp_path / "m",
                                                                 max_shard_size="20KB")
    model = load(tmp_path / "m", depth=2, method="tritllm-v2", dequantize=True)
    assert type(model.get_submodule(Q)) is nn.Linear
    model = load(tmp_path / "m", depth=2, method="tritllm-v2")
    model.save_pretrained(tmp_path / "s")
    assert PackedCheckpoint(tmp_path / "s").codec == "tritllm-v2"
    assert verify(tmp_path / "s", tmp_path / "m") == []


@pytest.mark.parametrize(("fields", "error"), [
    ({"depth": 5}, "depth must be 1..4, not 5"),
    ({"method": "best"}, "method must be one of"),
    ({"group": 24}, "group must be a multiple of 16, not 24"),
    ({"scales": "inverse"}, "scales must be coded or direct, not 'inverse'"),
    ({"method": "tritllm-v2", "group": 32}, "method tritllm-v2 supports groups of 16 with coded "
                                            "scales only"),
])
def test_wrong_configuration(fields, error):
    with pytest.raises(ValueError, match=error):
        TritstreamConfig(**fields)


def test_names_that_the_configuration_does_not_have():
    with pytest.raises(TypeError, match="unexpected keyword argument 'dept'"):
        TritstreamConfig(dept=3)
    assert tritstream.TritstreamConfig is TritstreamConfig


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
