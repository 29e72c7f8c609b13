"""Integer matrix-vector product (GEMV), which the hardware must equal bit for bit."""

import numpy as np

from tritstream.golden.fixed_point import GROUP, half_range, table_unit
from tritstream.golden.matrix import ScaledMatrix
from tritstream.golden.row_chunks import row_chunks

__all__ = ["check_activations", "dequantize_rows", "gemv", "results"]


def gemv(matrix: ScaledMatrix, x: np.ndarray) -> np.ndarray:
    """Return row sums for int8 activations: (K,) to int64 (N,), or (B, K) to int64 (B, N).

    ``A[n] = sum_g m[n, g] * (sum_j q[n, G g + j] * x[G g + j])`` for groups of G columns, exactly.
    ``m`` are the mantissas of the scales (:meth:`.Scales.mantissas`). Raises :class:`TypeError` for
    another dtype and :class:`ValueError` for another shape.
    """
    x = np.asarray(x)
    rows, columns = matrix.shape
    check_activations(x, columns)
    vectors, scales = x.reshape(-1, columns).astype(np.float64), matrix.scales
    sums = np.empty((len(vectors), rows), np.int64)
    for chunk in row_chunks(*matrix.q.shape):
        weights = _scaled_weights(matrix, chunk, scales.mantissas(chunk))
        sums[:, chunk] = vectors @ weights.T
    return sums.reshape(*x.shape[:-1], rows)


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
    """Return :func:`results` for row sums of a matrix with a scale table, float32 (27,)."""
    return results(sums, table_unit(table), depth, x_scale)


def results(
    sums: np.ndarray, units: float | np.ndarray, depth: int, x_scale: float | np.ndarray,
) -> np.ndarray:
    """Return float32 results for row sums: (N,) with one activation scale, or (B, N) with (B,).

    ``y = float32(float64(A) * c)`` with ``c = unit / h * x_scale`` in float64, from left to right.
    ``units`` are those of the scales (:attr:`.Scales.units`): one, or one per row (N,).
    """
    factors = units / half_range(depth) * np.asarray(x_scale, np.float64)[..., None]
    return np.multiply(sums, factors, dtype=np.float64).astype(np.float32)


def _scaled_weights(matrix: ScaledMatrix, chunk: slice, scales: np.ndarray) -> np.ndarray:
    """Return ``m * q`` for the rows in ``chunk``: float64 (rows, K).

    A float64 product with these weights is exact, in any order of its sums. All values are
    integers, a weight is at most 40 * (2**17 - 1) and a term is below 2**30, so even 2**23 columns
    stay within 2**53.
    """
    q = matrix.q[chunk].reshape(len(scales), -1, GROUP)
    by_unit = np.repeat(scales.astype(np.float64), matrix.group // GROUP, axis=1)
    rows = q * by_unit[:, :q.shape[1], None]
    return rows.reshape(len(rows), -1)[:, :matrix.shape[1]]
