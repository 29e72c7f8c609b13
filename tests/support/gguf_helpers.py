"""GGUF files written by the gguf library from the tensors of a Hugging Face model."""

import json
import re
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants

__all__ = ["NAMES", "SIZES", "permuted", "random_tensors", "tiny_qwen2", "write_gguf",
           "write_random"]

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
TINY_QWEN2 = Path(__file__).parents[2] / "models" / "tiny-qwen2"
#: A model whose heads are not hidden / heads wide; rows are blocks of 32.
SIZES = {"hidden": 64, "intermediate": 96, "layers": 2, "heads": 4, "kv_heads": 2, "head": 8,
         "vocabulary": 40, "context": 128, "eps": 1e-5, "base": 5000.0}


def permuted(rows, heads):
    """Rows as llama.cpp stores queries and keys: those of the halves of a head take turns."""
    size = len(rows) // heads
    order = [head * size + place // 2 + place % 2 * (size // 2)
             for head in range(heads) for place in range(size)]
    return rows[order]


def random_tensors(sizes, seed=0, tied=True, attention_bias=False, mlp_bias=False):
    """Tensors of a Llama or Qwen2 by the names of Hugging Face."""
    rng = np.random.default_rng(seed)
    hidden, inner = sizes["hidden"], sizes["intermediate"]
    q, kv = sizes["heads"] * sizes["head"], sizes["kv_heads"] * sizes["head"]

    def draw(*shape):
        return rng.normal(0, 0.3, shape).astype(np.float32)

    tensors = {"model.embed_tokens.weight": draw(sizes["vocabulary"], hidden),
               "model.norm.weight": 1 + draw(hidden)}
    if not tied:
        tensors["lm_head.weight"] = draw(sizes["vocabulary"], hidden)
    for layer in range(sizes["layers"]):
        name = f"model.layers.{layer}"
        for module, rows, columns, biased in (
                ("self_attn.q_proj", q, hidden, attention_bias),
                ("self_attn.k_proj", kv, hidden, attention_bias),
                ("self_attn.v_proj", kv, hidden, attention_bias),
                ("self_attn.o_proj", hidden, q, attention_bias == "all"),
                ("mlp.gate_proj", inner, hidden, mlp_bias),
                ("mlp.up_proj", inner, hidden, mlp_bias),
                ("mlp.down_proj", hidden, inner, mlp_bias)):
            tensors[f"{name}.{module}.weight"] = draw(rows, columns)
            if biased:
                tensors[f"{name}.{module}.bias"] = draw(rows)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{name}.{norm}.weight"] = 1 + draw(hidden)
    return tensors


def write_gguf(path, architecture, sizes, tensors, kind="F32", tokenizer=None, change=None):
    """Write a model; ``change(fields, tensors)`` may alter both, by their names in the file.

    Matrices are of type ``kind``, vectors float32. What is in ``fields`` is written as its numpy
    type says, int as uint32, float as float32.
    """
    fields = {
        "block_count": sizes["layers"], "context_length": sizes["context"],
        "embedding_length": sizes["hidden"], "feed_forward_length": sizes["intermediate"],
        "attention.head_count": sizes["heads"], "attention.head_count_kv": sizes["kv_heads"],
        "attention.layer_norm_rms_epsilon": sizes["eps"], "rope.freq_base": sizes["base"],
        "attention.key_length": sizes["head"], "attention.value_length": sizes["head"],
        "rope.dimension_count": sizes["head"], "vocab_size": sizes["vocabulary"],
    }
    fields = {f"{architecture}.{key}": value for key, value in fields.items()}
    stored = {}
    for name, values in tensors.items():
        for module, heads in (("q_proj", "heads"), ("k_proj", "kv_heads")):
            if architecture == "llama" and f".{module}." in name:
                values = permuted(values, sizes[heads])
        stored[gguf_name(name)] = values, GGMLQuantizationType[kind if values.ndim > 1 else "F32"]
    fields |= tokenizer or {}
    if change:
        change(fields, stored)
    save(path, architecture, fields, stored)


def gguf_name(name):
    module, end = name.rsplit(".", 1)
    layer = re.match(r"model\.layers\.(\d+)\.(.*)", module)
    return f"blk.{layer[1]}.{NAMES[layer[2]]}.{end}" if layer else f"{NAMES[module]}.{end}"


def save(path, architecture, fields, stored):
    writer = GGUFWriter(path, fields.pop("general.architecture", architecture))
    for key, value in fields.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    for name, (values, kind) in stored.items():
        if values.dtype == np.float32:
            writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_random(path, architecture="llama", kind="F32", change=None, tokenizer=None, **how):
    """Write a random model; returns its tensors."""
    how = {"attention_bias": architecture == "qwen2"} | how
    tensors = random_tensors(SIZES, **how)
    write_gguf(path, architecture, SIZES, tensors, kind, tokenizer, change)
    return tensors


def tiny_qwen2(path, kind):
    """Write the shipped model with its tokenizer; returns its tensors."""
    # Torch takes seconds to import.
    from safetensors.torch import load_file

    tensors = {name: values.float().numpy()
               for name, values in load_file(TINY_QWEN2 / "model.safetensors").items()}
    config = json.loads((TINY_QWEN2 / "config.json").read_text())
    model = json.loads((TINY_QWEN2 / "tokenizer.json").read_text())["model"]
    texts = sorted(model["vocab"], key=model["vocab"].get)
    tokenizer = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": [
            int(TokenType.CONTROL if text == "<|endoftext|>" else TokenType.NORMAL)
            for text in texts],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.eos_token_id": 0, "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n"
                                   "{% endfor %}",
    }
    sizes = {
        "hidden": config["hidden_size"], "intermediate": config["intermediate_size"],
        "layers": config["num_hidden_layers"], "heads": config["num_attention_heads"],
        "kv_heads": config["num_key_value_heads"], "vocabulary": config["vocab_size"],
        "head": config["hidden_size"] // config["num_attention_heads"], "base": 10000.0,
        "context": config["max_position_embeddings"], "eps": config["rms_norm_eps"],
    }
    write_gguf(path, "qwen2", sizes, tensors, kind, tokenizer)
    return tensors
