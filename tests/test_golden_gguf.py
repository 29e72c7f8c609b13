import json
import math

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants
from gguf.constants import GGML_QUANT_SIZES
from gguf_helpers import SIZES, permuted, write_random
from golden_helpers import contents, message, run_python

from golden.convert import convert
from golden.packer import pack_checkpoint
from golden.sharding import shards_of
from golden.shards import DTYPES
from golden.sources import CheckpointError, DirectorySource, open_source
from golden.verify import verify

DTYPE_OF = {"F32": "F32", "F16": "F16", "BF16": "BF16"}


def refuses(path, text):
    with pytest.raises(CheckpointError, match=message(f"{path}: {text}")):
        open_source(path)


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
        tensor, due = source.tensors[name], values
        if values.ndim == 2:
            # Blocks lie along rows, so to quantize before or after a permutation is the same.
            due = quants.dequantize(quants.quantize(values, GGMLQuantizationType[kind]),
                                    GGMLQuantizationType[kind])
        read = tensor.read()
        assert tensor.dtype == (DTYPE_OF.get(kind, "F32") if values.ndim == 2 else "F32")
        assert read.dtype == DTYPES[tensor.dtype]
        assert read.shape == tensor.shape == values.shape
        assert (read.astype(np.float32) == due).all()
        assert b"".join(tensor.pieces()) == read.tobytes()
        assert tensor.size == read.nbytes


def test_blocks_of_8_and_4_bits_by_their_definition(file):
    for kind, decode in (("Q8_0", decode_q8_0), ("Q4_1", decode_q4_1)):
        stored = {}
        write_random(file, "qwen2", kind, change=lambda _, tensors, to=stored: to.update(tensors))
        values, number = stored["blk.0.ffn_down.weight"]
        blocks = quants.quantize(values, number).reshape(len(values), 3, -1)
        due = np.array([[decode(block.tobytes()) for block in row] for row in blocks])
        read = open_source(file).read("model.layers.0.mlp.down_proj.weight")
        assert (read == due.reshape(read.shape)).all()


def decode_q8_0(block):
    return np.frombuffer(block[:2], "<f2").astype(np.float32) * np.frombuffer(block[2:], np.int8)


def decode_q4_1(block):
    scale, least = np.frombuffer(block[:4], "<f2").astype(np.float32)
    levels = [byte & 15 for byte in block[4:]] + [byte >> 4 for byte in block[4:]]
    return np.array(levels, np.float32) * scale + least


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "TQ1_0"])
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
    due = quants.dequantize(data, number)
    assert np.isfinite(due).all() and np.ptp(due) > 0
    assert tensor.read().tobytes() == due.tobytes()


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


FIELDS = [
    ("general.architecture", "gemma", "architecture 'gemma' is not supported, only llama and "
                                      "qwen2; use another model"),
    ("split.count", 3, "one of 3 parts; join them with llama-gguf-split --merge"),
    ("llama.expert_count", 8, "a mixture of experts, which is not supported; use another model"),
    ("llama.block_count", 0, "llama.block_count must be a positive integer, not 0; "
                             "convert the model again"),
    ("llama.block_count", "two", "llama.block_count must be a positive integer, not 'two'; "
                                 "convert the model again"),
    ("llama.block_count", 2**31, "2147483648 layers, but only 20 tensors; copy the file again"),
    ("llama.context_length", None, "llama.context_length must be a positive integer, not missing; "
                                   "convert the model again"),
    ("llama.rope.freq_base", math.nan, "llama.rope.freq_base must be a positive number, not nan; "
                                       "convert the model again"),
    ("llama.attention.head_count", [4, 4], "llama.attention.head_count must be a positive "
                                           "integer, not [4, 4]; convert the model again"),
    ("llama.attention.head_count", 3, "3 heads of 8, 2 of keys and values, do not go together; "
                                      "convert the model again"),
    ("llama.attention.value_length", 16, "llama.attention.value_length = 16 has no counterpart in "
                                         "Hugging Face's configuration; use another model"),
    ("llama.rope.dimension_count", 4, "llama.rope.dimension_count = 4 has no counterpart in "
                                      "Hugging Face's configuration; use another model"),
    ("llama.attention.sliding_window", 64, "llama.attention.sliding_window = 64 has no "
                                           "counterpart in Hugging Face's configuration; "
                                           "use another model"),
    ("llama.logit_scale", 0.5, "llama.logit_scale = 0.5 has no counterpart in Hugging Face's "
                               "configuration; use another model"),
    ("llama.use_parallel_residual", True, "llama.use_parallel_residual = True has no counterpart "
                                          "in Hugging Face's configuration; use another model"),
    ("llama.rope.scaling.type", "longrope", "llama.rope.scaling.type = 'longrope' has no "
                                            "counterpart in Hugging Face's configuration; "
                                            "use another model"),
    ("llama.vocab_size", 41, "llama.vocab_size = 41 has no counterpart in Hugging Face's "
                             "configuration; use another model"),
    ("llama.feed_forward_length", 100, "blk.0.ffn_gate.weight must have shape (100, 64), not "
                                       "(96, 64); convert the model again"),
]


@pytest.mark.parametrize(("key", "value", "text"), FIELDS)
def test_fields_that_do_not_do(file, key, value, text):
    def change(fields, _):
        fields[key] = value
        if value is None:
            del fields[key]

    write_random(file, "llama", change=change)
    refuses(file, text)


