"""Payloads of the requests that load activations and scales."""

import numpy as np

from tritstream.golden.fixed_point import GROUP, MANTISSA_BITS, SCALES

__all__ = ["activation_rows", "mantissa_bytes"]

_MANTISSA_LIMIT = 1 << MANTISSA_BITS


def activation_rows(x: np.ndarray, k: int | None = None) -> np.ndarray:
    """Return activations as int8 (B, K), with K zero-padded to a multiple of the group size.

    Raises :class:`ValueError` for another dtype or shape, or if K is not ``k``, unless ``k`` is
    None.
    """
    if not isinstance(x, np.ndarray) or x.dtype != np.int8:
        raise ValueError(f"x must be an int8 array, not {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim not in (1, 2) or x.size == 0 or k not in (None, x.shape[-1]):
        size = "K" if k is None else k
        raise ValueError(f"x must have shape ({size},) or (B, {size}), not {x.shape}")
    rows, short = np.atleast_2d(x), -x.shape[-1] % GROUP
    return np.pad(rows, ((0, 0), (0, short))) if short else rows


def mantissa_bytes(mantissas: np.ndarray) -> bytes:
    """Return the payload of SCALES.

    Raises :class:`ValueError` unless ``mantissas`` are 27 integers below 2^17.
    """
    values = np.asarray(mantissas)
    if values.shape != (SCALES,) or values.dtype.kind not in "iu":
        raise ValueError(f"mantissas must be {SCALES} integers, not {values.dtype} {values.shape}")
    if values.min() < 0 or values.max() >= _MANTISSA_LIMIT:
        raise ValueError(f"mantissas must be 0..{_MANTISSA_LIMIT - 1}, not "
                         f"{values.min()}..{values.max()}")
    return values.astype("<u4").tobytes()
