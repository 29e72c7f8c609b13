"""Quantization of activations to int8, or to 16 bits in two int8 columns."""

import numpy as np

__all__ = ["BITNET", "LEVELS", "RULES", "SYMMETRIC", "check_finite", "quantize_activation",
           "quantize_activation16"]

#: Largest level by bits per activation. 256 * 127 + 127 is the largest magnitude that two int8
#: columns hold with both signs.
LEVELS = {8: 127, 16: 32639}
#: Rules by which a vector becomes int8: that of this project, and the one with which BitNet models
#: are trained.
SYMMETRIC, BITNET = RULES = ("symmetric", "bitnet")

#: Least magnitude that the rule ``BITNET`` takes for the largest of a vector.
_LEAST = np.float32(1e-5)


def quantize_activation(
    x: np.ndarray, rule: str = SYMMETRIC,
) -> tuple[np.ndarray, np.ndarray]:
    """Quantize vectors to int8: float (..., K) to int8 (..., K) and float64 scale (...).

    The rule ``SYMMETRIC`` is ``scale = max|x| / 127`` and ``rint(x / scale)``, in float64. A vector
    of zeros has scale 0. For the rule ``BITNET`` see :func:`_quantize_bitnet`.

    Raises :class:`ValueError` for values that are not finite.
    """
    if rule == BITNET:
        return _quantize_bitnet(x)
    levels, scale = _quantize(x, LEVELS[8])
    return levels.astype(np.int8), scale


def quantize_activation16(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quantize vectors to symmetric 16 bits, as two int8 columns.

    Returns the high bytes, int8 (..., K), the low bytes, int8 (..., K), and scales, float64 (...).
    ``scale = max|x| / 32639`` and ``x ~ (256 * high + low) * scale``. Row sums combine in the same
    way: ``A = 256 * A_high + A_low``. Raises the errors of :func:`quantize_activation`.
    """
    levels, scale = _quantize(x, LEVELS[16])
    levels = levels.astype(np.int64)
    low = (levels + 128) % 256 - 128
    return ((levels - low) // 256).astype(np.int8), low.astype(np.int8), scale


def check_finite(x: np.ndarray) -> None:
    """Raise :class:`ValueError` with the first value that is not finite, if there is one."""
    if not np.isfinite(x).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"activations must be finite, not {x[index]} at {index}")


def _quantize(x: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return levels, which are integers in float64 (..., K), and scales, float64 (...)."""
    x, largest = _checked(x, np.float64)
    scale = largest / most
    # A scale that underflows to (nearly) zero must not produce a level out of range.
    levels = x / np.where(scale > 0, scale, 1)[..., None]
    np.rint(levels, out=levels)
    np.minimum(levels, most, out=levels)
    return np.maximum(levels, -most, out=levels), scale


def _quantize_bitnet(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantize as transformers does for BitNet (``ActQuant``), in float32.

    ``factor = 1 / max(max|x|, 1e-5) * 127``, ``level = clip(rint(x * factor), -128, 127)``, and
    the scale is ``1 / factor`` in float64.
    """
    x, largest = _checked(x, np.float32)
    # torch divides a number by a tensor in these two steps.
    factor = np.float32(1) / np.maximum(largest, _LEAST) * np.float32(LEVELS[8])
    levels = np.clip(np.rint(x * factor[..., None]), -128, LEVELS[8])
    return levels.astype(np.int8), 1 / factor.astype(np.float64)


def _checked(x: np.ndarray, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors (..., K) of a type, and their largest magnitudes (...)."""
    with np.errstate(over="ignore"):
        x = np.asarray(x).astype(dtype)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"activations must have shape (..., K), not {x.shape}")
    largest = np.abs(x).max(axis=-1)
    if not np.isfinite(largest).all():      # the largest of NaN and anything is NaN
        check_finite(x)
    return x, largest
