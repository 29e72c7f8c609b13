"""Smoothing: factors moved from activations into the weights that multiply them (SmoothQuant).

The input vector of a linear layer comes from a norm, or from the rows of another linear layer.
Dividing a channel of the producer by a factor, and multiplying the matching columns of the readers
by the same factor, leaves the function of the model unchanged. A channel that is large in every
token would otherwise determine the scale of the complete vector when activations are quantized.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from tritstream.golden.checkpoints.changed_source import ChangedSource
from tritstream.golden.checkpoints.computed_tensor import ChangedTensor
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.errors import CheckpointError
from tritstream.golden.row_chunks import row_chunks

__all__ = ["InputSet", "SmoothedSource", "input_sets", "tensor_factors"]

#: Model types whose norms multiply by their weight, and whose layers have the names used below.
_MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class InputSet:
    """Linear layers with a common input vector.

    Members
    -------
    readers : tuple of str
        Names of the modules that read the vector.
    producer : str
        Name of the module that produces the vector: a norm, or a linear layer.
    channels : numpy.ndarray
        Row of the producer that computes each channel of the vector: int64 (K,).
    """

    readers:  tuple[str, ...]
    producer: str
    channels: np.ndarray


def input_sets(source: Source) -> list[InputSet]:
    """Return the input sets of a checkpoint, layer by layer.

    Raises :class:`CheckpointError` for a model type whose layers are not known.
    """
    config = source.config
    if config.get("model_type") not in _MODEL_TYPES:
        raise CheckpointError(f"{source.path}: model_type must be one of "
                              f"{', '.join(_MODEL_TYPES)} to be smoothed, not "
                              f"{config.get('model_type')!r}")
    sets: list[InputSet] = []
    for layer in range(config["num_hidden_layers"]):
        sets += _layer_sets(config, f"model.layers.{layer}")
    return sets


def tensor_factors(
    found: Iterable[tuple[InputSet, np.ndarray]],
) -> dict[str, tuple[np.ndarray | None, np.ndarray | None]]:
    """Return the factors of rows and of columns of each tensor, None for no factors, by name.

    ``found`` has each input set with factors per row of the producer. Columns of the readers are
    multiplied by the factors, and rows of the producer are divided by the factors.
    """
    rows: dict[str, np.ndarray] = {}
    columns: dict[str, np.ndarray] = {}
    for inputs, factors in found:
        rows |= {f"{inputs.producer}.{part}": 1 / factors for part in ("weight", "bias")}
        columns |= {f"{name}.weight": factors[inputs.channels] for name in inputs.readers}
    return {name: (rows.get(name), columns.get(name)) for name in rows | columns}


class SmoothedSource(ChangedSource):
    """Checkpoint with tensors that are multiplied by factors when they are read.

    The dtype of multiplied tensors is float32. Other tensors are unchanged.

    Parameters
    ----------
    source : Source
        Checkpoint before smoothing.
    factors : mapping
        Factors of rows and columns by tensor name, from :func:`tensor_factors`.
    """

    def __init__(self, source: Source, factors: Mapping[str, tuple]):
        super().__init__(source, lambda tensors: _tensors(tensors, factors))
        key = "dtype" if "dtype" in source.config else "torch_dtype"
        self.config = {**source.config, key: "float32"}


@dataclass(frozen=True)
class _Tensor(ChangedTensor):
    """Tensor (N,) or (N, K) with multiplied rows and columns: a SourceTensor."""

    rows:    np.ndarray | None
    columns: np.ndarray | None

    dtype = "F32"

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
    """Return the row of v_proj for each channel of o_proj's input, since heads may share values."""
    heads = config["num_attention_heads"]
    groups = config.get("num_key_value_heads") or heads
    size = config.get("head_dim") or config["hidden_size"] // heads
    values = np.arange(groups * size).reshape(groups, 1, size)
    return np.broadcast_to(values, (groups, heads // groups, size)).ravel()
