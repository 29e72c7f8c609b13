"""The linear layers of a checkpoint as figures: which bytes they are, bits, error."""

import hashlib
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.source import CONFIG, Source
from tritstream.golden.fixed_point import information_bits
from tritstream.golden.matrix import dequantized_chunks
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.report import square_sums
from tritstream.golden.row_chunks import row_chunks

__all__ = ["Checkpoint", "figures", "fingerprint", "squared_error"]

#: Both have ``path``, ``config`` and ``shards``.
Checkpoint = PackedCheckpoint | Source


def fingerprint(checkpoint: Checkpoint) -> str:
    """SHA-256 of the digests of the configuration and of each file of weights.

    A GGUF file is both.
    """
    whole = hashlib.sha256()
    for path in _paths(checkpoint):
        whole.update(_digest(path))
    return whole.hexdigest()


def _paths(checkpoint: Checkpoint) -> list[Path]:
    if checkpoint.path.is_file():
        return [checkpoint.path]
    return [checkpoint.path / CONFIG, *(shard.path for shard in checkpoint.shards.values())]


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def figures(checkpoint: Checkpoint) -> dict:
    """Depths (none if not packed), and bits a weight of linear layers: stored, of information."""
    if isinstance(checkpoint, Source):
        tensors = checkpoint.matrices().values()
        weights = sum(prod(tensor.shape) for tensor in tensors)
        # A tensor of a GGUF file takes the bytes of its blocks, and not those of its values.
        stored = sum(getattr(tensor, "raw", tensor).size for tensor in tensors)
        return {"depths": [], "stored_bits": 8 * stored / weights, "information_bits": None}
    counts = {info: prod(info.shape) for info in checkpoint.matrices.values()}
    weights = sum(counts.values())
    stored = sum(tensor.size for info in counts for tensor in checkpoint.tensors_of(info.name))
    bits = sum(information_bits(info.depth) * count for info, count in counts.items())
    return {"depths": sorted({info.depth for info in counts}),
            "stored_bits": 8 * stored / weights, "information_bits": bits / weights}


def squared_error(checkpoint: Checkpoint, base: Checkpoint) -> float | None:
    """Squared error of all linear layers over the square of their weights in an unpacked base.

    None where the base is packed, or has other matrices.
    """
    if isinstance(base, PackedCheckpoint):
        return None
    wanted = {tensor.name.removesuffix(".weight"): tensor for tensor in base.tensors.values()}
    error, total, shapes = 0.0, 0.0, _shapes(checkpoint)
    if any(name not in wanted or wanted[name].shape != shape for name, shape in shapes.items()):
        return None
    for name in shapes:
        part = square_sums(_rows(checkpoint, name), wanted[name].read())
        error, total = error + part[0], total + part[1]
    return error / total if total else 0.0


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    packed = isinstance(checkpoint, PackedCheckpoint)
    matrices = checkpoint.matrices if packed else checkpoint.matrices()
    return {name: tuple(matrix.shape) for name, matrix in matrices.items()}


def _rows(checkpoint: Checkpoint, name: str) -> Iterator[tuple[slice, np.ndarray]]:
    """A matrix as floats, a few rows at a time."""
    if isinstance(checkpoint, PackedCheckpoint):
        yield from dequantized_chunks(checkpoint.matrix(name))
        return
    weights = checkpoint.read(f"{name}.weight")
    for rows in row_chunks(*weights.shape):
        yield rows, weights[rows].astype(np.float32)
