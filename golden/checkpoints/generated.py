"""Random weights with the statistics of trained weights, and complete models of random weights."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np

from tritstream.golden.checkpoints.computed_tensor import ChunkedTensor
from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.checkpoints.sharding import shards_of
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.model_sizes import QWEN25, Sizes
from tritstream.golden.row_chunks import row_chunks

__all__ = ["GeneratedSource", "GeneratedTensor"]

#: Tail parameter of Tukey's h distribution: weights are ``z * exp(TAIL * z * z / 2)``, z normal.
_TAIL = 0.05
#: Standard deviations of the logarithms of row and column magnitudes.
_ROWS, _COLUMNS = 0.2, 0.2
#: Share of outlier columns, and the factor of their magnitudes.
_OUTLIERS, _OUTLIER_SIZE = 1 / 256, 3.0
_BIASED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_SPECIAL = {"bos_token_id": 151643, "eos_token_id": 151645}


@dataclass(frozen=True)
class GeneratedTensor(ChunkedTensor):
    """Tensor with random values that depend only on its name and a seed: a SourceTensor.

    Rows and columns of a matrix differ in magnitude, and a few columns are outliers. The elements
    of a vector all have the same distribution.

    Members
    -------
    name, dtype : str
        Name of the tensor, and its dtype as safetensors calls it.
    shape : tuple
        One or two sizes, outermost first.
    seed : int
        Random seed.
    center, spread : float
        Mean and standard deviation of the normal distribution behind the values.
    path : Path
        Path to name in messages.
    """

    name:   str
    dtype:  str
    shape:  tuple[int, ...]
    seed:   int
    center: float = 0.0
    spread: float = 0.02
    path:   Path = Path("generated")

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield chunks of rows in order."""
        rows, columns = self.shape if len(self.shape) == 2 else (1, self.shape[0])
        row_sizes, column_sizes = self._sizes(rows, columns)
        random = self._random("values")
        for chunk in row_chunks(rows, columns):
            shape = chunk.stop - chunk.start, columns
            values = _quantiles()[random.integers(0, 1 << 16, shape, np.uint16)]
            values *= row_sizes[chunk] * column_sizes
            values += np.float32(self.center)
            yield values.astype(DTYPES[self.dtype])

    def _sizes(self, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the magnitudes of rows, float32 (N, 1), and of columns, float32 (K,)."""
        if len(self.shape) == 1:
            return np.full((1, 1), self.spread, np.float32), np.ones(columns, np.float32)
        random = self._random("columns")
        sizes = random.lognormal(0, _COLUMNS, columns)
        sizes[random.random(columns) < _OUTLIERS] *= _OUTLIER_SIZE
        row_sizes = self.spread * self._random("rows").lognormal(0, _ROWS, (rows, 1))
        return row_sizes.astype(np.float32), sizes.astype(np.float32)

    def _random(self, part: str) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self.seed, *f"{self.name}.{part}".encode()]))


@cache
def _quantiles() -> np.ndarray:
    """Return 65536 equally likely values: float32 (65536,).

    Looking values up is ten times as fast as drawing normal numbers.
    """
    normal = NormalDist()
    z = np.array([normal.inv_cdf((index + 0.5) / (1 << 16)) for index in range(1 << 16)])
    return (z * np.exp(_TAIL / 2 * z * z)).astype(np.float32)


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

    Raises :class:`ValueError` for an unknown size, or for no layers or no vocabulary.
    """

    def __init__(self, name: str, *, layers: int | None = None, vocabulary: int | None = None,
                 seed: int = 0, dtype: str = "BF16"):
        if name not in QWEN25:
            raise ValueError(f"size must be one of {', '.join(QWEN25)}, not {name}")
        sizes = QWEN25[name]
        sizes = replace(sizes, layers=sizes.layers if layers is None else layers,
                        vocabulary=sizes.vocabulary if vocabulary is None else vocabulary)
        for what, count in (("layers", sizes.layers), ("rows of the vocabulary", sizes.vocabulary)):
            if count < 1:
                raise ValueError(f"{what} must be at least 1, not {count}")
        tied = name in ("0.5B", "1.5B", "3B")
        self.path = Path(f"generated Qwen2.5-{name}")
        self.config = _config(sizes, tied, dtype)
        self.tensors = {tensor.name: tensor for tensor in _tensors(sizes, tied, seed, dtype)}
        note = f"random weights in the shapes of Qwen2.5-{name}, seed {seed}"
        self.shards = shards_of(self.tensors.values(), {"format": "pt", "generated": note})
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


def _tensors(sizes: Sizes, tied: bool, seed: int, dtype: str) -> Iterator[GeneratedTensor]:
    """Yield all tensors in the order of transformers."""
    def norm(name: str) -> GeneratedTensor:
        return GeneratedTensor(f"{name}.weight", dtype, (sizes.hidden,), seed, 1.0, 0.1)

    table = (sizes.vocabulary, sizes.hidden)
    yield GeneratedTensor("model.embed_tokens.weight", dtype, table, seed)
    for layer in range(sizes.layers):
        start = f"model.layers.{layer}"
        for module, shape in sizes.linear().items():
            yield GeneratedTensor(f"{start}.{module}.weight", dtype, shape, seed)
            if module in _BIASED:
                yield GeneratedTensor(f"{start}.{module}.bias", dtype, shape[:1], seed, spread=0.3)
        yield norm(f"{start}.input_layernorm")
        yield norm(f"{start}.post_attention_layernorm")
    yield norm("model.norm")
    if not tied:
        yield GeneratedTensor("lm_head.weight", dtype, table, seed)
