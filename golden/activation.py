"""Activation quantization: one float scale a vector."""

import numpy as np

from .fixed import ACTIVATION_MAX

__all__ = ["ACTIVATION16_MAX", "quantize_activation", "quantize_activation16"]

#: Largest 16-bit activation: 127 * 256 + 127.
ACTIVATION16_MAX = 32639


def quantize_activation(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 of vectors (..., K): integers (..., K) and float64 scales (...).

    ``scale = max|x| / 127``, rounded half to even; a vector of zeros has scale 0.

    Raises
    ------
    ValueError
        A value is not finite.
    """
    q, scale = _quantize(x, ACTIVATION_MAX)
    return q.astype(np.int8), scale


def quantize_activation16(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symmetric 16-bit as two int8 vectors: high, low (..., K) and float64 scales (...).

    ``x = scale * (256 high + low)``, so a GEMV of both gives ``A = 256 A_high + A_low``.
    """
    q, scale = _quantize(x, ACTIVATION16_MAX)
    q = q.astype(np.int32)
    low = (q + 128) % 256 - 128
    return ((q - low) // 256).astype(np.int8), low.astype(np.int8), scale


def _quantize(x, largest):
    x = np.asarray(x, np.float64)
    if not np.isfinite(x).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"activation {place} is {x[place]}: it must be finite")
    scale = np.abs(x).max(axis=-1) / largest
    safe = np.where(scale == 0, 1, scale)
    return np.clip(np.rint(x / safe[..., None]), -largest, largest), scale
