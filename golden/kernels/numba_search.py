"""The search loops of the engine ``numba``: see :mod:`tritstream.golden.kernels.numpy_search`."""

import numpy as np

from tritstream.golden.fixed_point import GROUP, SCALES
from tritstream.golden.kernels.numba_blocks import BLOCK, ONE, ROUND, ZERO, square_error, take_block
from tritstream.golden.kernels.numba_jit import compiled, inlined

__all__ = ["feed_back", "grid_errors", "level_sums", "own_errors"]

#: Rows per block, so that their 16 weights, integers and errors fit a first-level cache.
_ROWS = 64


def feed_back(columns, upper, table, half):
    q = np.empty(columns.shape, np.int8)
    codes = np.empty(len(columns), np.uint8)
    fed_back = np.empty(columns.shape, np.float32)
    _feed_back(columns, upper, table, np.float32(half), q, codes, fed_back)
    return q, codes, fed_back


def grid_errors(groups, scales, half, importance):
    errors = np.empty((len(groups), len(scales)), np.float32)
    _grid_errors(groups, scales, np.float32(half), importance, errors)
    return errors


def own_errors(groups, scales, half):
    errors = np.empty(scales.shape, np.float32)
    _own_errors(groups, scales, np.float32(half), errors)
    return errors


def level_sums(groups, scales, half):
    products, squares = np.empty((2, len(groups)), np.float32)
    _level_sums(groups, scales, np.float32(half), products, squares)
    return products, squares


@compiled
def _own_errors(groups, scales, half, errors):
    magnitudes, ones = np.zeros((GROUP, BLOCK), np.float32), np.ones((GROUP, BLOCK), np.float32)
    own, error = np.zeros(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for first in range(0, len(groups), BLOCK):
        count = min(BLOCK, len(groups) - first)
        take_block(groups[first:first + count], magnitudes)
        for index in range(scales.shape[1]):
            own[:count] = scales[first:first + count, index]
            square_error(magnitudes, own, ones, half, error)
            errors[first:first + count, index] = error[:count]


@compiled
def _level_sums(groups, scales, half, products, squares):
    magnitudes, own = np.zeros((GROUP, BLOCK), np.float32), np.zeros(BLOCK, np.float32)
    product, square = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for first in range(0, len(groups), BLOCK):
        count = min(BLOCK, len(groups) - first)
        take_block(groups[first:first + count], magnitudes)
        own[:count] = scales[first:first + count]
        product[:], square[:] = ZERO, ZERO
        for j in range(GROUP):
            weights = magnitudes[j]
            for g in range(BLOCK):
                ratio = weights[g] / own[g]
                ratio = ratio if ratio < ONE else ONE
                q = (ratio * half + ROUND) - ROUND
                q = q if own[g] > ZERO else ZERO
                product[g] += weights[g] * q
                square[g] += q * q
        products[first:first + count] = product[:count]
        squares[first:first + count] = square[:count]


@compiled
def _grid_errors(groups, scales, half, importance, errors):
    magnitudes, weights = np.zeros((2, GROUP, BLOCK), np.float32)
    same, error = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for first in range(0, len(groups), BLOCK):
        count = min(BLOCK, len(groups) - first)
        take_block(groups[first:first + count], magnitudes)
        take_block(importance[first:first + count], weights)
        for index in range(len(scales)):
            same[:] = scales[index]
            square_error(magnitudes, same, weights, half, error)
            errors[first:first + count, index] = error[:count]


@compiled
def _feed_back(columns, upper, table, half, q, codes, fed_back):
    weights, rest = np.zeros((GROUP, _ROWS), np.float32), np.empty((GROUP, _ROWS), np.float32)
    levels, errors = np.empty((GROUP, _ROWS), np.float32), np.empty((GROUP, _ROWS), np.float32)
    loss, least = np.empty(_ROWS, np.float32), np.empty(_ROWS, np.float32)
    for first in range(0, len(columns), _ROWS):
        count = min(_ROWS, len(columns) - first)
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
                        fed_back[first + row, j] = errors[j, row]


@inlined
def _try_scale(rest, upper, scale, half, levels, errors, loss):
    loss[:] = ZERO
    for j in range(GROUP):
        now, level, error, pivot = rest[j], levels[j], errors[j], upper[j, j]
        for row in range(_ROWS):
            ratio = now[row] / scale
            ratio = ratio if ratio < ONE else ONE
            ratio = ratio if ratio > -ONE else -ONE
            level[row] = (ratio * half + ROUND) - ROUND
            error[row] = (now[row] - (scale * level[row]) / half) / pivot
            loss[row] += error[row] * error[row]
        for later in range(j + 1, GROUP):
            other, factor = rest[later], upper[j, later]
            for row in range(_ROWS):
                other[row] -= factor * error[row]
