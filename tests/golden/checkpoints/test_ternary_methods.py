"""Directories of models that were trained ternary: bitnet of transformers, and MLX at 2 bits."""

import json

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.matrix import dequantize
from tritstream.golden.packed.export import export
from tritstream.golden.packed.layout import DIRECT, INVERSE, Layout
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.recover.import_checkpoint import import_checkpoint

from support.golden_helpers import message, write_json

with pytest.MonkeyPatch.context() as patch:
    # transformers compiles functions when this module is imported, which takes seconds.
    patch.setattr(torch, "compile", lambda function: function)
    from transformers.integrations.bitnet import (
        AutoBitLinear,
        BitLinear,
        WeightQuant,
        pack_weights,
    )

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "vocab_size": 40,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
         "max_position_embeddings": 64, "tie_word_embeddings": True}
SHAPES = {"self_attn.q_proj": (64, 64), "self_attn.k_proj": (32, 64), "self_attn.v_proj": (32, 64),
          "self_attn.o_proj": (64, 64), "mlp.gate_proj": (96, 64), "mlp.up_proj": (96, 64),
          "mlp.down_proj": (64, 96)}
SCALE = ml_dtypes.bfloat16(1.5546875)


def write_bitnet(path, change=None, sizes=SIZES, shapes=SHAPES, **fields):
    """Write a model with matrices packed by transformers; returns their levels by module."""
    rng, tensors, levels = np.random.default_rng(0), {}, {}
    for name, shape in shapes.items():
        module = f"model.layers.0.{name}"
        levels[module] = rng.integers(-1, 2, shape).astype(np.float32)
        packed = pack_weights(torch.from_numpy(levels[module].copy()))
        tensors[f"{module}.weight"] = packed.numpy()
        tensors[f"{module}.weight_scale"] = np.array([SCALE])
    tensors["model.embed_tokens.weight"] = rng.normal(0, 1, (40, 64)).astype(ml_dtypes.bfloat16)
    for norm in ("input_layernorm", "post_attention_layernorm"):
        tensors[f"model.layers.0.{norm}.weight"] = np.ones(64, ml_dtypes.bfloat16)
    tensors["model.norm.weight"] = np.ones(64, ml_dtypes.bfloat16)
    if change:
        change(tensors)
    path.mkdir()
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    write_json(path / "config.json", {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], **sizes,
        "dtype": "bfloat16", "quantization_config": {"quant_method": "bitnet", **fields}})
    return levels


@pytest.mark.parametrize(("fields", "factor"), [
    ({}, np.float32(1) / np.float32(SCALE)),
    ({"linear_class": "bitlinear"}, np.float32(1) / np.float32(SCALE)),
    ({"linear_class": "autobitlinear"}, np.float32(SCALE))])
def test_the_direction_of_the_scale(tmp_path, monkeypatch, fields, factor):
    monkeypatch.setattr("tritstream.golden.row_chunks._ELEMENTS", 200)
    levels = write_bitnet(tmp_path / "m", **fields)
    source = DirectorySource(tmp_path / "m")
    assert "quantization_config" not in source.config
    assert not [name for name in source.tensors if name.endswith("_scale")]
    assert source.tensors["model.embed_tokens.weight"].dtype == "BF16"
    for module, expected in levels.items():
        read = source.read(f"{module}.weight")
        assert read.dtype == np.float32
        assert (read == expected * factor).all(), module


@pytest.mark.parametrize(("fields", "kind", "factor"), [
    ({}, INVERSE, np.float32(1) / np.float32(SCALE)),
    ({"linear_class": "autobitlinear"}, DIRECT, np.float32(SCALE))])
