"""Distribution of tensors over files of limited size, in their order, as transformers does it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tritstream.golden.checkpoints.source import SINGLE
from tritstream.golden.checkpoints.source_tensor import SourceTensor

__all__ = ["SHARD_SIZE", "Part", "shards_of"]

#: Largest number of bytes per file. A larger tensor gets a file of its own.
SHARD_SIZE = 5_000_000_000


@dataclass(frozen=True)
class Part:
    """Tensors of one file by name, and the metadata of the file: a :class:`.SourceShard`."""

    metadata: Mapping[str, str]
    tensors:  Mapping[str, SourceTensor]


def shards_of(
    tensors: Iterable[SourceTensor], metadata: Mapping[str, str], limit: int = SHARD_SIZE,
) -> dict[str, Part]:
    """Return the contents of each file by name. A single file is ``model.safetensors``."""
    parts: list[dict[str, SourceTensor]] = [{}]
    size = 0
    for tensor in tensors:
        if parts[-1] and size + tensor.size > limit:
            parts.append({})
            size = 0
        parts[-1][tensor.name] = tensor
        size += tensor.size
    if len(parts) == 1:
        return {SINGLE: Part(metadata, parts[0])}
    return {f"model-{number:05}-of-{len(parts):05}.safetensors": Part(metadata, part)
            for number, part in enumerate(parts, 1)}
