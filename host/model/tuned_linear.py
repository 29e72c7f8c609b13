"""Linear layers whose quantized weights are tuned by gradient: digits and tables."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tritstream.golden.fixed_point import GROUP
from tritstream.golden.matrix import TritMatrix

__all__ = ["TunedLinear"]

#: Largest distance of a digit before rounding from the digit that it is rounded to.
_HALF = 0.49


class TunedLinear(nn.Module):
    """Linear layer with a quantized matrix, of which codes are fixed, and integers and table not.

    An integer is a float that is rounded. Its derivative passes the rounding unchanged (the
    straight-through estimator of Bengio et al., 2013). At first, the float is the one next to the
    weight that is rounded to the integer of the matrix.

    Parameters
    ----------
    layer : torch.nn.Linear
        Layer with the weights before quantization.
    matrix : TritMatrix
        Quantized weights.

    Members
    -------
    levels : torch.nn.Parameter
        Floats of the integers, (N, K).
    factors : torch.nn.Parameter
        Logarithms of the factors of the table's entries, (27,).
    """

    def __init__(self, layer: nn.Linear, matrix: TritMatrix):
        super().__init__()
        weight = layer.weight.detach()
        self._half, self._matrix, self.bias = matrix.half_range, matrix, layer.bias
        self._codes = torch.from_numpy(matrix.codes.astype(np.int64)).to(weight.device)
        self._table = torch.from_numpy(matrix.table).to(weight.device)
        self.factors = nn.Parameter(torch.zeros_like(self._table))
        integers = torch.from_numpy(matrix.q[:, :matrix.columns]).to(weight)
        with torch.no_grad():
            exact = weight / self._scales()
        self.levels = nn.Parameter(exact.clamp(integers - _HALF, integers + _HALF))

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply inputs (..., K) by the quantized weights; return (..., N)."""
        levels = self.levels
        rounded = levels + (self._integers() - levels).detach()
        return functional.linear(inputs, rounded * self._scales(), self.bias)

    @torch.no_grad()
    def matrix(self) -> TritMatrix:
        """Return the quantized matrix, with the table in ascending order."""
        old, table = self._matrix, self._tuned_table().numpy(force=True).astype(np.float32)
        order = np.argsort(table, kind="stable")
        q = np.zeros_like(old.q)
        q[:, :old.columns] = self._integers().numpy(force=True)
        codes = np.argsort(order, kind="stable").astype(np.uint8)[old.codes]
        return TritMatrix(old.depth, old.shape, q, codes, table[order])

    def _integers(self) -> Tensor:
        return self.levels.round().clamp(-self._half, self._half)

    def _tuned_table(self) -> Tensor:
        return self._table * self.factors.exp()

    def _scales(self) -> Tensor:
        """Return what each integer is multiplied by, (N, K)."""
        scales = (self._tuned_table() / self._half)[self._codes]
        return scales.repeat_interleave(GROUP, 1)[:, :self._matrix.columns]
