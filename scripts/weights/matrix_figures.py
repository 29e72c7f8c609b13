"""Figures for the linear layers of a checkpoint: digest, bits per weight, squared error."""

import hashlib
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.source import CONFIG, Source
from tritstream.golden.matrix import dequantized_chunks
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.report import square_sums
from tritstream.golden.row_chunks import row_chunks

__all__ = ["Checkpoint", "figures", "fingerprint", "squared_error"]

#: A packed or an unquantized checkpoint. Both have ``path``, ``config`` and ``shards``.
Checkpoint = PackedCheckpoint | Source


def fingerprint(checkpoint: Checkpoint) -> str:
    """Return the SHA-256 of the digests of config.json and of each file of weights.

    For a GGUF file, it is the SHA-256 of the digest of that file.
    """
    found = hashlib.sha256()
    for path in _paths(checkpoint):
        found.update(_digest(path))
    return found.hexdigest()


def _paths(checkpoint: Checkpoint) -> list[Path]:
    if checkpoint.path.is_file():
        return [checkpoint.path]
    return [checkpoint.path / CONFIG, *(checkpoint.path / name for name in checkpoint.shards)]


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def figures(checkpoint: Checkpoint) -> dict:
    """Return the depths, and the stored and information bits per weight, of the linear layers.

    A checkpoint that is not packed has no depths and no information bits.
    """
    if isinstance(checkpoint, Source):
        tensors = checkpoint.matrices().values()
        weights = sum(prod(tensor.shape) for tensor in tensors)
        # The stored size of a GGUF tensor is the size of its blocks.
        stored = sum(getattr(tensor, "raw", tensor).size for tensor in tensors)
        return {"depths": [], "stored_bits": 8 * stored / weights, "information_bits": None}
    counts = {info: prod(info.shape) for info in checkpoint.matrices.values()}
    weights = sum(counts.values())
    stored = sum(tensor.size for info in counts for tensor in checkpoint.tensors_of(info.name))
    bits = sum(info.layout.information_bits(info.shape, info.depth) * count
               for info, count in counts.items())
    return {"depths": sorted({info.depth for info in counts}),
            "stored_bits": 8 * stored / weights, "information_bits": bits / weights}


def squared_error(checkpoint: Checkpoint, base: Checkpoint) -> float | None:
    """Return the squared error of all linear layers relative to the squared weights of a base.

    The result is None if the base is packed or has other matrices.
    """
    if isinstance(base, PackedCheckpoint):
        return None
    expected = {tensor.name.removesuffix(".weight"): tensor for tensor in base.tensors.values()}
    error, total, shapes = 0.0, 0.0, _shapes(checkpoint)
    if any(name not in expected or expected[name].shape != shape for name, shape in shapes.items()):
        return None
    for name in shapes:
        part = square_sums(_rows(checkpoint, name), expected[name].read())
        error, total = error + part[0], total + part[1]
    return error / total if total else 0.0


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    if isinstance(checkpoint, PackedCheckpoint):
        return {name: tuple(info.shape) for name, info in checkpoint.matrices.items()}
    return {name: tuple(tensor.shape) for name, tensor in checkpoint.matrices().items()}


def _rows(checkpoint: Checkpoint, name: str) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield a matrix as floats, in chunks of rows."""
    if isinstance(checkpoint, PackedCheckpoint):
        yield from dequantized_chunks(checkpoint.matrix(name))
        return
    weights = checkpoint.read(f"{name}.weight")
    for rows in row_chunks(*weights.shape):
        yield rows, weights[rows].astype(np.float32)
