"""Numbers of the vectors: derived from hashes, and written as bit patterns."""

from hashlib import shake_256

import numpy as np

__all__ = ["PREFIX", "bits_of", "integers"]

#: Prefix of every hashed name.
PREFIX = "tritstream vectors 1/"


def integers(name: str, limit: int, *shape: int) -> np.ndarray:
    """Return integers 0..limit-1 derived from a name, int64.

    Each is a u32 of the SHAKE-256 of the name, modulo the limit; its small bias is harmless.
    """
    count = int(np.prod(shape))
    data = shake_256(f"{PREFIX}{name}".encode()).digest(4 * count)
    return (np.frombuffer(data, "<u4").astype(np.int64) % limit).reshape(shape)


def bits_of(values: np.ndarray | np.floating) -> list[str]:
    """Return bit patterns of floats as hex digits: 1.0 in float32 is 3f800000."""
    values = np.atleast_1d(values)
    size = values.dtype.itemsize
    return [f"{int(bits):0{2 * size}x}" for bits in values.view(f"u{size}").ravel()]