def test_packing_keeps_levels_and_scale(tmp_path, fields, kind, factor):
    levels = write_bitnet(tmp_path / "m", **fields)
    report = import_checkpoint(tmp_path / "m", tmp_path / "packed")
    packed = PackedCheckpoint(tmp_path / "packed")
    assert packed.config["quantization_config"]["format_version"] == 5
    assert packed.matrices.keys() == levels.keys()
    for module, expected in levels.items():
        rows, columns = expected.shape
        info, matrix = packed.matrices[module], packed.matrix(module)
        assert (info.depth, info.layout) == (1, Layout(columns, kind, "BF16", single=True))
        assert matrix.scales.stored.tobytes() == np.array([SCALE]).tobytes()
        assert (dequantize(matrix) == expected * factor).all()
        trits = 8 * -(-rows // 5) * columns / expected.size
        own = next(each for each in report.packed.matrices if each.name == module)
        assert own.stored_bits == pytest.approx(trits + 16 / expected.size)
    export(tmp_path / "packed", tmp_path / "plain")
    for module, expected in levels.items():
        read = DirectorySource(tmp_path / "plain").read(f"{module}.weight")
        assert read.tobytes() == (expected * factor + 0).tobytes()


def test_packing_at_another_depth_recovers_the_values(tmp_path):
    levels = write_bitnet(tmp_path / "m")
    import_checkpoint(tmp_path / "m", tmp_path / "packed", 2)
    packed = PackedCheckpoint(tmp_path / "packed")
    assert {info.layout for info in packed.matrices.values()} == {Layout()}
    factor = np.float32(1) / np.float32(SCALE)
    for module, expected in levels.items():
        assert packed.matrices[module].depth == 2
        assert (dequantize(packed.matrix(module)) == expected * factor).all()


def test_rows_that_are_no_multiple_of_four(tmp_path):
    shapes = {**SHAPES, "mlp.gate_proj": (95, 64), "mlp.up_proj": (95, 64),
              "mlp.down_proj": (64, 95)}
    levels = write_bitnet(tmp_path / "m", sizes={**SIZES, "intermediate_size": 95}, shapes=shapes,
                          linear_class="autobitlinear")
    source = DirectorySource(tmp_path / "m")
    for module, expected in levels.items():
        assert (source.read(f"{module}.weight") == expected * np.float32(SCALE)).all()
        matrix = source.tensors[f"{module}.weight"].ternary()
        assert (matrix.q[:, :expected.shape[1]] == expected).all()


@pytest.mark.parametrize("kind", [AutoBitLinear, BitLinear])
def test_biases_are_those_of_transformers(tmp_path, kind):
    """AutoBitLinear multiplies the bias by the scale as well."""
    bias = np.random.default_rng(2).normal(0, 1, 64).astype(ml_dtypes.bfloat16)
    levels = write_bitnet(tmp_path / "m", lambda tensors: tensors.update({f"{Q}.bias": bias}),
                          linear_class=kind.__name__.lower())
    source, layer = DirectorySource(tmp_path / "m"), kind(64, 64, bias=True, dtype=torch.float32)
    values = torch.from_numpy(levels[f"{Q}"])
    layer.weight = (torch.nn.Parameter(values) if kind is AutoBitLinear else
                    torch.nn.Buffer(pack_weights(values.clone())))
    layer.weight_scale.data[:] = float(SCALE)
    layer.bias.data = torch.from_numpy(bias.astype(np.float32))
    read = source.tensors[f"{Q}.bias"]
    with torch.no_grad():
        due = layer(torch.zeros(1, 64))[0].numpy()
    assert (read.read().astype(np.float32) == due).all()
    assert read.dtype == ("F32" if kind is AutoBitLinear else "BF16")


def test_levels_that_are_not_packed(tmp_path):
    def unpack(tensors):
        tensors[f"{Q}.weight"] = np.tile(np.float16([-1, 0, 1, 1]), (64, 16))

    write_bitnet(tmp_path / "m", unpack, linear_class="autobitlinear")
    read = DirectorySource(tmp_path / "m").read(f"{Q}.weight")
    assert (read[5, :4] == np.float32([-1, 0, 1, 1]) * np.float32(SCALE)).all()


def test_a_scale_of_weights_that_are_no_levels(tmp_path):
    def train(tensors):
        tensors[f"{Q}.weight"] = np.full((64, 64), 0.5, np.float16)

    write_bitnet(tmp_path / "m", train, linear_class="autobitlinear")
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm' / 'model.safetensors'}: {Q}.weight has a scale, but weights other "
            "than -1, 0 and 1; " + OTHER)):
        DirectorySource(tmp_path / "m").read(f"{Q}.weight")


