"""A random Qwen3 in GGUF whose ternary weights are rotated, as Prism publishes them."""

import struct

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from support.gguf_bytes import ARRAY, STRING, field, info, made, packed_blocks, text, value

__all__ = ["BLOCK", "IDS", "SIGNS", "rotated_model"]

BLOCK = 64
IDS = torch.arange(40)[None] * 3 % 64
SIGNS = {width: np.random.default_rng(width).choice([-1, 1], width) for width in (128, 256)}
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
         "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}
_INT8, _INT32, _BOOL = 1, 5, 7


def rotated_model(file, change=None, signs=SIGNS):
    """Write a model; returns that of transformers, whose weights are not rotated.

    ``change(keys)`` may alter the keys ``prism.hadamard.*`` as they are written.
    """
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(
        hidden_size=128, intermediate_size=256, num_hidden_layers=2, vocab_size=64,
        num_attention_heads=4, num_key_value_heads=2, head_dim=32, max_position_embeddings=128,
        rms_norm_eps=1e-5, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5})).eval()
    infos, data, rotated = [], b"", []
    for seed, (name, parameter) in enumerate(model.named_parameters()):
        rng, ours = np.random.default_rng(seed), _gguf_name(name)
        if parameter.ndim == 1:
            new = rng.uniform(0.5, 1.5, len(parameter)).astype(np.float32)
            infos.append(info(ours, new.shape, 0, len(data)))
            data += new.tobytes()
        else:
            levels, scales = rng.integers(-1, 2, parameter.shape), rng.choice([0.03, 0.05], (
                parameter.numel() // 128)).astype(np.float16)
            stored = levels.reshape(len(scales), 128) * scales[:, None].astype(np.float64)
            new = stored.reshape(parameter.shape) @ _matrix(parameter.shape[1], signs)
            infos.append(info(ours, levels.shape, 142, len(data)))
            data += packed_blocks("PQ2_0", levels, scales)
            rotated.append(ours)
        parameter.data = torch.from_numpy(new.astype(np.float32))
        data += bytes(-len(data) % 32)
    keys = _keys(rotated, signs)
    if change:
        change(keys)
    fields = [value("general.architecture", "qwen3"), *(
        value(f"qwen3.{key}", found) for key, found in _FIELDS.items()), *(
        found if isinstance(found, bytes) else _field(f"prism.hadamard.{key}", found)
        for key, found in keys.items())]
    file.write_bytes(made(fields, infos, data))
    return model


_FIELDS = {
    "block_count": 2, "context_length": 128, "embedding_length": 128, "feed_forward_length": 256,
    "attention.head_count": 4, "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 5e5,
    "attention.key_length": 32, "attention.value_length": 32, "vocab_size": 64}


def _keys(rotated, signs):
    keys = {"version": 1, "block_size": BLOCK, "axis": "input-last-dimension",
            "transform": "normalized-sylvester-walsh-hadamard",
            "sign_mode": "explicit" if signs else "identity",
            "weight_names": [name for name in rotated if name != "token_embd.weight"],
            "inverse_weight_names": ["token_embd.weight"], "gdn_v_grouped": True}
    if signs:
        keys |= {"sign_widths": list(signs), "sign_values": np.concatenate([*signs.values()])}
    return keys


def _matrix(columns, signs):
    """H S (K, K) in float64, so that the rotated weights times it are those of the model."""
    block = np.array([[(-1.0) ** (i & j).bit_count() for j in range(BLOCK)] for i in range(BLOCK)])
    return np.kron(np.eye(columns // BLOCK), block / 8) * (signs[columns] if signs else 1)


def _field(key, found):
    if isinstance(found, bool):
        return field(key, _BOOL, struct.pack("<?", found))
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
        return field(key, ARRAY, struct.pack("<IQ", STRING, len(found))
                     + b"".join(map(text, found)))
    if isinstance(found, list):
        return field(key, ARRAY, struct.pack("<IQ", _INT32, len(found))
                     + np.array(found, "<i4").tobytes())
    if isinstance(found, np.ndarray):
        return field(key, ARRAY, struct.pack("<IQ", _INT8, len(found))
                     + found.astype(np.int8).tobytes())
    return value(key, found)


def _gguf_name(name):
    module = name.removesuffix(".weight")
    if module.startswith("model.layers."):
        number, _, module = module.removeprefix("model.layers.").partition(".")
        return f"blk.{number}.{NAMES[module]}.weight"
    return f"{NAMES[module]}.weight"
