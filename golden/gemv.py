"""Integer GEMV: what every device must return, bit for bit."""

import numpy as np

from .fixed import GROUP, mantissas, result_scale
from .matrix import TritMatrix

__all__ = ["dequantize_rows", "gemv"]

#: Group sums computed at once.
_CHUNK = 1 << 20


def gemv(matrix: TritMatrix, x: np.ndarray) -> np.ndarray:
    """Row sums ``A = sum_g m[code_g] * S_g`` with ``S_g = sum_j q_j x_j``, exact.

    Parameters
    ----------
    matrix : TritMatrix
        (N, K).
    x : int8 (K,) or (B, K)

    Returns
    -------
    int64 (N,) or (B, N)

    Raises
    ------
    ValueError
        ``x`` is not int8 or does not have K elements.
    """
    x = np.asarray(x)
    if x.dtype != np.int8 or x.ndim not in (1, 2) or x.shape[-1] != matrix.columns:
        raise ValueError(f"activations must be int8 with {matrix.columns} elements a vector, "
                         f"not {x.dtype} {x.shape}")
    batch = np.atleast_2d(x)
    # float64 products are exact here: |S| <= 2^17, and BLAS is many times faster on them.
    padded = np.zeros((len(batch), matrix.groups * GROUP), np.float64)
    padded[:, :matrix.columns] = batch
    columns = padded.reshape(len(batch), matrix.groups, GROUP).transpose(1, 2, 0)   # g j b
    sums = np.empty((len(batch), matrix.rows), np.int64)
    scales = mantissas(matrix.table)
    step = max(1, _CHUNK // (matrix.groups * max(GROUP, len(batch))))
    for low in range(0, matrix.rows, step):
        rows = slice(low, low + step)
        q = matrix.q[rows].reshape(-1, matrix.groups, GROUP).transpose(1, 0, 2)     # g n j
        group_sums = (q.astype(np.float64) @ columns).astype(np.int64)              # g n b
        factors = scales[matrix.codes[rows]].T[:, :, None]                          # g n 1
        sums[:, rows] = (group_sums * factors).sum(axis=0).T
    return sums if x.ndim == 2 else sums[0]


def dequantize_rows(sums: np.ndarray, table: np.ndarray, depth: int, x_scale) -> np.ndarray:
    """Results float32 of row sums (N,) or (B, N), with one activation scale a vector."""
    factor = result_scale(table, depth, x_scale)
    return (np.asarray(sums, np.float64) * np.asarray(factor)[..., None]).astype(np.float32)
