"""What a product takes beside weights, as it is sent."""

import numpy as np

from tritstream.golden.fixed_point import GROUP, MANTISSA_BITS, SCALES

__all__ = ["activation_rows", "mantissa_bytes"]

_MANTISSA_LIMIT = 1 << MANTISSA_BITS


def activation_rows(x: np.ndarray, k: int | None = None) -> np.ndarray:
    """Activations as int8 (B, K), K padded with zeros to whole groups; any K if ``k`` is None.

    Raises :class:`ValueError` for another dtype or shape.
    """
    if not isinstance(x, np.ndarray) or x.dtype != np.int8:
        raise ValueError(f"x must be an int8 array, not {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim not in (1, 2) or x.size == 0 or k not in (None, x.shape[-1]):
        due = "K" if k is None else k
        raise ValueError(f"x must have shape ({due},) or (B, {due}), not {x.shape}")
    return np.pad(np.atleast_2d(x), ((0, 0), (0, -x.shape[-1] % GROUP)))


def mantissa_bytes(mantissas: np.ndarray) -> bytes:
    """Payload of SCALES; raises :class:`ValueError` unless they are 27 integers below 2^17."""
    values = np.asarray(mantissas)
    if values.shape != (SCALES,) or values.dtype.kind not in "iu":
        raise ValueError(f"mantissas must be {SCALES} integers, not {values.dtype} {values.shape}")
    if values.min() < 0 or values.max() >= _MANTISSA_LIMIT:
        raise ValueError(f"mantissas must be 0..{_MANTISSA_LIMIT - 1}, not "
                         f"{values.min()}..{values.max()}")
    return values.astype("<u4").tobytes()
