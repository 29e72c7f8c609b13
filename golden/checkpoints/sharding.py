"""Tensors dealt out to files as transformers does it: in their order, none above a limit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tritstream.golden.checkpoints.source import SINGLE
from tritstream.golden.checkpoints.source_tensor import SourceTensor

__all__ = ["Part", "shards_of"]

#: Bytes of tensors in a file, unless a single tensor has more.
_LIMIT = 5_000_000_000


@dataclass(frozen=True)
class Part:
    """Tensors of one file by name, and its metadata: a :class:`.SourceShard`."""

    metadata: Mapping[str, str]
    tensors:  Mapping[str, SourceTensor]


def shards_of(
    tensors: Iterable[SourceTensor], metadata: Mapping[str, str], limit: int = _LIMIT,
) -> dict[str, Part]:
    """Parts by file name; ``model.safetensors`` when there is but one."""
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
