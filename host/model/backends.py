"""What computes the products of packed matrices: integers in numpy, a device, or plain floats."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from golden.activation import quantize_activation, quantize_activation16
from golden.checkpoint import PackedCheckpoint
from golden.gemv import dequantize_rows, gemv
from golden.quantize import TritMatrix, dequantize

__all__ = ["ACTIVATION_BITS", "BACKENDS", "Backend", "GoldenBackend", "Product",
           "ReferenceBackend"]

#: Widths of an activation that an integer backend can be asked for.
ACTIVATION_BITS = (8, 16)


class Product(Protocol):
    """A matrix W (N, K), ready to be multiplied: float (T, K) to float (T, N), ``x @ W.T``."""

    def __call__(self, x: Tensor) -> Tensor: ...


class Backend(Protocol):
    """Maker of products."""

    def prepare(self, checkpoint: PackedCheckpoint, name: str) -> Product:
        """Read a matrix, once for many products."""
        ...


class ReferenceBackend:
    """Dequantized weights in floating point, activations as they are."""

    def __init__(self, dtype: torch.dtype = torch.float32):
        self._dtype = dtype

    def prepare(self, checkpoint: PackedCheckpoint, name: str) -> Product:
        """Dequantize a matrix: :meth:`Backend.prepare`."""
        weight = torch.from_numpy(dequantize(checkpoint.matrix(name))).to(self._dtype)
        return lambda x: torch.nn.functional.linear(x, weight)


class GoldenBackend:
    """The integers of :mod:`golden.gemv`, which a device returns bit for bit.

    Parameters
    ----------
    activation_bits : int
        8, or 16 as two int8 columns; each vector has a scale of its own.
    """

    def __init__(self, activation_bits: int = 8):
        self._quantized = _quantizer(activation_bits)

    def prepare(self, checkpoint: PackedCheckpoint, name: str) -> Product:
        """Unpack a matrix: :meth:`Backend.prepare`."""
        matrix = checkpoint.matrix(name)
        return lambda x: self._multiply(matrix, x)

    def _multiply(self, matrix: TritMatrix, x: Tensor) -> Tensor:
        columns, weights, scales = self._quantized(x.numpy())
        sums = gemv(matrix, columns).reshape(len(weights), len(x), -1)
        sums = np.tensordot(weights, sums, 1)
        return torch.from_numpy(dequantize_rows(sums, matrix.table, matrix.depth, scales))


#: Names of the backends.
BACKENDS = ("reference", "golden", "device")


def _quantizer(bits: int):
    if bits not in ACTIVATION_BITS:
        raise ValueError(f"activation_bits must be 8 or 16, not {bits!r}")
    return _two_columns if bits == 16 else _one_column


def _one_column(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int8 columns (T, K), the integers that weigh their sums, float64 scales (T,)."""
    columns, scales = quantize_activation(x)
    return columns, np.array([1]), scales


def _two_columns(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of 16 bits: all high columns, then all low ones, int8 (2T, K)."""
    high, low, scales = quantize_activation16(x)
    return np.concatenate([high, low]), np.array([256, 1]), scales
