"""A packed matrix that torch multiplies, on any of its devices, with golden's integers."""

import numpy as np
import torch
from torch import Tensor

from tritstream.golden.activation import LEVELS
from tritstream.golden.fixed_point import (
    GROUP,
    ROWS,
    half_range,
    mantissas,
    table_unit,
)
from tritstream.golden.packed_matrix import PackedMatrix, StoredMatrix, Tiles
from tritstream.golden.tiles import check_tiles
from tritstream.golden.trit import decode, to_trit

__all__ = ["TorchMatrix"]

#: Values of the largest temporary tensor.
_VALUES = 1 << 24


class TorchMatrix:
    """Packed matrix W (N, K) in the memory of a device, and its product.

    Parameters
    ----------
    matrix : tuple or PackedMatrix
        Matrix as a packed checkpoint stores it: :meth:`.PackedCheckpoint.stored`.
    device : torch.device

    Raises :class:`ValueError` for tiles or a table that do not fit.
    """

    _scales: Tensor | None = None

    def __init__(self, matrix: StoredMatrix, device: torch.device):
        self._device = device
        self._use_apart(matrix) if isinstance(matrix, PackedMatrix) else self._use_tiles(matrix)
        digits = decode(np.arange(256, dtype=np.uint8))
        self._trits = torch.tensor(to_trit(digits), dtype=torch.float32, device=device)
        self._digits = torch.tensor(digits, dtype=torch.int32, device=device)

    def _use_tiles(self, matrix: Tiles) -> None:
        tiles, table, self._depth, self._shape = matrix
        check_tiles(tiles, self._depth, self._shape)
        self._tiles = torch.tensor(tiles, device=self._device)
        self._mantissas = torch.tensor(mantissas(table), device=self._device)
        self._factors = torch.tensor([table_unit(table) / half_range(self._depth)],
                                     dtype=torch.float64, device=self._device)

    def _use_apart(self, matrix: PackedMatrix) -> None:
        """Take trits as tiles without codes, and the mantissas of each group."""
        self._depth, self._shape, self._group = matrix.depth, matrix.shape, matrix.group
        count = len(matrix.trits)
        tiles = matrix.trits.reshape(count, -1, GROUP * self._depth)
        self._tiles = torch.tensor(tiles, device=self._device)
        scales = np.zeros((ROWS * count, matrix.scales.groups), np.int32)
        scales[:self._shape[0]] = matrix.scales.mantissas(slice(None))
        by_tile = scales.reshape(count, ROWS, -1).swapaxes(1, 2)
        self._scales = torch.tensor(by_tile, device=self._device)
        units = np.atleast_1d(matrix.scales.units) / half_range(self._depth)
        self._factors = torch.tensor(units, device=self._device)

    def linear(self, x: Tensor, bits: int) -> Tensor:
        """Multiply float (T, K) with 8 or 16 bits per activation; return float32 (T, N).

        The result is on the device of ``x``. Raises :class:`ValueError` for values that are not
        finite.
        """
        digits, scales = _quantize(x.to(self._device, torch.float32).double(), bits)
        sums = self.gemv(torch.cat(digits)).reshape(len(digits), len(x), self._shape[0])
        total = sums[0] if bits == 8 else 256 * sums[0] + sums[1]
        return (total.double() * (self._factors * scales[:, None])).float().to(x.device)

    def gemv(self, x: Tensor) -> Tensor:
        """Return row sums as :func:`tritstream.golden.gemv.gemv`: int8 (B, K) to int64 (B, N)."""
        count, groups = self._tiles.shape[:2]
        vectors = torch.zeros(len(x), groups * GROUP, dtype=torch.float32, device=self._device)
        vectors[:, :self._shape[1]] = x
        columns = vectors.reshape(-1, groups, GROUP).permute(1, 2, 0)
        step = max(1, _VALUES // (ROWS * groups * max(GROUP, len(x))))
        parts = [self._row_sums(slice(first, first + step), columns)
                 for first in range(0, count, step)]
        # Later operations of torch add in another order if the memory order is another.
        return torch.cat(parts)[:self._shape[0]].T.contiguous()

    def _row_sums(self, part: slice, columns: Tensor) -> Tensor:
        """Return the row sums of some tiles: float32 (groups, 16, B) to int64 (rows, B).

        Group sums are below 2^17, so float32 holds them. Their factors have at most 8 significant
        bits, so products in TF32 or bfloat16 are exact too. Row sums are exact in float64, as in
        :mod:`tritstream.golden.gemv`.
        """
        tiles, size = self._tiles[part], GROUP * self._depth
        q = _in_base_3(self._trits, tiles[..., :size].unflatten(-1, (GROUP, self._depth)))
        by_group = q.permute(1, 0, 3, 2).reshape(len(columns), -1, GROUP)
        sums = torch.bmm(by_group, columns).double()
        scales = self._factors_of(part, tiles[..., size:]).double()
        return (sums * scales.transpose(0, 1).reshape(len(columns), -1, 1)).sum(0).long()

    def _factors_of(self, part: slice, digits: Tensor) -> Tensor:
        """Return the mantissas of 16 columns each: (tiles, groups, 5)."""
        if self._scales is None:
            return self._mantissas[_in_base_3(self._digits, digits)]
        by_group = self._scales[part].repeat_interleave(self._group // GROUP, 1)
        return by_group[:, :self._tiles.shape[1]]


def _in_base_3(values: Tensor, packed: Tensor) -> Tensor:
    """Return numbers of digits in bytes: (256, 5) by byte, uint8 (..., n) to (..., 5)."""
    numbers = values[packed[..., 0].int()]
    for i in range(1, packed.shape[-1]):
        numbers += 3 ** i * values[packed[..., i].int()]
    return numbers


def _quantize(x: Tensor, bits: int) -> tuple[list[Tensor], Tensor]:
    """Quantize as :mod:`tritstream.golden.activation`: float64 (T, K) to int8 digits and scales."""
    if not (finite := torch.isfinite(x)).all():
        index = tuple((~finite).nonzero()[0].tolist())
        raise ValueError(f"activations must be finite, not {x[index]} at {index}")
    # A tensor, because on a GPU torch multiplies by the reciprocal of a number.
    most = torch.tensor(LEVELS[bits], dtype=torch.float64, device=x.device)
    scales = x.abs().amax(-1) / most
    ratio = torch.where(scales[:, None] > 0, x / scales[:, None], 0.0)
    levels = ratio.round().clamp(-LEVELS[bits], LEVELS[bits])
    if bits == 8:
        return [levels.to(torch.int8)], scales
    low = (levels + 128).remainder(256) - 128
    return [((levels - low) / 256).to(torch.int8), low.to(torch.int8)], scales
