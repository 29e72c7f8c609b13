"""Integer matrix-vector product (GEMV), which the hardware must equal bit for bit."""

import numpy as np

from tritstream.golden.fixed_point import GROUP, mantissas, result_scale
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.row_chunks import row_chunks

__all__ = ["check_activations", "dequantize_rows", "gemv"]


def gemv(matrix: TritMatrix, x: np.ndarray) -> np.ndarray:
    """Return row sums for int8 activations: (K,) to int64 (N,), or (B, K) to int64 (B, N).

    ``A[n] = sum_g m[codes[n, g]] * (sum_j q[n, 16g + j] * x[16g + j])``, exactly. ``m`` are the
    17-bit mantissas of the scale table (:func:`.mantissas`). Raises :class:`TypeError` for another
    dtype and :class:`ValueError` for another shape.
    """
    x = np.asarray(x)
    check_activations(x, matrix.columns)
    scales = mantissas(matrix.table).astype(np.float64)
    vectors = x.reshape(-1, matrix.columns).astype(np.float64)
    sums = np.empty((len(vectors), matrix.rows), np.int64)
    for chunk in row_chunks(*matrix.q.shape):
        sums[:, chunk] = vectors @ _scaled_weights(matrix, chunk, scales).T
    return sums.reshape(*x.shape[:-1], matrix.rows)


def check_activations(x: np.ndarray, columns: int) -> None:
    """Raise the errors of :func:`gemv` unless ``x`` is int8 (K,) or (B, K) for K columns."""
    if x.dtype != np.int8:
        raise TypeError(f"activations must be int8, not {x.dtype}")
    if x.ndim not in (1, 2) or x.shape[-1] != columns:
        raise ValueError(f"activations must have shape ({columns},) or (B, {columns}), "
                         f"not {x.shape}")


def dequantize_rows(
    sums: np.ndarray, table: np.ndarray, depth: int, x_scale: float | np.ndarray,
) -> np.ndarray:
    """Return float32 results for row sums: (N,) with one activation scale, or (B, N) with (B,).

    ``y = float32(float64(A) * c)``, where ``c`` is :func:`.result_scale`.
    """
    factor = np.asarray(result_scale(table, depth, x_scale))
    return (sums.astype(np.float64) * factor[..., None]).astype(np.float32)


def _scaled_weights(matrix: TritMatrix, chunk: slice, scales: np.ndarray) -> np.ndarray:
    """Return ``m * q`` for the rows in ``chunk``: float64 (rows, K).

    A float64 product with these weights is exact, in any order of its sums. All values are
    integers, a weight is at most 40 * (2**17 - 1) and a term is below 2**30, so even 2**23 columns
    stay within 2**53.
    """
    q = matrix.q[chunk].reshape(-1, matrix.groups, GROUP)
    rows = q * scales[matrix.codes[chunk]][..., None]
    return rows.reshape(-1, GROUP * matrix.groups)[:, :matrix.columns]
