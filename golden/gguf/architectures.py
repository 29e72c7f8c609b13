"""Architectures of GGUF files that have a counterpart in Hugging Face."""

from dataclasses import dataclass, field

from tritstream.golden.errors import CheckpointError
from tritstream.golden.gguf.fields import ORIGINAL
from tritstream.golden.gguf.reader import Gguf
from tritstream.golden.model_sizes import Sizes

__all__ = ["ATTENTION", "FEED_FORWARD", "Architecture", "read_architecture"]

ATTENTION = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
             "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj"}
FEED_FORWARD = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_SUB_NORMS = {"attn_sub_norm": "self_attn.attn_sub_norm", "ffn_sub_norm": "mlp.ffn_sub_norm"}


@dataclass(frozen=True)
class Architecture:
    """Counterpart of an architecture in Hugging Face.

    Members
    -------
    model_type, model : str
        ``model_type`` of config.json, and the name of the class.
    activation : str
        ``hidden_act`` of config.json.
    norms : dict
        Modules of the norms of a layer, by their names in GGUF.
    biased : frozenset or None
        Linear layers with a bias, by their names in GGUF; None if files differ.
    permuted : frozenset
        Linear layers whose rows llama.cpp permutes.
    """

    model_type: str
    model:      str
    activation: str = "silu"
    norms:      dict[str, str] = field(default_factory=lambda: _NORMS)
    biased:     frozenset[str] | None = frozenset()
    permuted:   frozenset[str] = frozenset()

    def norm_size(self, name: str, sizes: Sizes) -> int:
        """Return the length of a norm."""
        if name in _HEAD_NORMS:
            return sizes.head
        return sizes.intermediate if name == "ffn_sub_norm" else sizes.hidden


_BITNET = Architecture("bitnet", "BitNetForCausalLM", "relu2", {**_NORMS, **_SUB_NORMS})
_ARCHITECTURES = {
    "llama": Architecture("llama", "LlamaForCausalLM", biased=None,
                          permuted=frozenset(("attn_q", "attn_k"))),
    "qwen2": Architecture("qwen2", "Qwen2ForCausalLM",
                          biased=frozenset(("attn_q", "attn_k", "attn_v"))),
    "qwen3": Architecture("qwen3", "Qwen3ForCausalLM", norms={**_NORMS, **_HEAD_NORMS}),
    "bitnet-b1.58": _BITNET,
    "bitnet-25": _BITNET,
}


def read_architecture(gguf: Gguf) -> tuple[str, Architecture]:
    """Return the name of a file's architecture in GGUF, and its counterpart.

    Raises :class:`.CheckpointError` if there is no counterpart.
    """
    name = gguf.metadata.get("general.architecture")
    # A list in the metadata is not hashable.
    if not isinstance(name, str) or name not in _ARCHITECTURES:
        *others, last = _ARCHITECTURES
        raise CheckpointError(f"{gguf.path}: architecture {name!r:.40} is not supported, only "
                              f"{', '.join(others)} and {last}; " + ORIGINAL)
    return name, _ARCHITECTURES[name]
