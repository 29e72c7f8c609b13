"""Values of files as tensors of torch."""

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

__all__ = ["to_numpy", "to_torch"]

#: Dtypes of :mod:`ml_dtypes`, by name, and an integer dtype of the same size.
_UNKNOWN_TO_TORCH = {
    "bfloat16": (np.int16, torch.bfloat16), "float8_e4m3fn": (np.uint8, torch.float8_e4m3fn),
    "float8_e5m2": (np.uint8, torch.float8_e5m2),
}


def to_numpy(values: Tensor) -> np.ndarray:
    """Return a tensor as an array, which shares its memory if that is the memory of the host."""
    if values.dtype != torch.bfloat16:
        return values.numpy(force=True)
    return values.view(torch.int16).numpy(force=True).view(ml_dtypes.bfloat16)


def to_torch(values: np.ndarray) -> Tensor:
    """Return values as a tensor that shares their memory, in any dtype of the file format."""
    if values.dtype.name not in _UNKNOWN_TO_TORCH:
        return torch.from_numpy(values)
    bits, dtype = _UNKNOWN_TO_TORCH[values.dtype.name]
    return torch.from_numpy(values.view(bits)).view(dtype)
