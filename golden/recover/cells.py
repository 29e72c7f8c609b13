"""Which scales make which magnitudes in a form that adds up digits: found by trying.

Such a weight need not grow with its scale: a digit that is -1 may be rounded up where the others
stay. In a form whose digits take values of 16 bits the scales between two steps of any digit, a
cell, make the same weights, so that one scale of each cell is tried. In float32 the scales near
those that a bisection finds are tried, each for itself.
"""

from collections.abc import Callable

import numpy as np

from tritstream.golden.rounding import DigitForm, float_bits, to_dtype

__all__ = ["cell_intervals", "near_intervals", "scale_of_bits"]

#: Bits of the float32 infinity: one more than those of the largest scale.
_NONE = 0x7f800000
_MOST = float(np.finfo(np.float32).max)
#: How much larger than its product of scale and integer a weight may be in bfloat16, and smaller.
_MARGIN = 1.1
#: Float32 scales on either side of those found by bisection, which are right but for roundings.
_NEAR = 12

#: Rows of intervals: places of magnitudes, counted from 0, least and largest scale as bits.
_Intervals = tuple[np.ndarray, np.ndarray, np.ndarray]


def scale_of_bits(bits: np.ndarray) -> np.ndarray:
    """The float32 that non-negative integers are the bits of."""
    return np.asarray(bits).astype(np.int32).view(np.float32)


def cell_intervals(
    values: np.ndarray, dtype: np.dtype, form: DigitForm, half: int, least: float,
) -> _Intervals:
    """Scales that make each of the magnitudes (float32, ascending) stored in a dtype.

    ``form`` has planes; every group has a magnitude of at least ``least``. Intervals may overlap,
    where several integers make a magnitude.
    """
    starts, end = _cells(max(values[0], least), values[-1], dtype, form, half)
    scales, find = scale_of_bits(starts), _finder(values, dtype)
    planes, ends = form.planes(scales, half), np.append(starts[1:], end) - 1
    found = []
    for q in range(1, half + 1):
        places = find(to_dtype(form.add(planes, scales, np.array(q), half), dtype))
        edges = np.flatnonzero(np.diff(places)) + 1
        first, last = np.append(0, edges), np.append(edges, places.size) - 1
        live = places[first] > 0
        first, last = first[live], last[live]
        found.append((places[first].astype(np.int64) - 1, starts[first], ends[last]))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def near_intervals(
    values: np.ndarray, dtype: np.dtype, form: DigitForm, low: np.ndarray, high: np.ndarray,
) -> _Intervals:
    """The same near ``low..high`` (D, h), bits of scales, of integers h first.

    What lies more than a few scales within them makes the magnitude and is not tried.
    """
    half = low.shape[1]
    rows, places = np.nonzero(high - low >= -_NEAR)
    low, high, q = low[rows, places], high[rows, places], half - places
    steps, wide = np.arange(-_NEAR, _NEAR + 1), high - low > 2 * _NEAR
    # The ends of a wide interval are tried, and what is between them taken.
    found = [(rows[wide], low[wide] + _NEAR, high[wide] - _NEAR)]
    middle = (low + high) // 2
    for centers, some in ((low, wide), (high, wide), (middle, ~wide)):
        bits = np.clip(centers[some, None] + steps, 1, _NONE - 1)
        made = form.weights(scale_of_bits(bits), q[some, None], half)
        makes = to_dtype(made, dtype) == values[rows[some], None]
        owner, step = np.nonzero(makes)
        found.append((rows[some][owner], bits[owner, step], bits[owner, step]))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def _cells(
    least: float, largest: float, dtype: np.dtype, form: DigitForm, half: int,
) -> tuple[np.ndarray, int]:
    """First scale of each cell of groups whose largest weight is within ``least..largest``.

    Returns bits of scales, and the end of the last cell.
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
    """Least scales, as bits, from which on a digit has each of its values."""
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
    """The least number that a dtype has."""
    return float(np.array(1, f"u{dtype.itemsize}").view(dtype))


def _finder(values: np.ndarray, dtype: np.dtype) -> Callable[[np.ndarray], np.ndarray]:
    """What gives the places of weights in magnitudes, counted from 1; 0 of any others."""
    if dtype.itemsize == 2:
        table = np.zeros(1 << 16, np.int16)
        table[float_bits(values.astype(dtype))] = np.arange(1, values.size + 1)
        return lambda made: table.take(float_bits(made.astype(dtype)))

    def find(made: np.ndarray) -> np.ndarray:
        places = np.searchsorted(values, made)
        right = values.take(places, mode="clip") == made
        return np.where(right, places + 1, 0).astype(np.int16)
    return find
