import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants
from gguf.constants import GGML_QUANT_SIZES

from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.open_source import open_source

from support.gguf_helpers import SIZES, permuted, write_random
from support.golden_helpers import run_python

DTYPE_OF = {"F32": "F32", "F16": "F16", "BF16": "BF16"}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.gguf"


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_values_of_every_tensor(file, architecture, kind):
    tensors = write_random(file, architecture, kind, tied=False)
    source = open_source(file)
    assert source.tensors.keys() == tensors.keys()
    for name, values in tensors.items():
        tensor, expected = source.tensors[name], values
        if values.ndim == 2:
            # Blocks lie along rows, so to quantize before or after a permutation is the same.
            expected = quants.dequantize(quants.quantize(values, GGMLQuantizationType[kind]),
                                         GGMLQuantizationType[kind])
        read = tensor.read()
        assert tensor.dtype == (DTYPE_OF.get(kind, "F32") if values.ndim == 2 else "F32")
        assert read.dtype == DTYPES[tensor.dtype]
        assert read.shape == tensor.shape == values.shape
        assert (read.astype(np.float32) == expected).all()
        assert b"".join(tensor.pieces()) == read.tobytes()
        assert tensor.size == read.nbytes


def test_blocks_of_8_and_4_bits_by_their_definition(file):
    for kind, decode in (("Q8_0", decode_q8_0), ("Q4_1", decode_q4_1)):
        stored = {}
        write_random(file, "qwen2", kind, change=lambda _, tensors, to=stored: to.update(tensors))
        values, number = stored["blk.0.ffn_down.weight"]
        blocks = quants.quantize(values, number).reshape(len(values), 3, -1)
        expected = np.array([[decode(block.tobytes()) for block in row] for row in blocks])
        read = open_source(file).read("model.layers.0.mlp.down_proj.weight")
        assert (read == expected.reshape(read.shape)).all()


def decode_q8_0(block):
    return np.frombuffer(block[:2], "<f2").astype(np.float32) * np.frombuffer(block[2:], np.int8)


def decode_q4_1(block):
    scale, least = np.frombuffer(block[:4], "<f2").astype(np.float32)
    levels = [byte & 15 for byte in block[4:]] + [byte >> 4 for byte in block[4:]]
    return np.array(levels, np.float32) * scale + least


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ2_S", "IQ3_XXS",
                                  "IQ3_S", "IQ4_XS", "TQ1_0", "TQ2_0"])
def test_super_blocks_of_256(file, kind):
    number = GGMLQuantizationType[kind]
    size = GGML_QUANT_SIZES[number][1]
    sizes = {**SIZES, "intermediate": 512, "hidden": 256}
    data = np.random.default_rng(1).integers(0, 100, (256, 2 * size), np.uint8)

    def change(fields, tensors):
        fields["llama.feed_forward_length"], fields["llama.embedding_length"] = 512, 256
        for name, (values, _) in list(tensors.items()):
            wide = [sizes["hidden"] if side == 64 else 512 if side == 96 else side
                    for side in values.shape]
            tensors[name] = np.zeros(wide, np.float32), GGMLQuantizationType.F32
        tensors["blk.1.ffn_down.weight"] = data, number

    write_random(file, "llama", change=change)
    tensor = open_source(file).tensors["model.layers.1.mlp.down_proj.weight"]
    assert (tensor.dtype, tensor.shape) == ("F32", (256, 512))
    expected = quants.dequantize(data, number)
    assert np.isfinite(expected).all() and np.ptp(expected) > 0
    assert tensor.read().tobytes() == expected.tobytes()


def test_permutation_is_that_of_llama_alone(file):
    for architecture, same in (("llama", False), ("qwen2", True)):
        stored = {}
        tensors = write_random(
            file, architecture, change=lambda _, found, to=stored: to.update(found))
        for module, name, heads in (("q_proj", "attn_q", 4), ("k_proj", "attn_k", 2)):
            values = tensors[f"model.layers.1.self_attn.{module}.weight"]
            raw = stored[f"blk.1.{name}.weight"][0]
            assert (raw == values).all() == same
            assert (raw == permuted(values, heads)).all() != same


def test_heads_are_not_cut_where_reading_is(file, monkeypatch):
    tensors = write_random(file, "llama", attention_bias="all")
    monkeypatch.setattr("tritstream.golden.row_chunks._ELEMENTS", 300)
    source = open_source(file)
    for name, values in tensors.items():
        assert (source.read(name) == values).all(), name


def test_configuration_of_a_llama(file):
    write_random(file, "llama", "F16", attention_bias="all", mlp_bias=True, tied=False)
    assert open_source(file).config == {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "max_position_embeddings": 128, "vocab_size": 40, "tie_word_embeddings": False,
        "rope_theta": 5000.0, "attention_bias": True, "mlp_bias": True, "torch_dtype": "float16",
    }


def test_what_a_file_may_leave_out(file):
    def change(fields, _):
        for key in ("rope.freq_base", "attention.key_length", "attention.value_length",
                    "rope.dimension_count", "vocab_size", "attention.head_count_kv"):
            del fields[f"qwen2.{key}"]
        fields["qwen2.attention.head_count"] = 2
        fields["qwen2.attention.sliding_window"] = 128
        fields["qwen2.expert_count"] = 0

    write_random(file, "qwen2", change=lambda fields, tensors: (
        change(fields, tensors), reshape(tensors)))
    config = open_source(file).config
    assert (config["num_key_value_heads"], config["head_dim"]) == (2, 32)
    assert (config["rope_theta"], config["vocab_size"]) == (10000.0, 40)
    assert config["tie_word_embeddings"] and "attention_bias" not in config
    assert "eos_token_id" not in config


def reshape(tensors):
    """Give all projections of the attention 64 rows and columns."""
    for name, (values, kind) in list(tensors.items()):
        if ".attn_" in name and "norm" not in name:
            tensors[name] = np.zeros((64, 64)[:values.ndim], np.float32), kind


def test_gguf_package_is_missing(file):
    write_random(file, "llama")
    code = ("import sys; sys.modules['gguf'] = None\n"
            "from tritstream.golden.open_source import open_source\nopen_source(sys.argv[1])")
    assert run_python(code, file).stderr.splitlines()[-1] == (
        f"tritstream.golden.errors.CheckpointError: {file}: reading GGUF needs the package gguf; "
        "run pip install 'tritstream[gguf]'")
