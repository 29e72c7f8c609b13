"""Small GGUF files as seeds, written by the gguf package."""

import tempfile
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants

__all__ = ["gguf_seeds"]

_HIDDEN, _INNER, _HEADS, _KV, _HEAD, _TOKENS = 32, 32, 4, 2, 8, 40


def gguf_seeds() -> list[bytes]:
    """Return models of both architectures, with both kinds of tokenizers and several types."""
    return [_model("qwen2", "F32", "gpt2"), _model("llama", "Q8_0", "llama"),
            _model("llama", "F16", "none", factors=True), _model("qwen2", "Q4_0", "none")]


def _model(architecture: str, kind: str, tokenizer: str, factors: bool = False) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.gguf"
        writer = GGUFWriter(path, architecture)
        _add_sizes(writer)
        _add_tokenizer(writer, tokenizer)
        for name, values in _tensors(architecture, factors).items():
            stored = GGMLQuantizationType[kind if values.ndim > 1 else "F32"]
            writer.add_tensor(name, quants.quantize(values, stored), raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def _add_sizes(writer: GGUFWriter) -> None:
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(_HIDDEN)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_name("a model")


def _add_tokenizer(writer: GGUFWriter, kind: str) -> None:
    if kind == "none":
        return
    texts = ["<s>", "</s>", *"abcdefgh", "ab", "abc", *(f"<{n}>" for n in range(28))]
    types = [TokenType.CONTROL] * 2 + [TokenType.NORMAL] * 10 + [TokenType.USER_DEFINED] * 28
    writer.add_tokenizer_model(kind)
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{{ messages }}")
    if kind == "llama":
        writer.add_token_scores([-float(number) for number in range(len(texts))])
        writer.add_add_space_prefix(True)
    else:
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_merges(["a b", "ab c"])


def _tensors(architecture: str, factors: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    q, kv = _HEADS * _HEAD, _KV * _HEAD
    shapes = {"token_embd.weight": (_TOKENS, _HIDDEN), "output_norm.weight": (_HIDDEN,)}
    layer = {"attn_norm": (_HIDDEN,), "ffn_norm": (_HIDDEN,), "attn_q": (q, _HIDDEN),
             "attn_k": (kv, _HIDDEN), "attn_v": (kv, _HIDDEN), "attn_output": (_HIDDEN, q),
             "ffn_gate": (_INNER, _HIDDEN), "ffn_up": (_INNER, _HIDDEN),
             "ffn_down": (_HIDDEN, _INNER)}
    shapes |= {f"blk.0.{name}.weight": shape for name, shape in layer.items()}
    if architecture == "qwen2":
        shapes |= {f"blk.0.attn_{name}.bias": (rows,) for name, rows in
                   (("q", q), ("k", kv), ("v", kv))}
    tensors = {name: rng.standard_normal(shape).astype(np.float32)
               for name, shape in shapes.items()}
    return tensors | ({"rope_freqs.weight": np.ones(_HEAD // 2, np.float32)} if factors else {})
