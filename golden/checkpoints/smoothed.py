"""Smoothing: factors moved from activations into the weights that read them.

A linear layer reads a vector whose channels come from a norm, or from the rows of another linear
layer. Divide a channel there by a factor, multiply the column that reads it by the same: the model
computes what it did. So a channel that is large in every token, and would set the scale of all
others when the vector is quantized, becomes one like the others.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.errors import CheckpointError
from tritstream.golden.row_chunks import row_chunks

__all__ = ["InputSet", "SmoothedSource", "input_sets", "tensor_factors"]

#: Models whose norms multiply by their weight, and whose layers have the names below.
_MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class InputSet:
    """Linear layers that read one vector.

    Members
    -------
    readers : tuple of str
        Modules that read it.
    producer : str
        Module whose weights (a norm's, or a linear layer's rows and bias) its channels come from.
    channels : numpy.ndarray
        int64 (K,): the row of the producer that each channel of the vector comes from.
    """

    readers:  tuple[str, ...]
    producer: str
    channels: np.ndarray


def input_sets(source: Source) -> list[InputSet]:
    """The input sets of a checkpoint, layer by layer.

    Raises :class:`CheckpointError` for a kind of model whose layers are not known here.
    """
    config = source.config
    if config.get("model_type") not in _MODEL_TYPES:
        raise CheckpointError(f"{source.path}: model_type must be one of "
                              f"{', '.join(_MODEL_TYPES)} to be smoothed, not "
                              f"{config.get('model_type')!r}")
    sets = []
    for layer in range(config["num_hidden_layers"]):
        sets += _layer_sets(config, f"model.layers.{layer}")
    return sets


def tensor_factors(
    found: Iterable[tuple[InputSet, np.ndarray]],
) -> dict[str, tuple[np.ndarray | None, np.ndarray | None]]:
    """Factors of rows and of columns by tensor name, of input sets and their producers' factors.

    A factor is that of the producer's row, by which the columns of its readers are multiplied.
    """
    rows: dict[str, np.ndarray] = {}
    columns: dict[str, np.ndarray] = {}
    for inputs, factors in found:
        rows |= {f"{inputs.producer}.{part}": 1 / factors for part in ("weight", "bias")}
        columns |= {f"{name}.weight": factors[inputs.channels] for name in inputs.readers}
    return {name: (rows.get(name), columns.get(name)) for name in rows | columns}


class SmoothedSource(Source):
    """A checkpoint whose tensors are multiplied by factors as they are read.

    What is multiplied is float32; all else stays as it is.

    Parameters
    ----------
    source : Source
    factors : mapping
        What :func:`tensor_factors` returns.
    """

    def __init__(self, source: Source, factors: Mapping[str, tuple]):
        self._source = source
        self.path, self.sharded = source.path, source.sharded
        key = "dtype" if "dtype" in source.config else "torch_dtype"
        self.config = {**source.config, key: "float32"}
        self.shards = {name: _Shard(shard.metadata, _tensors(shard.tensors, factors))
                       for name, shard in source.shards.items()}
        self.tensors = {name: tensor for shard in self.shards.values()
                        for name, tensor in shard.tensors.items()}

    def files(self) -> list[Path]:
        """Files of the source: :meth:`tritstream.golden.checkpoints.source.Source.files`."""
        return self._source.files()

    def write_companions(self, directory: Path) -> None:
        """Write those of the source: :meth:`.Source.write_companions`."""
        self._source.write_companions(directory)


@dataclass(frozen=True)
class _Shard:
    metadata: Mapping[str, str]
    tensors:  Mapping[str, SourceTensor]


@dataclass(frozen=True)
class _Tensor:
    """A tensor (N,) or (N, K), its rows and columns multiplied: a SourceTensor."""

    source:  SourceTensor
    rows:    np.ndarray | None
    columns: np.ndarray | None

    dtype = "F32"

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def size(self) -> int:
        return 4 * prod(self.shape)

    def read(self) -> np.ndarray:
        values = self.source.read().astype(np.float32)
        if self.columns is not None:
            values *= self.columns
        if self.rows is not None:
            values *= self.rows.reshape(-1, *[1] * (values.ndim - 1))
        return values

    def pieces(self) -> Iterator[bytes]:
        values = self.read()
        for chunk in row_chunks(len(values), prod(self.shape[1:])):
            yield values[chunk].tobytes()


def _tensors(
    tensors: Mapping[str, SourceTensor], factors: Mapping[str, tuple],
) -> dict[str, SourceTensor]:
    return {name: _Tensor(tensor, *factors[name]) if name in factors else tensor
            for name, tensor in tensors.items()}


def _layer_sets(config: Mapping, layer: str) -> Iterator[InputSet]:
    attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
    hidden, inner = np.arange(config["hidden_size"]), np.arange(config["intermediate_size"])
    projections = tuple(f"{attention}.{name}_proj" for name in "qkv")
    yield InputSet(projections, f"{layer}.input_layernorm", hidden)
    yield InputSet((f"{attention}.o_proj",), f"{attention}.v_proj", _value_rows(config))
    gates = (f"{mlp}.gate_proj", f"{mlp}.up_proj")
    yield InputSet(gates, f"{layer}.post_attention_layernorm", hidden)
    yield InputSet((f"{mlp}.down_proj",), f"{mlp}.up_proj", inner)


def _value_rows(config: Mapping) -> np.ndarray:
    """The row of v_proj behind each channel of attention's output: heads share values."""
    heads = config["num_attention_heads"]
    groups = config.get("num_key_value_heads") or heads
    size = config.get("head_dim") or config["hidden_size"] // heads
    values = np.arange(groups * size).reshape(groups, 1, size)
    return np.broadcast_to(values, (groups, heads // groups, size)).ravel()
