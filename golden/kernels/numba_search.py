"""The search loops of the engine ``numba``: see :mod:`tritstream.golden.kernels.numpy_search`."""

import numpy as np

from tritstream.golden.fixed_point import GROUP, SCALES
from tritstream.golden.kernels.numba_blocks import BLOCK, ONE, ROUND, ZERO, square_error, take_block
from tritstream.golden.kernels.numba_jit import compiled, inlined
from tritstream.golden.kernels.numpy_arithmetic import scale_steps

__all__ = ["feed_back", "grid_errors", "level_sums", "own_errors"]


def feed_back(weights, targets, feedback, importance, table, half):
    q, codes = np.empty(weights.shape, np.int8), np.empty(weights.shape[1], np.uint8)
    errors = np.empty(weights.shape, np.float32)
    _feed_back(weights, targets, feedback, importance, *scale_steps(table, half), np.float32(half),
               q, codes, errors)
    return q, codes, errors


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
def _feed_back(weights, targets, feedback, importance, inverses, steps, half, q, codes, errors):
    own, goals, levels, error = np.zeros((4, len(weights), BLOCK), np.float32)
    inverse, step, loss, least, now = np.zeros((5, BLOCK), np.float32)
    best = np.empty(BLOCK, np.uint8)
    for first in range(0, len(codes), BLOCK):
        count = min(BLOCK, len(codes) - first)
        own[:, :count] = weights[:, first:first + count]
        goals[:, :count] = targets[:, first:first + count]
        for code in range(SCALES):
            inverse[:], step[:] = inverses[code], steps[code]
            _round(own, goals, feedback, importance, inverse, step, half, now, levels, error, loss)
            for row in range(BLOCK):
                better = code == 0 or loss[row] < least[row]
                best[row] = np.uint8(code) if better else best[row]
                least[row] = loss[row] if better else least[row]
        for row in range(BLOCK):
            inverse[row], step[row] = inverses[best[row]], steps[best[row]]
        _round(own, goals, feedback, importance, inverse, step, half, now, levels, error, loss)
        codes[first:first + count] = best[:count]
        errors[:, first:first + count] = error[:, :count]
        for j in range(len(weights)):
            for row in range(count):
                q[j, first + row] = np.int8(np.int32(levels[j, row]))


@inlined
def _round(own, goals, feedback, importance, inverse, step, half, now, levels, errors, loss):
    """Round the columns of a block (G, 128) by the scale of each row; write integers and errors."""
    loss[:] = ZERO
    for j in range(len(own)):
        now[:] = goals[j]
        _add_errors(now, errors, feedback, j)
        weights, level, error, factor = own[j], levels[j], errors[j], importance[j]
        for row in range(BLOCK):
            q = now[row] * inverse[row]
            q = q if q < half else half
            q = q if q > -half else -half
            q = (q + ROUND) - ROUND
            value = step[row] * q
            level[row], error[row] = q, weights[row] - value
            rest = now[row] - value
            loss[row] += rest * rest * factor


@inlined
def _add_errors(now, errors, feedback, columns):
    """Add the errors of the first columns, four at a time, so that ``now`` stays in registers."""
    for i in range(0, columns & ~3, 4):
        a, b, c, d = feedback[i, columns], feedback[i + 1, columns], feedback[i + 2, columns], (
            feedback[i + 3, columns])
        e, f, g, h = errors[i], errors[i + 1], errors[i + 2], errors[i + 3]
        for row in range(BLOCK):
            now[row] = (((now[row] + a * e[row]) + b * f[row]) + c * g[row]) + d * h[row]
    for i in range(columns & ~3, columns):
        a, e = feedback[i, columns], errors[i]
        for row in range(BLOCK):
            now[row] += a * e[row]
