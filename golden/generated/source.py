"""Complete models of random weights, in the shapes of Qwen2.5."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tritstream.golden.checkpoints.generated import GeneratedTensor
from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.checkpoints.sharding import SHARD_SIZE, shards_of
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.fixed_point import half_range
from tritstream.golden.generated.dequantized import DequantizedTensor
from tritstream.golden.model_sizes import QWEN25, Sizes

__all__ = ["GeneratedSource"]

_BIASED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_SPECIAL = {"bos_token_id": 151643, "eos_token_id": 151645}


class GeneratedSource(Source):
    """Qwen2.5 model with random weights and no tokenizer.

    The weights of a layer do not depend on the number of layers.

    Parameters
    ----------
    name : str
        Model size, a key of :data:`tritstream.golden.model_sizes.QWEN25`.
    layers, vocabulary : int, optional
        Number of layers and of rows of the embedding; default: as in the original model.
    seed : int
        Random seed.
    dtype : str
        Dtype of all tensors: ``BF16``, ``F16`` or ``F32``.
    depth : int, optional
        Trits per weight of the matrices of layers, 1..4, which are then dequantized trits:
        :class:`.DequantizedTensor`. Without it they are as before quantization.
    shrink : int
        Divisor of hidden and intermediate size and of the size of a head.
    shard_size : int
        Largest number of bytes per file, as for :func:`.shards_of`.

    Raises :class:`ValueError` for an unknown size or depth, for no layers or no vocabulary, or for
    a divisor that does not divide.
    """

    def __init__(self, name: str, *, layers: int | None = None, vocabulary: int | None = None,
                 seed: int = 0, dtype: str = "BF16", depth: int | None = None, shrink: int = 1,
                 shard_size: int = SHARD_SIZE):
        if name not in QWEN25:
            raise ValueError(f"size must be one of {', '.join(QWEN25)}, not {name}")
        sizes = QWEN25[name]
        sizes = replace(sizes, layers=sizes.layers if layers is None else layers,
                        vocabulary=sizes.vocabulary if vocabulary is None else vocabulary)
        for what, count in (("layers", sizes.layers), ("rows of the vocabulary", sizes.vocabulary)):
            if count < 1:
                raise ValueError(f"{what} must be at least 1, not {count}")
        if depth is not None:
            half_range(depth)
        sizes = _shrunk(sizes, shrink)
        tied = name in ("0.5B", "1.5B", "3B")
        self.path = Path(f"generated Qwen2.5-{name}")
        self.config = _config(sizes, tied, dtype)
        self.tensors = {tensor.name: tensor for tensor in _tensors(sizes, tied, seed, dtype, depth)}
        note = (f"random weights in the shapes of Qwen2.5-{name}, seed {seed}"
                + (f", depth {depth}" if depth else "") + (f" / {shrink}" if shrink > 1 else ""))
        self.settings = {"generated": note, "config": self.config}
        self.shards = shards_of(self.tensors.values(), {"format": "pt", "generated": note},
                                shard_size)
        self.sharded = len(self.shards) > 1

    def files(self) -> list[Path]:
        """Return no files."""
        return []

    def write_companions(self, directory: Path) -> None:
        """Write nothing, since there is no tokenizer."""


def _config(sizes: Sizes, tied: bool, dtype: str) -> dict[str, object]:
    special = {name: number for name, number in _SPECIAL.items() if number < sizes.vocabulary}
    return {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **sizes.config(),
        "hidden_act": "silu", "initializer_range": 0.02, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "use_sliding_window": False,
        "tie_word_embeddings": tied, "torch_dtype": DTYPES[dtype].name, **special,
    }


def _shrunk(sizes: Sizes, divisor: int) -> Sizes:
    parts = {"hidden": sizes.hidden, "intermediate": sizes.intermediate, "head": sizes.head}
    for name, size in parts.items():
        if divisor < 1 or size % divisor:
            raise ValueError(f"the {name} size {size} cannot be divided by {divisor}; give a "
                             f"divisor of {math.gcd(*parts.values())}")
    return replace(sizes, **{name: size // divisor for name, size in parts.items()})


def _tensors(
    sizes: Sizes, tied: bool, seed: int, dtype: str, depth: int | None,
) -> Iterator[SourceTensor]:
    """Yield all tensors in the order of transformers."""
    def norm(name: str) -> GeneratedTensor:
        return GeneratedTensor(f"{name}.weight", dtype, (sizes.hidden,), seed, 1.0, 0.1)

    table = (sizes.vocabulary, sizes.hidden)
    yield GeneratedTensor("model.embed_tokens.weight", dtype, table, seed)
    for layer in range(sizes.layers):
        start = f"model.layers.{layer}"
        for module, shape in sizes.linear().items():
            weight = f"{start}.{module}.weight"
            yield (DequantizedTensor(weight, dtype, shape, seed, depth) if depth
                   else GeneratedTensor(weight, dtype, shape, seed))
            if module in _BIASED:
                yield GeneratedTensor(f"{start}.{module}.bias", dtype, shape[:1], seed, spread=0.3)
        yield norm(f"{start}.input_layernorm")
        yield norm(f"{start}.post_attention_layernorm")
    yield norm("model.norm")
    if not tied:
        yield GeneratedTensor("lm_head.weight", dtype, table, seed)
