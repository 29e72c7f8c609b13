"""Numbers of the vectors: made of hashes, so the same everywhere, and written as their bits."""

from hashlib import shake_256

import numpy as np

__all__ = ["PREFIX", "bits_of", "integers"]

#: What every hashed name begins with.
PREFIX = "tritstream vectors 1/"


def integers(name: str, limit: int, *shape: int) -> np.ndarray:
    """Integers 0..limit-1 that follow from a name: int64.

    Each is a u32 of SHAKE-256 of the name, modulo the limit; the small bias does no harm here.
    """
    count = int(np.prod(shape))
    data = shake_256(f"{PREFIX}{name}".encode()).digest(4 * count)
    return (np.frombuffer(data, "<u4").astype(np.int64) % limit).reshape(shape)


def bits_of(values: np.ndarray | np.floating) -> list[str]:
    """Bit patterns of floats, each as the hex digits of one integer: 1.0 in float32 is 3f800000."""
    values = np.atleast_1d(values)
    size = values.dtype.itemsize
    return [f"{int(bits):0{2 * size}x}" for bits in values.view(f"u{size}").ravel()]
