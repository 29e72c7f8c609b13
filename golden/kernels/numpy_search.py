"""The search loops of the engine ``numpy``: see :class:`tritstream.golden.kernels.Kernels`."""

import numpy as np

from tritstream.golden.fixed_point import SCALES
from tritstream.golden.kernels.numpy_arithmetic import (
    levels,
    scale_steps,
    squared_error,
    sum_in_order,
    transposed_magnitudes,
)

__all__ = ["feed_back", "grid_errors", "level_sums", "own_errors"]


def feed_back(weights, targets, feedback, importance, table, half):
    inverse, step = scale_steps(table, half)
    q, errors = np.empty((2, len(weights), SCALES, weights.shape[1]), np.float32)
    loss = np.zeros(q.shape[1:], np.float32)
    for j, target in enumerate(targets):
        now = np.broadcast_to(target, loss.shape).copy()
        for i in range(j):
            now += feedback[i, j] * errors[i]
        with np.errstate(over="ignore"):
            q[j] = np.rint(np.clip(now * inverse[:, None], np.float32(-half), np.float32(half)))
        value = step[:, None] * q[j]
        errors[j] = weights[j] - value
        now -= value
        loss += now * now * importance[j]
    codes, columns = loss.argmin(axis=0), np.arange(weights.shape[1])
    return q[:, codes, columns].astype(np.int8), codes.astype(np.uint8), errors[:, codes, columns]


def grid_errors(groups, scales, half, importance):
    magnitudes, importance = transposed_magnitudes(groups), importance.T.copy()
    errors = np.empty((len(groups), len(scales)), np.float32)
    for index, scale in enumerate(scales):
        same = np.full(len(groups), scale)
        errors[:, index] = squared_error(magnitudes, same, half, importance)
    return errors


def own_errors(groups, scales, half):
    magnitudes, errors = transposed_magnitudes(groups), np.empty(scales.shape, np.float32)
    for index in range(scales.shape[1]):
        errors[:, index] = squared_error(magnitudes, scales[:, index].copy(), half, None)
    return errors


def level_sums(groups, scales, half):
    magnitudes = transposed_magnitudes(groups)
    q = levels(magnitudes, scales, half)
    with np.errstate(over="ignore"):
        return sum_in_order(magnitudes * q), sum_in_order(q * q)
