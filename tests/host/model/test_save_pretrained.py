"""What save_pretrained writes of a packed model: a packed checkpoint again."""

import copy
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.host.model.backends import GoldenBackend
from tritstream.host.model.held import set_backend
from tritstream.host.model.replacement import packed_layers

from support.golden_helpers import message
from support.model_helpers import MODEL, logits
from support.pretrained import load, pack_shipped, same_tensors, tensors

#: transformers says that it heeds a part of the argument.
pytestmark = pytest.mark.filterwarnings("ignore:You passed `quantization_config`")

Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack_shipped(tmp_path_factory.mktemp("packed") / "d3")


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
