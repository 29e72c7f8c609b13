"""Intervals of scales per magnitude for forms that add up digits, found by trying scales.

In these forms a weight need not grow with its scale, because the value of a digit -1 may be rounded
up while the values of the other digits stay. If digits take values of 16 bits, all scales between
two steps of any digit (a cell) produce the same weights, so one scale per cell is tried. In
float32, the scales near the results of a bisection are tried one by one.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tritstream.golden.rounding import DigitForm, float_bits, to_dtype

__all__ = ["cell_intervals", "near_intervals", "scale_of_bits"]

#: Bits of the float32 infinity: 1 above the bits of the largest scale.
_NONE = 0x7f800000
_MOST = float(np.finfo(np.float32).max)
#: Largest factor between a weight and the product of its scale and integer, in bfloat16.
_MARGIN = 1.1
#: Number of float32 scales to try on either side of a result of bisection, because of roundings.
_NEAR = 12

#: Intervals: index of the magnitude, least and largest scale as bits. One array each.
_Intervals = tuple[np.ndarray, np.ndarray, np.ndarray]


def scale_of_bits(bits: npt.ArrayLike) -> np.ndarray:
    """Return the float32 values with these bits (non-negative integers)."""
    return np.asarray(bits).astype(np.int32).view(np.float32)


def cell_intervals(
    values: np.ndarray, dtype: np.dtype, form: DigitForm, half: int, least: float,
) -> _Intervals:
    """Return the scales that produce each of the magnitudes (float32, ascending) in a dtype.

    ``form`` must have planes, and every group a magnitude of at least ``least``. Intervals may
    overlap if several integers produce a magnitude.
    """
    starts, end = _cells(max(values[0], least), values[-1], dtype, form, half)
    scales, find = scale_of_bits(starts), _finder(values, dtype)
    planes, ends = form.planes(scales, half), np.append(starts[1:], end) - 1
    found = []
    for q in range(1, half + 1):
        numbers = find(to_dtype(form.add(planes, scales, np.array(q), half), dtype))
        edges = np.flatnonzero(np.diff(numbers)) + 1
        first, last = np.append(0, edges), np.append(edges, numbers.size) - 1
        known = numbers[first] > 0
        first, last = first[known], last[known]
        found.append((numbers[first].astype(np.int64) - 1, starts[first], ends[last]))
    return _joined(found)


def near_intervals(
    values: np.ndarray, dtype: np.dtype, form: DigitForm, low: np.ndarray, high: np.ndarray,
) -> _Intervals:
    """Return the same intervals near ``low..high`` (D, h): bits of scales, integer h first.

    Scales far inside ``low..high`` produce the magnitude for certain and are not tried.
    """
    half = low.shape[1]
    rows, columns = np.nonzero(high - low >= -_NEAR)
    low, high, q = low[rows, columns], high[rows, columns], half - columns
    steps, wide = np.arange(-_NEAR, _NEAR + 1), high - low > 2 * _NEAR
    # The scales near the ends of a wide interval are tried, the scales between them accepted.
    found = [(rows[wide], low[wide] + _NEAR, high[wide] - _NEAR)]
    middle = (low + high) // 2
    for centers, some in ((low, wide), (high, wide), (middle, ~wide)):
        bits = np.clip(centers[some, None] + steps, 1, _NONE - 1)
        made = form.weights(scale_of_bits(bits), q[some, None], half)
        makes = to_dtype(made, dtype) == values[rows[some], None]
        owner, step = np.nonzero(makes)
        found.append((rows[some][owner], bits[owner, step], bits[owner, step]))
    return _joined(found)


def _joined(found: list[_Intervals]) -> _Intervals:
    rows, low, high = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return rows, low, high


def _cells(
    least: float, largest: float, dtype: np.dtype, form: DigitForm, half: int,
) -> tuple[np.ndarray, int]:
    """Return the first scale of each cell, as bits, and the end of the last cell.

    The cells cover the scales of groups whose largest weight is within ``least..largest``.
    """
    unit = max(_unit(dtype), _unit(form.step))
    low = least / _MARGIN - 4 * unit
    high = (largest * _MARGIN + 4 * unit) * half
    ends = np.clip([low, high], 0, _MOST).astype(np.float32).view(np.int32)
    first, end = max(int(ends[0]), 1), int(ends[1]) + 1
    bounds = form.planes(scale_of_bits([first, end - 1]), half)
    steps = [_steps(form, half, number, bound, (first, end))
             for number, bound in enumerate(bounds)]
    return np.unique(np.concatenate([[first], *steps])), end


def _steps(
    form: DigitForm, half: int, number: int, bound: np.ndarray, ends: tuple[int, int],
) -> np.ndarray:
    """Return the least scale, as bits, at which a digit reaches each of its values."""
    first, last = float_bits(bound.astype(form.step)).astype(np.int64)
    wanted = np.arange(first + 1, last + 1).astype(np.uint16).view(form.step).astype(np.float32)
    low, high = np.full(wanted.shape, ends[0]), np.full(wanted.shape, ends[1])
    while (low < high).any():
        middle = (low + high) // 2
        done = form.plane(scale_of_bits(middle), number, half) >= wanted
        high = np.where(done, middle, high)
        low = np.where(done, low, middle + 1)
    return low[low < ends[1]]


def _unit(dtype: np.dtype) -> float:
    """Return the smallest positive number of a dtype."""
    return float(np.array(1, f"u{dtype.itemsize}").view(dtype))


def _finder(values: np.ndarray, dtype: np.dtype) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from weights to their 1-based index in ``values``, or 0 if not in it."""
    if dtype.itemsize == 2:
        table = np.zeros(1 << 16, np.int16)
        table[float_bits(values.astype(dtype))] = np.arange(1, values.size + 1)
        return lambda made: table.take(float_bits(made.astype(dtype)))

    def find(made: np.ndarray) -> np.ndarray:
        indices = np.searchsorted(values, made)
        known = values.take(indices, mode="clip") == made
        return np.where(known, indices + 1, 0).astype(np.int16)
    return find
