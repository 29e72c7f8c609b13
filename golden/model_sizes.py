"""Sizes of Llama and Qwen2 models, and the published sizes of Qwen2.5."""

from dataclasses import dataclass

__all__ = ["QWEN25", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a transformer model.

    Members
    -------
    layers, hidden, intermediate : int
        Number of layers, and sizes of the hidden and intermediate states.
    heads, kv_heads, head : int
        Number of query heads, number of key and value heads, size of a head.
    vocabulary : int
        Number of rows of the embedding.
    """

    layers:       int
    hidden:       int
    intermediate: int
    heads:        int
    kv_heads:     int
    head:         int
    vocabulary:   int

    def linear(self) -> dict[str, tuple[int, int]]:
        """Return shapes (N, K) of the linear modules of a layer, by module name."""
        q, kv = self.heads * self.head, self.kv_heads * self.head
        return {
            "self_attn.q_proj": (q, self.hidden), "self_attn.k_proj": (kv, self.hidden),
            "self_attn.v_proj": (kv, self.hidden), "self_attn.o_proj": (self.hidden, q),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
        }

    def config(self) -> dict[str, int]:
        """Return the sizes under the keys of config.json."""
        return {
            "hidden_size": self.hidden, "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "head_dim": self.head,
            "vocab_size": self.vocabulary,
        }


#: Sizes by the part of the model name. Models up to 3B share the head with the embedding.
QWEN25 = {
    "0.5B": Sizes(24, 896, 4864, 14, 2, 64, 151936),
    "1.5B": Sizes(28, 1536, 8960, 12, 2, 128, 151936),
    "3B": Sizes(36, 2048, 11008, 16, 2, 128, 151936),
    "7B": Sizes(28, 3584, 18944, 28, 4, 128, 152064),
    "14B": Sizes(48, 5120, 13824, 40, 8, 128, 152064),
    "32B": Sizes(64, 5120, 27648, 40, 8, 128, 152064),
    "72B": Sizes(80, 8192, 29568, 64, 8, 128, 152064),
}
