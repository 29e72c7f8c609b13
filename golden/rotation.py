"""Rotation of input vectors by signs and Walsh-Hadamard matrices, before they are quantized.

A model whose weights were rotated offline, ``W (H S)^T`` in place of ``W``, multiplies rotated
vectors: ``x -> H S x``. Products stay the same, and large values of a vector are spread over a
block, so that weights and activations of few bits have smaller errors.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Rotation"]


@dataclass(frozen=True)
class Rotation:
    """Signs of columns, then a normalized Walsh-Hadamard matrix in natural order per block.

    Element (i, j) of the matrix is ``(-1)^popcount(i & j) / sqrt(block)``. Everything is computed
    in float32: the sums and differences of values at the distances 1, 2, 4 .. block / 2, and the
    factor ``1 / sqrt(block)`` at the end.

    Members
    -------
    block : int
        Columns that are rotated together, a power of two.
    signs : mapping
        Signs of columns by their number K: int8 (K,), each -1 or 1. Empty if there are no signs.
    modules : frozenset
        Names of the modules whose matrices are rotated. The rows of an embedding among them are
        rotated back when they are looked up.
    """

    block:   int
    signs:   Mapping[int, np.ndarray]
    modules: frozenset[str]

    def of(self, modules: Collection[str]) -> "Rotation | None":
        """Return the rotation of some of the modules only, None if it has none of them."""
        found = self.modules.intersection(modules)
        return replace(self, modules=found) if found else None

    def fault(self, columns: int) -> str | None:
        """Return why matrices with this number of columns cannot be rotated; None if they can."""
        if columns % self.block:
            return f"has {columns} columns, no multiple of the rotated block of {self.block}"
        if self.signs and columns not in self.signs:
            return f"has {columns} columns, for which the rotation has no signs"
        return None

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Rotate vectors, float (..., K), before a product: float32 (..., K)."""
        return self._transformed(self._signed(np.asarray(x, np.float32)))

    def undo(self, x: np.ndarray) -> np.ndarray:
        """Rotate vectors, float (..., K), back: float32 (..., K)."""
        return self._signed(self._transformed(np.asarray(x, np.float32)))

    def _signed(self, x: np.ndarray) -> np.ndarray:
        return x * self.signs[x.shape[-1]].astype(np.float32) if self.signs else x

    def _transformed(self, x: np.ndarray) -> np.ndarray:
        shape, distance = x.shape, 1
        while distance < self.block:
            pairs = x.reshape(*shape[:-1], -1, 2, distance)
            low, high = pairs[..., 0, :], pairs[..., 1, :]
            x = np.stack((low + high, low - high), axis=-2).reshape(shape)
            distance *= 2
        return x * np.float32(self.block ** -0.5)
