from types import SimpleNamespace

import numpy as np
import pytest

from tritstream.golden.checkpoints.smoothed import SmoothedSource, input_sets, tensor_factors
from tritstream.golden.errors import CheckpointError
from tritstream.golden.open_source import open_source

from support.golden_helpers import make_checkpoint, message

CONFIG = {"model_type": "qwen2", "num_hidden_layers": 1, "hidden_size": 12,
          "intermediate_size": 20, "num_attention_heads": 6, "num_key_value_heads": 2}


def sets_of(**changes):
    return input_sets(SimpleNamespace(config=CONFIG | changes, path="model"))


def test_input_sets_of_a_layer():
    attention, values, mlp, inner = sets_of()
    layer = "model.layers.0"
    assert attention.readers == tuple(f"{layer}.self_attn.{name}_proj" for name in "qkv")
    assert attention.producer == f"{layer}.input_layernorm"
    assert values.readers == (f"{layer}.self_attn.o_proj",)
    assert values.producer == f"{layer}.self_attn.v_proj"
    assert mlp.readers == (f"{layer}.mlp.gate_proj", f"{layer}.mlp.up_proj")
    assert mlp.producer == f"{layer}.post_attention_layernorm"
    assert (inner.readers, inner.producer) == ((f"{layer}.mlp.down_proj",), f"{layer}.mlp.up_proj")
    np.testing.assert_array_equal(attention.channels, np.arange(12))
    np.testing.assert_array_equal(inner.channels, np.arange(20))
    # Six heads of two channels, three of them on each of the two value heads.
    np.testing.assert_array_equal(values.channels, [0, 1] * 3 + [2, 3] * 3)


def test_heads_of_another_size():
    values = sets_of(head_dim=4, num_key_value_heads=None)[1]
    np.testing.assert_array_equal(values.channels, np.arange(24))


def test_other_models_are_refused():
    with pytest.raises(CheckpointError, match=message(
            "model: model_type must be one of llama, mistral, qwen2, qwen3 to be smoothed, not "
            "'gemma'")):
        sets_of(model_type="gemma")


def test_tensor_factors_of_producer_and_readers():
    sets = sets_of()
    factors = [np.array([2, 4, 8, 16], np.float32), np.full(20, 2, np.float32)]
    found = tensor_factors([(sets[1], factors[0]), (sets[3], factors[1])])
    rows, columns = found["model.layers.0.self_attn.v_proj.weight"]
    np.testing.assert_array_equal(rows, [0.5, 0.25, 0.125, 0.0625])
    assert columns is None
    np.testing.assert_array_equal(found["model.layers.0.self_attn.v_proj.bias"][0], rows)
    rows, columns = found["model.layers.0.self_attn.o_proj.weight"]
    assert rows is None
    np.testing.assert_array_equal(columns, [2, 4] * 3 + [8, 16] * 3)
    np.testing.assert_array_equal(found["model.layers.0.mlp.up_proj.weight"][0], np.full(20, 0.5))


@pytest.mark.parametrize("sharded", [False, True])
def test_smoothed_source_multiplies_what_it_reads(tmp_path, sharded):
    tensors = make_checkpoint(tmp_path / "model", sharded=sharded)
    source = open_source(tmp_path / "model")
    weight, bias = "model.layers.1.mlp.down_proj.weight", "model.layers.0.self_attn.q_proj.bias"
    rng = np.random.default_rng(1)
    rows, columns = (rng.lognormal(size=size).astype(np.float32) for size in (37, 50))
    smoothed = SmoothedSource(source, {weight: (rows, columns), bias: (rows, None)})
    expected = tensors[weight].astype(np.float32) * columns * rows[:, None]
    np.testing.assert_array_equal(smoothed.read(weight), expected)
    np.testing.assert_array_equal(smoothed.read(bias), tensors[bias].astype(np.float32) * rows)
    assert b"".join(smoothed.tensors[weight].pieces()) == expected.tobytes()
    assert smoothed.tensors[weight].size == expected.nbytes
    assert list(smoothed.tensors) == list(source.tensors)
    other = "model.embed_tokens.weight"
    assert smoothed.tensors[other] is source.tensors[other]
    assert smoothed.config == source.config | {"torch_dtype": "float32"}
    assert smoothed.files() == source.files()


