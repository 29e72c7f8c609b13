"""GGUF files that carry matrices to llama.cpp's quantizer, and matrices read back from them.

The files hold the linear layers only, without a vocabulary: the quantizer needs names, shapes and
sizes. Embedding and head stay in the dtype of the base, as they do in packed checkpoints.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import gcd, prod
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from tritstream.golden.checkpoints.changed_source import ChangedSource
from tritstream.golden.checkpoints.computed_tensor import ChangedTensor, ChunkedTensor
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.gguf.architectures import ATTENTION, FEED_FORWARD
from tritstream.golden.gguf.reader import Gguf
from tritstream.golden.gguf.tensors import GgufTensor

__all__ = ["Quantized", "read_quantized", "ready_imatrix", "write_container"]

#: Weights per block of llama.cpp's K and IQ types.
_BLOCK = 256
_MODULES = {theirs: ours for ours, theirs in {**ATTENTION, **FEED_FORWARD}.items()}
#: Names of fields in GGUF by those of config.json.
_FIELDS = {"num_hidden_layers": "block_count", "max_position_embeddings": "context_length",
           "hidden_size": "embedding_length", "intermediate_size": "feed_forward_length",
           "num_attention_heads": "attention.head_count",
           "num_key_value_heads": "attention.head_count_kv", "vocab_size": "vocab_size"}


def write_container(base: Source, path: Path, *, folded: bool) -> None:
    """Write the linear layers of a base of the architectures llama, qwen2 and qwen3.

    If ``folded``, rows are joined until their length is a multiple of 256, so that the quantizer
    can give each matrix the type that it has in models with such rows.

    Raises :class:`ValueError` for another architecture.
    """
    architecture = str(base.config.get("model_type"))
    if architecture not in ("llama", "qwen2", "qwen3"):
        raise ValueError(f"{base.path}: the arena knows no names of llama.cpp for {architecture}, "
                         "only for llama, qwen2 and qwen3")
    writer = GGUFWriter(path, architecture)
    for theirs, ours in _FIELDS.items():
        writer.add_uint32(f"{architecture}.{ours}", base.config[theirs])
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon",
                       base.config["rms_norm_eps"])
    for module, tensor in base.matrices().items():
        rows = _joined(tensor) if folded else 1
        values = tensor.read().view(np.uint8)
        writer.add_tensor(_gguf_name(module), values.reshape(tensor.shape[0] // rows, -1),
                          raw_dtype=GGMLQuantizationType[tensor.dtype])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def ready_imatrix(
    base: Source, columns: Mapping[str, np.ndarray], *, folded: bool,
) -> dict[str, np.ndarray]:
    """Return importances of columns, float32 (K,) by module, as the container's tensors have them.
    """
    return {_gguf_name(module): np.tile(columns[module], _joined(tensor) if folded else 1)
            for module, tensor in base.matrices().items()}


@dataclass(frozen=True)
class Quantized:
    """Result of the quantizer.

    Members
    -------
    source : Source
        The base with the dequantized matrices in place of its own, in float32.
    stored_bits : float
        Stored bits per weight of all matrices.
    types : dict
        Share of the weights by type of their blocks.
    """

    source:      Source
    stored_bits: float
    types:       dict[str, float]


def read_quantized(base: Source, path: Path) -> Quantized:
    """Read the matrices of a quantized container, folded or not."""
    raw = Gguf(path).tensors
    found = {tensor.name: _Dequantized(tensor, GgufTensor(tensor.name, path,
                                                          raw[_gguf_name(module)]))
             for module, tensor in base.matrices().items()}
    counts: Counter[str] = Counter()
    for tensor in found.values():
        counts[tensor.values.raw.kind.name] += prod(tensor.shape)
    weights = sum(counts.values())
    size = sum(tensor.values.raw.size for tensor in found.values())
    return Quantized(
        ChangedSource(base, lambda tensors: {
            name: found.get(name, tensor) for name, tensor in tensors.items()}),
        8 * size / weights, {name: count / weights for name, count in counts.most_common()})


@dataclass(frozen=True)
class _Dequantized(ChangedTensor, ChunkedTensor):
    """Matrix of a container, whose rows may be joined, in the shape of the base's: float32."""

    values: GgufTensor

    dtype = "F32"

    def chunks(self) -> Iterator[np.ndarray]:
        return self.values.chunks()


def _joined(tensor: SourceTensor) -> int:
    """Return how many rows have a multiple of 256 weights; 1 if the matrix has not so many."""
    rows = _BLOCK // gcd(_BLOCK, tensor.shape[1])
    return rows if tensor.shape[0] % rows == 0 else 1


def _gguf_name(module: str) -> str:
    """Return the name of a matrix in GGUF, given its module in Hugging Face."""
    *_, layer, kind, name = module.split(".")
    return f"blk.{layer}.{_MODULES[f'{kind}.{name}']}.weight"