def test_tensors_that_do_not_do(file):
    one = np.ones(64, np.float32), GGMLQuantizationType.F32

    def without(name):
        return lambda _, tensors: tensors.pop(name)

    def having(name, value):
        return lambda _, tensors: tensors.update({name: value})

    for change, text in (
            (without("blk.1.attn_k.weight"), "has no blk.1.attn_k.weight; convert the model again"),
            (without("token_embd.weight"), "has no token_embd.weight; convert the model again"),
            (having("blk.0.attn_q_norm.weight", one), "blk.0.attn_q_norm.weight has no "
             "counterpart in Hugging Face's llama; use another model"),
            (having("blk.0.attn_q.bias", (one[0][:32], one[1])), "has no blk.0.attn_k.bias; "
             "convert the model again"),
            (having("blk.1.attn_q.bias", (one[0][:32], one[1])), "blk.1.attn_q.bias has no "
             "counterpart in Hugging Face's llama; use another model"),
            (having("blk.1.attn_norm.weight", (one[0].astype(np.float64),
                                               GGMLQuantizationType.F64)),
             "blk.1.attn_norm.weight is F64, which gguf does not dequantize; convert the model "
             "to another type")):
        write_random(file, "llama", change=change)
        refuses(file, text)


def test_quantized_bias_of_a_permuted_layer(file):
    def change(_, tensors):
        bias = tensors["blk.0.attn_q.bias"][0]
        tensors["blk.0.attn_q.bias"] = bias, GGMLQuantizationType.Q8_0

    write_random(file, "llama", attention_bias="all", change=change)
    refuses(file, "blk.0.attn_q.bias is Q8_0, whose blocks hold permuted values; convert the model "
                  "to another type")


def test_converted_and_packed_are_those_of_the_converted(file, tmp_path):
    write_random(file, "llama", "Q4_1")
    convert(open_source(file), tmp_path / "hf")
    pack_checkpoint(file, tmp_path / "a", 2)
    pack_checkpoint(tmp_path / "hf", tmp_path / "b", 2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert verify(tmp_path / "a", file) == []
    write_random(file, "llama", "Q4_1", seed=1)
    assert {finding.tensor for finding in verify(tmp_path / "a", file)} > {
        "model.layers.0.self_attn.q_proj", "model.norm.weight"}


def test_where_a_model_comes_from_is_kept(file, tmp_path):
    def change(fields, _):
        fields["general.license"] = "apache-2.0"

    write_random(file, "llama", change=change)
    convert(open_source(file), tmp_path / "hf")
    shard = DirectorySource(tmp_path / "hf").shards["model.safetensors"]
    assert shard.metadata == {"format": "pt", "general.architecture": "llama",
                              "general.license": "apache-2.0"}


class Killed(BaseException):
    pass


def test_conversion_goes_on_where_it_was_killed(file, tmp_path):
    write_random(file, "llama")
    names, done = list(open_source(file).tensors), []

    def stop(name):
        done.append(name)
        if len(done) == 5:
            raise Killed

    with pytest.raises(Killed):
        convert(open_source(file), tmp_path / "a", stop)
    journal = (tmp_path / "a.partial" / ".journal.jsonl").read_text().splitlines()
    assert [json.loads(line)[0] for line in journal[1:]] == names[:5]
    convert(open_source(file), tmp_path / "a")
    convert(open_source(file), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_another_file_of_that_name_is_another_job(file, tmp_path):
    def stop(_):
        raise Killed

    write_random(file, "llama")
    with pytest.raises(Killed):
        convert(open_source(file), tmp_path / "a", stop)
    write_random(file, "llama", seed=1)
    with pytest.raises(CheckpointError, match="left by another job; remove it, or force"):
        convert(open_source(file), tmp_path / "a")


def test_large_models_get_several_files(file, tmp_path, monkeypatch):
    tensors = write_random(file, "qwen2")
    monkeypatch.setattr("golden.gguf.source.shards_of", lambda *args: shards_of(*args, 30_000))
    convert(open_source(file), tmp_path / "hf")
    pack_checkpoint(file, tmp_path / "packed", 1)
    source = DirectorySource(tmp_path / "hf")
    assert len(source.shards) > 3
    assert list(source.shards)[0] == f"model-00001-of-{len(source.shards):05}.safetensors"
    assert all((source.read(name) == values).all() for name, values in tensors.items())
    for shard in source.shards.values():
        sizes = [tensor.size for tensor in shard.tensors.values()]
        assert sum(sizes) <= 30_000 or len(sizes) == 1
    index = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(values.nbytes for values in tensors.values())
    assert verify(tmp_path / "packed", tmp_path / "hf") == []


MEASURE = """
import sys, tracemalloc
import golden.gguf.source
from golden.convert import convert
from golden.sources import open_source
tracemalloc.start()
convert(open_source(sys.argv[1]), sys.argv[2])
print(tracemalloc.get_traced_memory()[1])
"""


def test_memory_is_that_of_a_few_rows(file, tmp_path):
    rows = 100_000

    def change(fields, tensors):
        fields["llama.vocab_size"] = rows
        tensors["token_embd.weight"] = np.zeros((rows, 64), np.float32), tensors[
            "blk.0.ffn_down.weight"][1]

    write_random(file, "llama", "Q8_0", change=change)
    finished = run_python(MEASURE, file, tmp_path / "hf")
    assert finished.returncode == 0, finished.stderr
    # The table is 26 MB in float32, a chunk of it 1 MB.
    assert int(finished.stdout) < 8_000_000


def test_gguf_package_is_missing(file):
    write_random(file, "llama")
    code = ("import sys; sys.modules['gguf'] = None\n"
            "from golden.sources import open_source\nopen_source(sys.argv[1])")
    assert run_python(code, file).stderr.splitlines()[-1] == (
        f"golden.shards.CheckpointError: {file}: reading GGUF needs the package gguf; run "
        "pip install 'tritstream[gguf]'")
