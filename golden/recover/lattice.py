"""Intervals of scales that produce a magnitude, as the (ordered) bits of float32 scales."""

from dataclasses import dataclass

import numpy as np

from tritstream.golden.recover.cells import cell_intervals, near_intervals, scale_of_bits
from tritstream.golden.rounding import DigitForm, Form, to_dtype

__all__ = ["Lattice", "Pieces", "scale_of_bits"]

#: Bits of the float32 infinity: 1 above the bits of the largest scale.
_NONE = 0x7f800000
#: Number of bits for a scale in a search key. The index of the magnitude is above them.
_SHIFT = 31
_BITS = (1 << _SHIFT) - 1


@dataclass(frozen=True)
class Pieces:
    """Intervals of valid scales: bits ``low[i]..high[i]``, both included, for group ``owner[i]``.

    They are sorted by owner, then by scale. Intervals of one owner neither overlap nor touch.
    """

    owner: np.ndarray
    low:   np.ndarray
    high:  np.ndarray

    def take(self, chosen: np.ndarray) -> "Pieces":
        """Return some of the intervals, by indices or a bool mask."""
        return Pieces(self.owner[chosen], self.low[chosen], self.high[chosen])


class Lattice:
    """Scales for magnitudes (float32, ascending) stored in a dtype, in one form and half range.

    ``least`` is a lower bound of the largest magnitude of each group, 0 if unknown.
    """

    def __init__(
        self, values: np.ndarray, dtype: np.dtype, form: Form, half: int, least: float = 0.0,
    ) -> None:
        self._values, self._dtype, self._form, self._half = values[:, None], dtype, form, half
        self._low, self._high, self._first, self._last = _merge(*self._intervals(values, least))

    def _intervals(
        self, values: np.ndarray, least: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return each interval's magnitude (index), least and largest scale, in any order."""
        if isinstance(self._form, DigitForm) and self._form.has_planes:
            return cell_intervals(values, self._dtype, self._form, self._half, least)
        low = self._least_bits(np.greater_equal)
        high = self._least_bits(np.greater) - 1
        if isinstance(self._form, DigitForm) and self._form.step == np.float32:
            return near_intervals(values, self._dtype, self._form, low, high)
        rows, columns = np.nonzero(low <= high)
        return rows, low[rows, columns], high[rows, columns]

    def pieces(self, groups: np.ndarray) -> Pieces:
        """Return the scales that produce all magnitudes of each group.

        ``groups`` (n, 16) are 1-based indices of magnitudes, or 0 for a weight of zero. Each group
        must have a weight other than zero.
        """
        groups = np.sort(np.where(groups, groups, groups.max(axis=1, keepdims=True)), axis=1)
        owner = np.arange(len(groups))
        pieces = self._within(Pieces(owner, np.zeros_like(owner), np.full_like(owner, _NONE)),
                              groups[:, -1])
        for column in range(groups.shape[1] - 1):
            pieces = self._within(pieces, groups[pieces.owner, column])
        return pieces

    def _within(self, pieces: Pieces, magnitudes: np.ndarray) -> Pieces:
        """Return the parts of each interval that also produce the magnitude given for it."""
        keys = magnitudes << _SHIFT
        first = np.searchsorted(self._last, keys | pieces.low, side="left")
        count = np.searchsorted(self._first, keys | pieces.high, side="right") - first
        np.maximum(count, 0, out=count)
        source = np.repeat(np.arange(len(keys)), count)
        step = np.arange(source.size) - np.repeat(np.cumsum(count) - count, count)
        index = first[source] + step
        return Pieces(pieces.owner[source], np.maximum(pieces.low[source], self._low[index]),
                      np.minimum(pieces.high[source], self._high[index]))

    def _least_bits(self, reached: np.ufunc) -> np.ndarray:
        """Return least scales, as bits, at which integers reach magnitudes: int64 (D, h)."""
        shape, q = (len(self._values), self._half), np.arange(self._half, 0, -1)
        low, high = np.ones(shape, np.int64), np.full(shape, _NONE)
        while (low < high).any():
            middle = (low + high) // 2
            made = self._form.weights(scale_of_bits(middle), q, self._half)
            done = reached(to_dtype(made, self._dtype), self._values)
            high = np.where(done, middle, high)
            low = np.where(done, low, middle + 1)
        return low


def _merge(
    rows: np.ndarray, low: np.ndarray, high: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sort and merge the intervals of each row; return low, high, and both as search keys."""
    first, last = (rows + 1) << _SHIFT | low, (rows + 1) << _SHIFT | high
    order = np.argsort(first, kind="stable")
    first, last = first[order], np.maximum.accumulate(last[order])
    apart = np.ones(first.size + 1, bool)
    apart[1:-1] = first[1:] > last[:-1] + 1
    first, last = first[apart[:-1]], last[apart[1:]]
    return first & _BITS, last & _BITS, first, last