@pytest.mark.parametrize("sizes", [SIZES, {}])
def test_online_layers_that_may_be_rounded_or_not(tmp_path, sizes):
    """A layer with another name, or any layer if the sizes do not tell the names."""
    def rename(tensors):
        for name in [name for name in tensors if name.endswith("_proj.weight_scale")]:
            del tensors[name]
        for name in [name for name in tensors if tensors[name].dtype == np.uint8]:
            tensors[name] = np.zeros((8, 8), np.float32)
        if sizes:
            tensors["model.layers.0.self_attn.qkv.weight"] = tensors.pop(f"{Q}.weight")

    write_bitnet(tmp_path / "m", rename, sizes=sizes, linear_class="autobitlinear",
                 quantization_mode="online")
    with pytest.raises(CheckpointError, match=(
            "bitnet with quantization_mode 'online': it is not known whether .* is rounded; use a "
            "model in mode offline")):
        DirectorySource(tmp_path / "m")


Q = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_weights_that_are_rounded_when_loaded(tmp_path, dtype):
    torch.manual_seed(0)
    master = {f"model.layers.0.{name}": torch.randn(shape).to(dtype)
              for name, shape in SHAPES.items()}

    def train(tensors):
        for module, values in master.items():
            del tensors[f"{module}.weight_scale"]
            tensors[f"{module}.weight"] = (
                values.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
                if dtype == torch.bfloat16 else values.numpy())

    write_bitnet(tmp_path / "m", train, linear_class="autobitlinear", quantization_mode="online")
    source = DirectorySource(tmp_path / "m")
    for module, values in master.items():
        expected = WeightQuant.apply(values).float().numpy()
        # The mean is added up in float64 here, in float32 there.
        read, matrix = (source.read(f"{module}.weight"),
                        source.tensors[f"{module}.weight"].ternary())
        assert np.allclose(read, expected, 2e-7, 0), module
        assert matrix.scales.stored.dtype == (
            np.float32 if dtype == torch.float32 else ml_dtypes.bfloat16)
        assert (dequantize(matrix) == read).all()
    assert source.tensors["model.embed_tokens.weight"].dtype == "BF16"


def no_scale(tensors):
    del tensors[f"{Q}.weight_scale"]


def code_3(tensors):
    tensors[f"{Q}.weight"] = tensors[f"{Q}.weight"].copy()
    tensors[f"{Q}.weight"][3, 5] |= 3


OTHER = "use another copy of the model"


@pytest.mark.parametrize(("change", "fields", "fault"), [
    (None, {"linear_class": "other"}, "bitnet with linear_class 'other' and quantization_mode "
                                      "'offline' is not known; " + OTHER),
    (None, {"use_rms_norm": True}, "bitnet with use_rms_norm, a norm in each linear layer, is not "
                                   "supported; use a model without it"),
    (no_scale, {}, f"{Q}.weight is packed, but has no {Q}.weight_scale; " + OTHER),
    (lambda tensors: tensors.update({f"{Q}.weight_scale": np.zeros(1, np.float32)}), {},
     f"{Q}.weight_scale must be one positive number; " + OTHER),
    (lambda tensors: tensors.update({f"{Q}.weight_scale": np.ones(2, np.float32)}), {},
     f"{Q}.weight_scale must be one positive number; " + OTHER),
    (lambda tensors: tensors.update({f"{Q}.weight": np.zeros((15, 64), np.uint8)}), {},
     f"{Q}.weight has 15 rows of four, but the model has 64 rows; " + OTHER),
])
def test_bitnet_models_that_are_refused(tmp_path, change, fields, fault):
    write_bitnet(tmp_path / "m", change, **fields)
    with pytest.raises(CheckpointError, match=message(f"{tmp_path / 'm'}: {fault}")):
        DirectorySource(tmp_path / "m")


def test_a_code_without_a_meaning(tmp_path):
    write_bitnet(tmp_path / "m", code_3)
    source = DirectorySource(tmp_path / "m")
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm' / 'model.safetensors'}: {Q}.weight has code 3, which has no meaning; "
            + OTHER)):
        source.read(f"{Q}.weight")


