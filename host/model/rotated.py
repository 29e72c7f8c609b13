"""Products and rows of matrices that are rotated, for inputs and outputs that are not."""

import torch
from torch import Tensor

from tritstream.golden.rotation import Rotation
from tritstream.host.model.backends import Product

__all__ = ["RotatedProduct"]


class RotatedProduct:
    """Product that rotates its inputs before another product: :meth:`.Rotation.apply`, by torch.

    Parameters
    ----------
    product : Product
        Product with the rotated matrix (N, K).
    rotation : Rotation
    columns : int
        Columns K of the matrix.
    """

    def __init__(self, product: Product, rotation: Rotation, columns: int):
        self._product, self._block = product, rotation.block
        self._signs = torch.tensor(rotation.signs.get(columns, 1), dtype=torch.float32)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply float (T, K); return float (T, N)."""
        self._signs = self._signs.to(x.device)
        return self._product(self._transformed(x.float() * self._signs))

    def _transformed(self, x: Tensor) -> Tensor:
        shape, distance = x.shape, 1
        while distance < self._block:
            low, high = x.reshape(len(x), -1, 2, distance).unbind(-2)
            x = torch.stack((low + high, low - high), dim=-2).reshape(shape)
            distance *= 2
        return x * self._block ** -0.5
