"""The search loops of the engine ``numpy``: see :class:`tritstream.golden.kernels.Kernels`."""

import numpy as np

from tritstream.golden.fixed_point import GROUP, SCALES
from tritstream.golden.kernels.numpy_arithmetic import (
    levels,
    squared_error,
    sum_in_order,
    transposed_magnitudes,
)

__all__ = ["feed_back", "grid_errors", "level_sums", "own_errors"]


def feed_back(columns, upper, table, half):
    shape = (SCALES, len(columns))
    scales = np.broadcast_to(table[:, None], shape)
    rest = np.broadcast_to(columns.T[:, None], (GROUP, *shape)).copy()
    q, fed_back = np.empty((2, GROUP, *shape), np.float32)
    loss = np.zeros(shape, np.float32)
    for j in range(GROUP):
        q[j] = levels(rest[j], scales, half)
        fed_back[j] = (rest[j] - (scales * q[j]) / np.float32(half)) / upper[j, j]
        loss += fed_back[j] * fed_back[j]
        rest[j + 1:] -= upper[j, j + 1:, None, None] * fed_back[j]
    codes = loss.argmin(axis=0)
    best = np.arange(len(columns))
    return q[:, codes, best].T.astype(np.int8), codes.astype(np.uint8), fed_back[:, codes, best].T


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
