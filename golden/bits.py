"""Floats as the unsigned integers that hold them: magnitudes have the same order."""

import numpy as np

__all__ = ["float_bits", "magnitude_mask"]


def float_bits(values: np.ndarray) -> np.ndarray:
    """Floats of 2 or 4 bytes as unsigned integers of that size, without a copy."""
    return values.view(np.dtype(f"u{values.dtype.itemsize}"))


def magnitude_mask(dtype: np.dtype) -> np.unsignedinteger:
    """All bits of an unsigned dtype but the highest, the sign."""
    return dtype.type(np.iinfo(dtype).max >> 1)
