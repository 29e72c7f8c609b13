"""Matrices of any integers, made without the quantizer."""

import numpy as np

from tritstream.golden.matrix import DirectMatrix, TritMatrix
from tritstream.golden.scales import DirectScales

__all__ = ["direct_matrix", "integer_matrix"]


def integer_matrix(rows, columns, depth, seed=0, ratio=300.0, group=16):
    """A matrix of random weights, codes and a shuffled table whose ends are ``ratio`` apart."""
    rng = np.random.default_rng(seed)
    q = _integers(rng, rows, columns, depth)
    codes = rng.integers(0, 27, (rows, -(-columns // group)), dtype=np.uint8)
    table = rng.permutation(np.geomspace(0.01, 0.01 * ratio, 27)).astype(np.float32)
    return TritMatrix(depth, (rows, columns), q, codes, table, group=group)


def direct_matrix(
    rows, columns, depth, group, dtype=np.float16, seed=0, ratio=20.0, inverse=False, single=False,
):
    """A matrix of random weights and scales within a ratio; ``single``: one scale for all rows."""
    rng = np.random.default_rng(seed)
    shape = (1, 1) if single else (rows, -(-columns // group))
    stored = (0.01 * np.exp(rng.uniform(0, np.log(ratio), shape))).astype(dtype)
    q = _integers(rng, rows, columns, depth)
    return DirectMatrix(depth, (rows, columns), q, DirectScales(stored, rows, inverse), group)


def _integers(rng, rows, columns, depth):
    half = (3**depth - 1) // 2
    q = np.zeros((rows, -(-columns // 16) * 16), np.int8)
    q[:, :columns] = rng.integers(-half, half + 1, (rows, columns))
    return q
