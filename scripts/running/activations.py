"""Activations from a safetensors file: the input of each module, by module name."""

from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import Shard

__all__ = ["read_activations"]


def read_activations(path: Path, name: str, columns: int) -> np.ndarray:
    """Return the activations of a module, float32 (T, K), stored in any dtype.

    Raises :class:`tritstream.golden.errors.CheckpointError` if the file is damaged, and
    :class:`ValueError` if it has no activations of this module, activations with another number of
    columns K, or activations that are not finite.
    """
    tensor = Shard(path).tensors.get(name)
    if tensor is None:
        raise ValueError(f"{path}: no activations for {name}")
    if len(tensor.shape) != 2 or tensor.shape[0] < 1 or tensor.shape[1] != columns:
        raise ValueError(f"{path}: activations of {name} must be (T, {columns}), not "
                         f"{tensor.shape}")
    x = tensor.read()
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise ValueError(f"{path}: activations of {name} are not all finite in float32")
    return x
