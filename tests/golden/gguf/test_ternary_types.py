"""Published ternary types, written one weight at a time from their descriptions."""

import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize
from transformers import BitNetConfig, BitNetForCausalLM, Qwen3Config, Qwen3ForCausalLM

from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.gguf.fields import ORIGINAL
from tritstream.golden.gguf.reader import Gguf
from tritstream.golden.gguf.tensors import GgufTensor
from tritstream.golden.matrix import dequantize
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.export import export
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.recover.import_checkpoint import import_checkpoint

from support.gguf_bytes import info, made, packed_blocks, value
from support.golden_helpers import message

NUMBERS = {"I2_S": 36, "Q1_0": 41, "Q2_0": 42, "Q2_0 of 128": 42, "PQ2_0": 142, "PTQ1_0": 143,
           "TQ1_0": 34, "TQ2_0": 35}
#: Weights per block, the row of I2_S being part of a block.
WEIGHTS = {"Q2_0": 64, "Q1_0": 128, "Q2_0 of 128": 128, "PQ2_0": 128, "PTQ1_0": 128, "I2_S": 128,
           "TQ1_0": 256, "TQ2_0": 256}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.gguf"


def drawn(kind, shape, seed=0):
    """Levels, and scales in float16 per block, or one in float32."""
    rng = np.random.default_rng(seed)
    least, most = {"Q1_0": (0, 2), "Q2_0": (-1, 3), "PQ2_0": (-1, 3)}.get(kind, (-1, 2))
    levels = rng.integers(least, most, shape)
    if kind == "Q1_0":
        levels = 2 * levels - 1
    if kind == "I2_S":
        return levels, np.float32(0.0371)
    count = levels.size // WEIGHTS[kind]
    return levels, np.exp(rng.uniform(-6, 0, count)).astype(np.float16).astype(np.float32)


def weights_of(kind, levels, scales):
    if kind == "I2_S":
        return levels.astype(np.float32) * scales
    scaled = levels.reshape(len(scales), -1) * scales[:, None]
    return scaled.astype(np.float32).reshape(levels.shape)


def written(file, tensors, fields=()):
    """Write tensors {name: (kind, levels, scales)}, or {name: float32 array}."""
    infos, data = [], b""
    for name, found in tensors.items():
        kind, levels, scales = found if isinstance(found, tuple) else ("F32", found, None)
        infos.append(info(name, levels.shape, NUMBERS.get(kind, 0), len(data)))
        if kind.startswith("TQ"):
            weights = weights_of(kind, levels, scales)
            data += quantize(weights, GGMLQuantizationType[kind]).tobytes()
        else:
            data += levels.tobytes() if kind == "F32" else packed_blocks(kind, levels, scales)
        data += bytes(-len(data) % 32)
    file.write_bytes(made(fields, infos, data))


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("last", [False, True])
def test_values_of_every_type(file, monkeypatch, kind, last):
    monkeypatch.setattr("tritstream.golden.row_chunks._ELEMENTS", 1000)
    columns = 512 if kind.startswith("TQ") else 384
    tensors = {name: (kind, *drawn(kind, (6, columns), seed)) for seed, name in enumerate("ab")}
    written(file, tensors | ({} if last else {"z": np.ones(3, np.float32)}))
    gguf = Gguf(file)
    for name, (_, levels, scales) in tensors.items():
        raw = gguf.tensors[name]
        assert (raw.kind.name, raw.kind.weights) == (kind.partition(" ")[0], WEIGHTS[kind])
        read = GgufTensor(name, file, raw).read()
        assert read.dtype == np.float32
        assert (read == weights_of(kind, levels, scales)).all()


@pytest.mark.parametrize("kind", NUMBERS)
def test_levels_and_scales_of_every_type(file, monkeypatch, kind):
    monkeypatch.setattr("tritstream.golden.row_chunks._ELEMENTS", 1000)
    levels, scales = drawn(kind, (8, 512))
    if kind != "Q1_0":
        levels = np.minimum(levels, 1)
    written(file, {"a": (kind, levels, scales)})
    matrix = GgufTensor("a", file, Gguf(file).tensors["a"]).ternary()
    assert (matrix.depth, matrix.group) == (1, 512 if kind == "I2_S" else WEIGHTS[kind])
    assert (matrix.q == levels).all()
    assert matrix.scales.stored.dtype == (np.float32 if kind == "I2_S" else np.float16)
    assert matrix.scales.stored.ravel().tolist() == np.ravel(scales).tolist()


