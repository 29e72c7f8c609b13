"""The loops of searching, engine ``numba``: those of :mod:`golden.kernels.plain_search`."""

import numpy as np

from golden.fixed import GROUP, SCALES
from golden.kernels.jit import compiled, inlined

__all__ = ["feed_back", "grid_errors"]

#: Rows that go side by side: their 16 weights, integers and errors stay in first-level caches.
_BLOCK = 64
_ROUND = np.float32(3 << 22)
_ONE, _ZERO = np.float32(1), np.float32(0)


def feed_back(columns, upper, table, half):
    q = np.empty(columns.shape, np.int8)
    codes = np.empty(len(columns), np.uint8)
    moved = np.empty(columns.shape, np.float32)
    _feed_back(columns, upper, table, np.float32(half), q, codes, moved)
    return q, codes, moved


def grid_errors(groups, scales, half, importance):
    errors = np.empty((len(groups), len(scales)), np.float32)
    _grid_errors(groups, scales, np.float32(half), importance, errors)
    return errors


@compiled
def _grid_errors(groups, scales, half, importance, errors):
    magnitudes, weights = np.empty((2, GROUP, _BLOCK), np.float32)
    error = np.empty(_BLOCK, np.float32)
    for first in range(0, len(groups), _BLOCK):
        count = min(_BLOCK, len(groups) - first)
        for g in range(count):
            for j in range(GROUP):
                magnitudes[j, g] = abs(groups[first + g, j])
                weights[j, g] = importance[first + g, j]
        for place in range(len(scales)):
            _square_error(magnitudes, weights, scales[place], half, error)
            for g in range(count):
                errors[first + g, place] = error[g]


@inlined
def _square_error(magnitudes, importance, scale, half, error):
    error[:] = _ZERO
    for j in range(GROUP):
        weights, worth = magnitudes[j], importance[j]
        for g in range(_BLOCK):
            ratio = weights[g] / scale
            ratio = ratio if ratio < _ONE else _ONE
            t = weights[g] - (scale * ((ratio * half + _ROUND) - _ROUND)) / half
            error[g] += (t * t) * worth[g]


@compiled
def _feed_back(columns, upper, table, half, q, codes, moved):
    weights, rest = np.zeros((GROUP, _BLOCK), np.float32), np.empty((GROUP, _BLOCK), np.float32)
    levels, errors = np.empty((GROUP, _BLOCK), np.float32), np.empty((GROUP, _BLOCK), np.float32)
    loss, least = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    for first in range(0, len(columns), _BLOCK):
        count = min(_BLOCK, len(columns) - first)
        for row in range(count):
            for j in range(GROUP):
                weights[j, row] = columns[first + row, j]
        for code in range(SCALES):
            rest[:] = weights
            _try_scale(rest, upper, table[code], half, levels, errors, loss)
            for row in range(count):
                if code == 0 or loss[row] < least[row]:
                    least[row], codes[first + row] = loss[row], code
                    for j in range(GROUP):
                        q[first + row, j] = np.int8(np.int32(levels[j, row]))
                        moved[first + row, j] = errors[j, row]


@inlined
def _try_scale(rest, upper, scale, half, levels, errors, loss):
    loss[:] = _ZERO
    for j in range(GROUP):
        now, level, error, worth = rest[j], levels[j], errors[j], upper[j, j]
        for row in range(_BLOCK):
            ratio = now[row] / scale
            ratio = ratio if ratio < _ONE else _ONE
            ratio = ratio if ratio > -_ONE else -_ONE
            level[row] = (ratio * half + _ROUND) - _ROUND
            error[row] = (now[row] - (scale * level[row]) / half) / worth
            loss[row] += error[row] * error[row]
        for later in range(j + 1, GROUP):
            other, factor = rest[later], upper[j, later]
            for row in range(_BLOCK):
                other[row] -= factor * error[row]
