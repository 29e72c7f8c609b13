"""Plain models that from_pretrained quantizes while it loads them."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

import tritstream
from tritstream import TritstreamConfig
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.golden.quantizers.grouping import Grouping
from tritstream.golden.quantizers.registry import method_of

from support.model_helpers import MODEL, logits, pack_llama
from support.pretrained import load, same_tensors

#: transformers says that it heeds a part of the argument.
pytestmark = pytest.mark.filterwarnings("ignore:You passed `quantization_config`")

Q = "model.layers.0.self_attn.q_proj"


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