def write_mlx(path, change=None, **fields):
    """Write one matrix (6, 64) in groups of 32; returns its levels and scales."""
    rng = np.random.default_rng(1)
    levels, scales = rng.integers(-1, 2, (6, 64)), rng.uniform(0.01, 0.1, (6, 2)).astype(np.float16)
    words = np.zeros((6, 4), np.uint32)
    for row, column in np.ndindex(6, 64):
        words[row, column // 16] |= np.uint32(levels[row, column] + 1) << np.uint32(column % 16 * 2)
    tensors = {f"{Q}.weight": words, f"{Q}.scales": scales, f"{Q}.biases": -scales,
               "model.norm.weight": np.ones(64, np.float16), f"{Q}.bias": np.ones(6, np.float16)}
    if change:
        change(tensors)
    path.mkdir()
    save_file(tensors, path / "model.safetensors")
    stated = {"group_size": 32, "bits": 2, **fields}
    write_json(path / "config.json", {"model_type": "qwen3", "quantization": stated,
                                      "quantization_config": stated})
    return levels, scales.astype(np.float32)


def test_mlx_of_two_bits(tmp_path):
    levels, scales = write_mlx(tmp_path / "m", mode="affine")
    source = DirectorySource(tmp_path / "m")
    assert source.config == {"model_type": "qwen3"}
    assert set(source.tensors) == {f"{Q}.weight", f"{Q}.bias", "model.norm.weight"}
    expected = levels.reshape(6, 2, 32) * scales[..., None]
    assert (source.read(f"{Q}.weight") == expected.reshape(6, 64)).all()
    import_checkpoint(tmp_path / "m", tmp_path / "packed")
    packed = PackedCheckpoint(tmp_path / "packed")
    matrix = packed.matrix(Q)
    assert packed.matrices[Q].layout == Layout(32, DIRECT, "F16")
    assert (matrix.scales.stored == scales).all()
    assert (dequantize(matrix) == expected.reshape(6, 64)).all()


def test_mlx_with_negative_scales(tmp_path):
    def change(tensors):
        tensors[f"{Q}.scales"][2, 1] *= -1
        tensors[f"{Q}.biases"][2, 1] *= -1

    levels, scales = write_mlx(tmp_path / "m", change)
    scale = scales[2, 1]
    source = DirectorySource(tmp_path / "m")
    assert (source.read(f"{Q}.weight")[2, 32:] == -levels[2, 32:] * np.float32(abs(scale))).all()
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm' / 'model.safetensors'}: {Q}.weight cannot be packed: its scales must "
            f"be finite and not negative, not {np.float16(scale)} at row 2, group 1; " + OTHER)):
        import_checkpoint(tmp_path / "m", tmp_path / "packed")


@pytest.mark.parametrize(("change", "fields", "fault"), [
    (None, {"bits": 4}, "quantized by MLX with ['4'] bits, of which only 2 can be ternary; use the "
                        "original checkpoint"),
    (None, {Q: {"bits": 6}}, "quantized by MLX with ['2', '6'] bits, of which only 2 can be "
                             "ternary; use the original checkpoint"),
    (lambda tensors: tensors.pop(f"{Q}.biases"), {},
     f"{Q}.weight has no scales and biases that go with its shape; " + OTHER),
])
def test_mlx_models_that_are_refused(tmp_path, change, fields, fault):
    write_mlx(tmp_path / "m", change, **fields)
    with pytest.raises(CheckpointError, match=message(f"{tmp_path / 'm'}: {fault}")):
        DirectorySource(tmp_path / "m")


def test_mlx_models_that_rotate(tmp_path):
    write_mlx(tmp_path / "m")
    (tmp_path / "m" / "hadamard.json").write_text(json.dumps({"prism.hadamard.version": 1}))
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm'}: has hadamard.json: this model rotates its activations, which is "
            "not supported for MLX; use its GGUF file")):
        DirectorySource(tmp_path / "m")


@pytest.mark.parametrize(("change", "fault"), [
    (lambda tensors: tensors.update({f"{Q}.biases": tensors[f"{Q}.scales"]}),
     "has biases that are not minus its scales, so it is not ternary"),
    (lambda tensors: tensors.update({f"{Q}.weight": tensors[f"{Q}.weight"] | np.uint32(3)}),
     "has code 3, so it is not ternary"),
])
def test_mlx_matrices_that_are_not_ternary(tmp_path, change, fault):
    write_mlx(tmp_path / "m", change)
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm' / 'model.safetensors'}: {Q}.weight {fault}; " + OTHER)):
        DirectorySource(tmp_path / "m").read(f"{Q}.weight")
