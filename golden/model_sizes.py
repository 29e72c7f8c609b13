"""Sizes of transformer models, and the published sizes of Qwen2.5 and of ternary models."""

from dataclasses import dataclass

__all__ = ["QWEN25", "TERNARY", "HybridSizes", "Sizes"]


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

    def layer(self, index: int) -> dict[str, tuple[int, int]]:
        """Return shapes (N, K) of the linear modules of layer ``index``, by module name."""
        return self.linear()

    def config(self) -> dict[str, int]:
        """Return the sizes under the keys of config.json."""
        return {
            "hidden_size": self.hidden, "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "head_dim": self.head,
            "vocab_size": self.vocabulary,
        }


@dataclass(frozen=True)
class HybridSizes(Sizes):
    """Sizes of a Qwen3.5 model, most of whose layers have a gated delta net in place of attention.

    Every fourth layer has attention, whose queries have a gate of the same size.

    Members
    -------
    key_heads, value_heads, state : int
        Number of heads of keys and of values of a gated delta net, and size of such a head.
    """

    key_heads:   int
    value_heads: int
    state:       int

    def linear(self) -> dict[str, tuple[int, int]]:
        """Return the modules of a layer with attention: :meth:`Sizes.linear`."""
        shapes = super().linear()
        rows, columns = shapes["self_attn.q_proj"]
        return shapes | {"self_attn.q_proj": (2 * rows, columns)}

    def layer(self, index: int) -> dict[str, tuple[int, int]]:
        """Return the modules of a layer, of its attention or of its gated delta net.

        The two small modules of a gated delta net that are not quantized are left out.
        """
        shapes = self.linear()
        if index % 4 == 3:
            return shapes
        values = self.value_heads * self.state
        return {
            "linear_attn.in_proj_qkv": (2 * self.key_heads * self.state + values, self.hidden),
            "linear_attn.in_proj_z": (values, self.hidden),
            "linear_attn.out_proj": (self.hidden, values),
            **{name: shape for name, shape in shapes.items() if name.startswith("mlp.")},
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

#: Sizes of published models that were trained with ternary weights. The embedding and the head of
#: Bonsai are ternary too. The head is the embedding in BitNet and in Bonsai 1.7B.
TERNARY = {
    "BitNet-2B4T": Sizes(30, 2560, 6912, 20, 5, 128, 128256),
    "Bonsai-1.7B": Sizes(28, 2048, 6144, 16, 8, 128, 151936),
    "Bonsai-8B": Sizes(36, 4096, 12288, 32, 8, 128, 151936),
    "Bonsai-27B": HybridSizes(64, 5120, 17408, 24, 4, 256, 248320, 16, 48, 128),
}
