"""Converted GGUF files in stock transformers, compared with the GGUF loader of transformers."""

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.gguf.fields import ORIGINAL
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint

from support.gguf_helpers import TINY_QWEN2, tiny_qwen2, write_random
from support.golden_helpers import message

IDS = torch.tensor([[1, 5, 9, 2, 7, 30, 31, 8]])


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.gguf"


def loaded(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def converted(file, directory):
    convert(open_source(file), directory)
    return loaded(directory)


def logits(model, ids=IDS):
    with torch.no_grad():
        return model(ids).logits


def test_shipped_model_through_gguf(file, tmp_path):
    tiny_qwen2(file, "BF16")
    ids = torch.arange(40)[None] * 7
    assert torch.equal(logits(converted(file, tmp_path / "hf"), ids),
                       logits(loaded(TINY_QWEN2), ids))


def test_shipped_tokenizer_through_gguf(file, tmp_path):
    tiny_qwen2(file, "F16")
    convert(open_source(file), tmp_path / "hf")
    mine, theirs = (AutoTokenizer.from_pretrained(path) for path in (tmp_path / "hf", TINY_QWEN2))
    assert len(mine) == len(theirs)
    for text in ("It is a truth universally acknowledged", "don't",
                 " 12  naïve\n\ncafé e\u0301<|endoftext|>"):
        assert mine(text).input_ids == theirs(text).input_ids
        assert mine.decode(mine(text).input_ids) == theirs.decode(theirs(text).input_ids)
    assert (mine.eos_token_id, mine.pad_token_id) == (theirs.eos_token_id, theirs.pad_token_id)
    assert mine.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == (
        "[user] hi\n")


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_1"])
def test_values_are_those_that_transformers_reads(file, tmp_path, architecture, kind):
    write_random(file, architecture, kind, tied=False)
    model = converted(file, tmp_path / "hf")
    theirs = load_gguf_checkpoint(file, return_tensors=True, model_to_load=model)["tensors"]
    mine = model.state_dict()
    assert mine.keys() == theirs.keys()
    for name, values in mine.items():
        assert torch.equal(values, theirs[name].float()), name


@pytest.mark.parametrize("biased", [False, True])
def test_llama_computes_what_it_did(file, tmp_path, biased):
    tensors = write_random(file, "llama", attention_bias=biased and "all", mlp_bias=biased,
                           tied=biased)
    model = LlamaForCausalLM(LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, vocab_size=40, max_position_embeddings=128,
        rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        attention_bias=biased, mlp_bias=biased, tie_word_embeddings=biased)).eval()
    tensors |= {"lm_head.weight": tensors["model.embed_tokens.weight"]} if biased else {}
    model.load_state_dict({name: torch.tensor(values) for name, values in tensors.items()})
    assert torch.equal(logits(converted(file, tmp_path / "hf")), logits(model))


def test_packed_and_exported(file, tmp_path):
    tiny_qwen2(file, "Q8_0")
    pack_checkpoint(file, tmp_path / "packed", 4)
    export(tmp_path / "packed", tmp_path / "exported")
    ids = AutoTokenizer.from_pretrained(tmp_path / "exported")(
        "It was a dark and stormy night", return_tensors="pt").input_ids
    mine, theirs = (logits(loaded(path), ids) for path in (tmp_path / "exported", TINY_QWEN2))
    assert (mine.argmax(-1) == theirs.argmax(-1)).float().mean() > 0.8
    assert (mine - theirs).norm() / theirs.norm() < 0.1


#: Scaling of Llama 3. The lowest frequency is below the scaled range.
BASE = 500_000.0


def frequencies(**parameters):
    """Return the rotation frequencies of transformers for a model with these parameters."""
    config = LlamaConfig(
        hidden_size=64, num_attention_heads=4, head_dim=8, max_position_embeddings=16384,
        num_hidden_layers=1, intermediate_size=8, vocab_size=8,
        rope_parameters={"rope_theta": BASE, **parameters})
    rotation = LlamaForCausalLM(config).model.rotary_emb
    return rotation.inv_freq, rotation.attention_scaling


LLAMA3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
PLAIN = {"rope_type": "default"}


def scaled(**fields):
    return lambda found, _: found.update(
        {f"llama.rope.scaling.{key}": value for key, value in fields.items()})


def with_factors(factors):
    return lambda _, tensors: tensors.update(
        {"rope_freqs.weight": (np.array(factors, np.float32), GGMLQuantizationType.F32)})


def llama3_factors():
    factors = (frequencies(**PLAIN)[0] / frequencies(**LLAMA3)[0]).numpy()
    assert factors.max() == pytest.approx(32) and factors.min() == 1
    return factors


@pytest.mark.parametrize(("change", "parameters"), [
    (scaled(type="none", factor=1.0), PLAIN),
    (scaled(type="linear", factor=2.0), {"rope_type": "linear", "factor": 2.0}),
    (scaled(type="yarn", factor=4.0, original_context_length=4096, finetuned=True), YARN),
    (lambda *found: with_factors(llama3_factors())(*found), LLAMA3),
    (with_factors([1.0] * 4), PLAIN),
])
def test_rotation(file, tmp_path, change, parameters):
    def altered(fields, tensors):
        fields["llama.rope.freq_base"], fields["llama.context_length"] = BASE, 16384
        change(fields, tensors)

    write_random(file, "llama", change=altered)
    rotation = converted(file, tmp_path / "hf").model.rotary_emb
    expected, scaling = frequencies(**parameters)
    assert torch.allclose(rotation.inv_freq, expected, rtol=1e-6)
    assert rotation.attention_scaling == scaling


@pytest.mark.parametrize(("change", "fault"), [
    (with_factors([1.0, 1.0, 2.0, 32.0]), "rope_freqs.weight is not that of Llama 3, the only one "
                                          "that can be mapped; " + ORIGINAL),
    (with_factors([1.0] * 3), "rope_freqs.weight is not that of Llama 3, the only one that can be "
                              "mapped; " + ORIGINAL),
    (lambda *found: (scaled(type="linear", factor=2.0)(*found), with_factors([1.0] * 4)(*found)),
     "has both rope_freqs.weight and rope.scaling, which cannot be mapped; " + ORIGINAL),
    (scaled(type="yarn", factor=4.0), "llama.rope.scaling.original_context_length must be a "
                                      "positive integer, not missing; " + ORIGINAL),
    (scaled(type="yarn", factor=4.0, original_context_length=32, attn_factor=2.0),
     "llama.rope.scaling.attn_factor = 2.0 has no counterpart in Hugging Face's "
     "configuration; " + ORIGINAL),
])
def test_rotations_that_cannot_be_mapped(file, change, fault):
    write_random(file, "llama", change=change)
    with pytest.raises(CheckpointError, match=message(f"{file}: {fault}")):
        open_source(file)


