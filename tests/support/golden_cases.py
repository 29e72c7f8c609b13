"""Matrices of any integers, made without the quantizer."""

import numpy as np

from tritstream.golden.matrix import TritMatrix

__all__ = ["integer_matrix"]


def integer_matrix(rows, columns, depth, seed=0, ratio=300.0):
    """A matrix of random weights, codes and a shuffled table whose ends are ``ratio`` apart."""
    rng = np.random.default_rng(seed)
    groups, half = -(-columns // 16), (3**depth - 1) // 2
    q = np.zeros((rows, 16 * groups), np.int8)
    q[:, :columns] = rng.integers(-half, half + 1, (rows, columns))
    codes = rng.integers(0, 27, (rows, groups), dtype=np.uint8)
    table = rng.permutation(np.geomspace(0.01, 0.01 * ratio, 27)).astype(np.float32)
    return TritMatrix(depth, (rows, columns), q, codes, table)