def test_rows_of_heads_are_put_in_order_with_their_scales(file):
    levels, scales = drawn("PTQ1_0", (8, 256))
    written(file, {"a": ("PTQ1_0", levels, scales)})
    tensor = GgufTensor("a", file, Gguf(file).tensors["a"], head=4)
    order = [0, 2, 1, 3, 4, 6, 5, 7]
    matrix = tensor.ternary()
    assert (matrix.q == levels[order]).all()
    assert (matrix.scales.stored == scales.reshape(8, 2)[order]).all()
    assert (dequantize(matrix) == tensor.read()).all()


def test_negative_scales_are_not_packed(file):
    levels, scales = drawn("PTQ1_0", (2, 256))
    scales[3] = -0.5
    written(file, {"a": ("PTQ1_0", levels, scales)})
    with pytest.raises(CheckpointError, match=message(
            f"{file}: a cannot be packed: its scales must be finite and not negative, not -0.5 at "
            "row 1, group 1; copy the file again")):
        GgufTensor("a", file, Gguf(file).tensors["a"]).ternary()


def test_blocks_of_i2_s_may_cross_rows(file, monkeypatch):
    monkeypatch.setattr("tritstream.golden.row_chunks._ELEMENTS", 200)
    levels, scale = drawn("I2_S", (12, 96))
    written(file, {"a": ("I2_S", levels, scale)})
    read = GgufTensor("a", file, Gguf(file).tensors["a"]).read()
    assert (read == levels * scale).all()


def test_code_3(file):
    """It is +2 in Q2_0; in I2_S it has no meaning."""
    levels, scales = drawn("Q2_0", (6, 384))
    assert levels.max() == 2
    written(file, {"a": ("Q2_0", levels, scales)})
    assert GgufTensor("a", file, Gguf(file).tensors["a"]).ternary() is None
    levels, scale = drawn("I2_S", (2, 128))
    levels[1, 5] = 2
    written(file, {"a": ("I2_S", levels, scale)})
    with pytest.raises(CheckpointError, match=message(
            f"{file}: a is I2_S and has code 3, which has no meaning; the file is damaged, or its "
            "codes are in another order")):
        GgufTensor("a", file, Gguf(file).tensors["a"]).read()
    with pytest.raises(CheckpointError, match="has code 3, which has no meaning"):
        GgufTensor("a", file, Gguf(file).tensors["a"]).ternary()


@pytest.mark.parametrize(("number", "fields", "size", "fault"), [
    (42, {}, 100, "a has type 42, and its 100 bytes are not those of blocks of Q2_0 of 64 or Q2_0 "
                  "of 128 or STQ1_0 of 256 weights; copy the file again"),
    (38, {}, 100, "a has ggml type 38 (TL1), which is not supported; convert the original "
                  "checkpoint to I2_S, or use the original in safetensors"),
    (39, {"general.architecture": "bitnet-b1.58"}, 100,
     "a has ggml type 39 (TL2), which is not supported; convert the original checkpoint to I2_S, "
     "or use the original in safetensors"),
    (150, {}, 100, "a has ggml type 150, which is not known; update tritstream and gguf, or "
                   "convert the model to another type"),
    (36, {}, 64, "cut short, 160 bytes, but a ends at 192; copy the file again"),
])
def test_types_that_are_refused(file, number, fields, size, fault):
    fields = [value(key, found) for key, found in fields.items()]
    file.write_bytes(made(fields, [info("a", (1, 256), number)], bytes(size)))
    with pytest.raises(CheckpointError, match=message(f"{file}: {fault}")):
        Gguf(file)


def test_a_known_type_without_a_reader(file):
    file.write_bytes(made([], [info("a", (1, 256), 42)], bytes(42)))
    with pytest.raises(CheckpointError, match=message(
            f"{file}: a is STQ1_0, which is not supported; convert the model to another type")):
        GgufTensor("a", file, Gguf(file).tensors["a"])


SIZES = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "vocab_size": 64,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
         "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
         "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
MODELS = {
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SIZES, head_dim=64)),
    "bitnet-b1.58": (BitNetForCausalLM, BitNetConfig(**SIZES)),
}
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
         "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "self_attn.attn_sub_norm": "attn_sub_norm",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "mlp.ffn_sub_norm": "ffn_sub_norm"}


def gguf_name(name):
    module = name.removesuffix(".weight")
    if module.startswith("model.layers."):
        number, _, module = module.removeprefix("model.layers.").partition(".")
        return f"blk.{number}.{NAMES[module]}.weight"
    return f"{NAMES[module]}.weight"


#: Bits per weight of the type, and of the packed matrices, without the padding of rows.
BITS = {"Q2_0": (2.25, 1.85), "PQ2_0": (2.125, 1.725), "Q2_0 of 128": (2.125, 1.725),
        "PTQ1_0": (1.75, 1.725), "TQ1_0": (1.6875, 1.6625), "TQ2_0": (2.0625, 1.6625),
        "Q1_0": (1.125, 1.725)}


