import math

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.gguf.fields import ORIGINAL
from tritstream.golden.gguf.model import read_model
from tritstream.golden.gguf.reader import Gguf
from tritstream.golden.open_source import open_source

from support.gguf_helpers import write_random
from support.golden_helpers import message


def test_the_advice():
    assert ORIGINAL == "use the original checkpoint in safetensors"


ONLY = "only llama, qwen2, qwen3, bitnet-b1.58 and bitnet-25"
FIELDS = [
    ("general.architecture", "gemma", f"architecture 'gemma' is not supported, {ONLY}; " +
     ORIGINAL),
    ("split.count", 3, "one of 3 parts; join them with llama-gguf-split --merge"),
    ("llama.expert_count", 8, "a mixture of experts, which is not supported; " + ORIGINAL),
    ("llama.block_count", 0, "llama.block_count must be a positive integer, not 0; " + ORIGINAL),
    ("llama.block_count", "two", "llama.block_count must be a positive integer, not "
                                 "'two'; " + ORIGINAL),
    ("llama.block_count", 2**31, "2147483648 layers, but only 20 tensors; copy the file again"),
    ("llama.context_length", None, "llama.context_length must be a positive integer, not "
                                   "missing; " + ORIGINAL),
    ("llama.rope.freq_base", math.nan, "llama.rope.freq_base must be a positive number, not "
                                       "nan; " + ORIGINAL),
    ("llama.attention.head_count", [4, 4], "llama.attention.head_count must be a positive "
                                           "integer, not [4, 4]; " + ORIGINAL),
    ("llama.attention.head_count", 3, "3 heads of 8, 2 of keys and values, do not go "
                                      "together; " + ORIGINAL),
    ("llama.attention.value_length", 16, "llama.attention.value_length = 16 has no counterpart in "
                                         "Hugging Face's configuration; " + ORIGINAL),
    ("llama.rope.dimension_count", 4, "llama.rope.dimension_count = 4 has no counterpart in "
                                      "Hugging Face's configuration; " + ORIGINAL),
    ("llama.attention.sliding_window", 64, "llama.attention.sliding_window = 64 has no "
                                           "counterpart in Hugging Face's "
                                           "configuration; " + ORIGINAL),
    ("llama.logit_scale", 0.5, "llama.logit_scale = 0.5 has no counterpart in Hugging Face's "
                               "configuration; " + ORIGINAL),
    ("llama.use_parallel_residual", True, "llama.use_parallel_residual = True has no counterpart "
                                          "in Hugging Face's configuration; " + ORIGINAL),
    ("llama.rope.scaling.type", "longrope", "llama.rope.scaling.type = 'longrope' has no "
                                            "counterpart in Hugging Face's "
                                            "configuration; " + ORIGINAL),
    ("llama.vocab_size", 41, "llama.vocab_size = 41 has no counterpart in Hugging Face's "
                             "configuration; " + ORIGINAL),
    ("llama.feed_forward_length", 100, "blk.0.ffn_gate.weight must have shape (100, 64), not "
                                       "(96, 64); " + ORIGINAL),
]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.gguf"


def refuses(path, text):
    with pytest.raises(CheckpointError, match=message(f"{path}: {text}")):
        open_source(path)


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
            (without("blk.1.attn_k.weight"), "has no blk.1.attn_k.weight; " + ORIGINAL),
            (without("token_embd.weight"), "has no token_embd.weight; " + ORIGINAL),
            (having("blk.0.attn_q_norm.weight", one), "blk.0.attn_q_norm.weight has no "
             "counterpart in Hugging Face's llama; " + ORIGINAL),
            (having("blk.0.attn_q.bias", (one[0][:32], one[1])), "has no "
                                                                 "blk.0.attn_k.bias; " + ORIGINAL),
            (having("blk.1.attn_q.bias", (one[0][:32], one[1])), "blk.1.attn_q.bias has no "
             "counterpart in Hugging Face's llama; " + ORIGINAL),
            (having("blk.1.attn_norm.weight", (one[0].astype(np.float64),
                                               GGMLQuantizationType.F64)),
             "blk.1.attn_norm.weight is F64, which is not supported; convert the model to another "
             "type")):
        write_random(file, "llama", change=change)
        refuses(file, text)


def test_quantized_bias_of_a_permuted_layer(file):
    def change(_, tensors):
        bias = tensors["blk.0.attn_q.bias"][0]
        tensors["blk.0.attn_q.bias"] = bias, GGMLQuantizationType.Q8_0

    write_random(file, "llama", attention_bias="all", change=change)
    refuses(file, "blk.0.attn_q.bias is Q8_0, whose blocks hold permuted values; convert the model "
                  "to another type")


def test_an_architecture_that_is_a_list(file):
    write_random(file, "llama")
    gguf = Gguf(file)
    gguf.metadata["general.architecture"] = ["llama"]
    with pytest.raises(CheckpointError, match=message(
            f"{file}: architecture ['llama'] is not supported, {ONLY}; " + ORIGINAL)):
        read_model(gguf)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "a\0"])
def test_names_that_cannot_be_shown(file, name):
    write_random(file, "llama", change=lambda fields, _: fields.update({name: 1}))
    refuses(file, f"its header has a name that cannot be shown, {name!a}; copy the file again")


@pytest.mark.parametrize("factors", [[0.0] * 4, [math.nan] * 4, [-1.0] * 4, [math.inf] * 4,
                                     [1e-45] * 4])
@pytest.mark.parametrize("base", [5000.0, 1e-38, 1e38])
def test_factors_that_are_no_factors(file, factors, base):
    def change(fields, stored):
        fields["llama.rope.freq_base"] = base
        stored["rope_freqs.weight"] = np.array(factors, np.float32), GGMLQuantizationType.F32

    write_random(file, "llama", change=change)
    refuses(file, "rope_freqs.weight is not that of Llama 3, the only one that can be "
                  "mapped; " + ORIGINAL)
