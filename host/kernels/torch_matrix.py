"""A packed matrix that torch multiplies, on any of its devices, with golden's integers."""

import numpy as np
import torch
from torch import Tensor

from tritstream.golden.activation import BITNET, LEVELS, SYMMETRIC
from tritstream.golden.fixed_point import (
    GROUP,
    ROWS,
    SCALE_TRITS,
    mantissas,
    result_scale,
)
from tritstream.golden.tiles import check_tiles
from tritstream.golden.trit import decode, to_trit

__all__ = ["TorchMatrix"]

#: Values of the largest temporary tensor.
_VALUES = 1 << 24


class TorchMatrix:
    """Packed matrix W (N, K) in the memory of a device, and its product.

    Parameters
    ----------
    tiles : numpy.ndarray
        uint8 (ceil(N/5), ceil(K/16), 16d+3).
    table : numpy.ndarray
        Scales, float32 (27,).
    depth : int
        Trits per weight, d.
    shape : tuple
        N and K.
    device : torch.device

    Raises :class:`ValueError` for tiles or a table that do not fit.
    """

    def __init__(self, tiles: np.ndarray, table: np.ndarray, depth: int, shape: tuple[int, int],
                 device: torch.device):
        check_tiles(tiles, depth, shape)
        self._depth, self._shape, self._device = depth, shape, device
        self._tiles = torch.tensor(tiles, device=device)
        self._mantissas = torch.tensor(mantissas(table), device=device)
        self._unit = float(result_scale(table, depth, 1.0))
        digits = decode(np.arange(256, dtype=np.uint8))
        self._trits = torch.tensor(to_trit(digits), dtype=torch.float32, device=device)
        self._digits = torch.tensor(digits, dtype=torch.int32, device=device)

    def linear(self, x: Tensor, bits: int, rule: str = SYMMETRIC) -> Tensor:
        """Multiply float (T, K) with 8 or 16 bits per activation; return float32 (T, N).

        8 bits are made by ``rule``, one of :data:`.RULES`. The result is on the device of ``x``.
        Raises :class:`ValueError` for values that are not finite.
        """
        digits, scales = _quantize(x.to(self._device, torch.float32), bits, rule)
        sums = self.gemv(torch.cat(digits)).reshape(len(digits), len(x), self._shape[0])
        total = sums[0] if bits == 8 else 256 * sums[0] + sums[1]
        return (total.double() * (self._unit * scales)[:, None]).float().to(x.device)

    def gemv(self, x: Tensor) -> Tensor:
        """Return row sums as :func:`tritstream.golden.gemv.gemv`: int8 (B, K) to int64 (B, N)."""
        count, groups = self._tiles.shape[:2]
        vectors = torch.zeros(len(x), groups * GROUP, dtype=torch.float32, device=self._device)
        vectors[:, :self._shape[1]] = x
        columns = vectors.reshape(-1, groups, GROUP).permute(1, 2, 0)
        step = max(1, _VALUES // (ROWS * groups * max(GROUP, len(x))))
        parts = [self._row_sums(self._tiles[first:first + step], columns)
                 for first in range(0, count, step)]
        # Later operations of torch add in another order if the memory order is another.
        return torch.cat(parts)[:self._shape[0]].T.contiguous()

    def _row_sums(self, tiles: Tensor, columns: Tensor) -> Tensor:
        """Return the row sums of some tiles: float32 (groups, 16, B) to int64 (rows, B).

        Group sums are below 2^17, so float32 holds them. Their factors have at most 8 significant
        bits, so products in TF32 or bfloat16 are exact too. Row sums are exact in float64, as in
        :mod:`tritstream.golden.gemv`.
        """
        size = GROUP * self._depth
        q = _in_base_3(self._trits, tiles[..., :size].unflatten(-1, (GROUP, self._depth)))
        codes = _in_base_3(self._digits, tiles[..., size:].unflatten(-1, (1, SCALE_TRITS)))
        scales = self._mantissas[codes].double()
        by_group = q.permute(1, 0, 3, 2).reshape(len(columns), -1, GROUP)
        sums = torch.bmm(by_group, columns).double()
        return (sums * scales.permute(1, 0, 3, 2).reshape(len(columns), -1, 1)).sum(0).long()


def _in_base_3(values: Tensor, packed: Tensor) -> Tensor:
    """Return numbers of digits in bytes: (256, 5) by byte, uint8 (..., n) to (..., 5)."""
    numbers = values[packed[..., 0].int()]
    for i in range(1, packed.shape[-1]):
        numbers += 3 ** i * values[packed[..., i].int()]
    return numbers


def _quantize(x: Tensor, bits: int, rule: str) -> tuple[list[Tensor], Tensor]:
    """Quantize as :mod:`tritstream.golden.activation`: float32 (T, K) to int8 digits and scales."""
    if not (finite := torch.isfinite(x)).all():
        index = tuple((~finite).nonzero()[0].tolist())
        raise ValueError(f"activations must be finite, not {x[index]} at {index}")
    if rule == BITNET and bits == 8:
        factor = x.abs().amax(-1).clamp(min=1e-5).reciprocal() * LEVELS[8]
        levels = (x * factor[:, None]).round().clamp(-128, LEVELS[8])
        return [levels.to(torch.int8)], factor.double().reciprocal()
    x = x.double()
    # A tensor, because on a GPU torch multiplies by the reciprocal of a number.
    most = torch.tensor(LEVELS[bits], dtype=torch.float64, device=x.device)
    scales = x.abs().amax(-1) / most
    ratio = torch.where(scales[:, None] > 0, x / scales[:, None], 0.0)
    levels = ratio.round().clamp(-LEVELS[bits], LEVELS[bits])
    if bits == 8:
        return [levels.to(torch.int8)], scales
    low = (levels + 128).remainder(256) - 128
    return [((levels - low) / 256).to(torch.int8), low.to(torch.int8)], scales