@pytest.mark.parametrize("kind", BITS)
def test_import_and_export_keep_every_bit(file, tmp_path, kind):
    model = random_model(file, "qwen3", kind, ternary=True)
    report = import_checkpoint(file, tmp_path / "packed")
    packed, state = PackedCheckpoint(tmp_path / "packed"), model.state_dict()
    config = packed.config["quantization_config"]
    assert (config["format_version"], config["group_size"]) == (5, WEIGHTS[kind])
    source = open_source(file)
    assert len(packed.matrices) == 14
    for name in packed.matrices:
        own = source.tensors[f"{name}.weight"].ternary()
        assert packed.matrix(name).scales.stored.tobytes() == own.scales.stored.tobytes()
    # Rows of the model are multiples of 64, of which the last row tile has four rows or one.
    for matrix in report.packed.matrices:
        rows, columns = matrix.shape
        raw = source.tensors[f"{matrix.name}.weight"].raw
        theirs, ours = BITS[kind]
        assert 8 * raw.size / (rows * columns) == theirs
        assert matrix.stored_bits == pytest.approx(ours + 1.6 * (-rows % 5) / rows)
    export(tmp_path / "packed", tmp_path / "hf")
    plain = open_source(tmp_path / "hf")
    for name in packed.origins:
        assert plain.read(name).tobytes() == (state[name].numpy() + 0).tobytes()


def random_model(file, architecture, kind, more=(), ternary=False):
    """Write a random model with ternary matrices; returns the model of transformers."""
    build, config = MODELS[architecture]
    torch.manual_seed(0)
    model, stored = build(config).eval(), {}
    for seed, (name, parameter) in enumerate(model.named_parameters()):
        if parameter.ndim == 1:
            new = np.random.default_rng(seed).uniform(0.5, 1.5, len(parameter)).astype(np.float32)
            stored[gguf_name(name)] = new
        else:
            levels, scales = drawn(kind, tuple(parameter.shape), seed)
            if ternary:
                levels = np.minimum(levels, 1)
            new = weights_of(kind, levels, scales)
            stored[gguf_name(name)] = kind, levels, scales
        parameter.data = torch.from_numpy(new)
    fields = {
        "block_count": 2, "context_length": 128, "embedding_length": 256,
        "feed_forward_length": 512, "attention.head_count": 4, "attention.head_count_kv": 2,
        "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 5e5,
        "attention.key_length": 64, "attention.value_length": 64, "vocab_size": 64}
    fields = {"general.architecture": architecture,
              **{f"{architecture}.{key}": found for key, found in fields.items()}, **dict(more)}
    written(file, stored, [value(key, found) for key, found in fields.items()])
    return model


@pytest.mark.parametrize(("architecture", "kind"), [
    ("qwen3", "PQ2_0"), ("qwen3", "PTQ1_0"), ("qwen3", "Q2_0"), ("bitnet-b1.58", "I2_S")])
def test_models_compute_what_they_did(file, tmp_path, architecture, kind):
    model = random_model(file, architecture, kind)
    convert(open_source(file), tmp_path / "hf")
    read = type(model).from_pretrained(tmp_path / "hf", dtype=torch.float32).eval()
    ids = torch.arange(40)[None] * 3 % 64
    with torch.no_grad():
        assert torch.equal(read(ids).logits, model(ids).logits)


def test_a_model_with_one_scale_per_matrix_is_packed_exactly(file, tmp_path):
    model = random_model(file, "bitnet-b1.58", "I2_S")
    import_checkpoint(file, tmp_path / "packed")
    packed = PackedCheckpoint(tmp_path / "packed")
    assert packed.config["quantization_config"]["format_version"] == 5
    assert len(packed.matrices) == 14
    state = model.state_dict()
    for name, matrix in packed.matrices.items():
        assert (matrix.depth, matrix.dtype) == (1, "F32")
        weights = dequantize(packed.matrix(name))
        assert (weights == state[f"{name}.weight"].numpy()).all()


def test_a_rotated_model_is_refused(file):
    random_model(file, "qwen3", "PQ2_0", {"prism.hadamard.version": 1}.items())
    with pytest.raises(CheckpointError, match=message(
            f"{file}: has prism.hadamard.version: this model rotates its activations, which is not "
            "supported; use a model without a rotation")):
        open_source(file)


def test_bitnet_without_a_stated_activation(file):
    random_model(file, "bitnet-b1.58", "I2_S", {"general.architecture": "bitnet"}.items())
    with pytest.raises(CheckpointError, match=message(
            f"{file}: architecture 'bitnet' is not supported, only llama, qwen2, qwen3, "
            "bitnet-b1.58 and bitnet-25; " + ORIGINAL)):
        open_source(file)
