"""Profile ``tritllm-v2``: weights to digits, codes and a scale table.

Every step is elementwise in float32 or a sum in a stated order, without fused multiply-add, so
that any implementation can give the same bits.
"""

import math

import numpy as np

from .fixed import GROUP, SCALES, check_depth, half_range
from .matrix import TritMatrix

__all__ = ["CANDIDATES", "CODEC", "dequantize", "levels", "quantize", "reconstruct"]

CODEC = "tritllm-v2"
#: Places of the candidate scales among a group's magnitudes in ascending order.
CANDIDATES = (10, 12, 14, 15)
#: Weights worked on at once: bounds the temporaries.
_CHUNK = 1 << 20


def levels(groups: np.ndarray, scales: np.ndarray, half: int) -> np.ndarray:
    """Integer weights ``rint(clip(g / s, -1, 1) * h)`` float32 (..., 16); 0 where s = 0."""
    s = scales[..., None]
    with np.errstate(over="ignore"):    # by a subnormal scale; clipped like any large ratio
        ratio = np.divide(groups, s, out=np.zeros_like(groups), where=s > 0)
    return np.rint(np.clip(ratio, np.float32(-1), np.float32(1)) * np.float32(half))


def reconstruct(scales: np.ndarray, q: np.ndarray, half: int) -> np.ndarray:
    """Weights ``(s * q) / h`` float32 (..., 16)."""
    return (scales[..., None] * q) / np.float32(half)


def quantize(weights: np.ndarray, depth: int, name: str = "matrix") -> TritMatrix:
    """Quantize a matrix (N, K) to ``depth`` balanced trits a weight.

    Raises
    ------
    ValueError
        Depth outside 1..4, not a matrix, or a weight that is not finite; ``name`` is told.
    """
    check_depth(depth)
    weights = np.asarray(weights)
    if weights.ndim != 2 or 0 in weights.shape:
        raise ValueError(f"{name} must be a matrix with rows and columns, not {weights.shape}")
    rows, columns = weights.shape
    count = -(-columns // GROUP)
    q = np.empty((rows, count * GROUP), np.int8)
    codes = np.empty((rows, count), np.uint8)
    step = max(1, _CHUNK // (count * GROUP))

    scales = np.empty((rows, count), np.float32)
    for low in range(0, rows, step):
        groups = _groups(weights, low, low + step, count, name)
        scales[low:low + step] = _best_scales(groups, half_range(depth))
    table, thresholds = _table(scales)
    for low in range(0, rows, step):
        groups = _groups(weights, low, low + step, count, name)
        part = scales[low:low + step]
        code = np.searchsorted(thresholds, part.astype(np.float64), side="left").astype(np.uint8)
        coded = np.where(part > 0, table[code], np.float32(0))
        q[low:low + step] = levels(groups, coded, half_range(depth)).reshape(len(part), -1)
        codes[low:low + step] = code
    return TritMatrix(depth, (rows, columns), q, codes, table)


def _groups(weights, low, high, count, name):
    """Rows as float32 groups (n, count, 16), padded with zeros."""
    part = weights[low:high].astype(np.float32)
    if not np.isfinite(part).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(part))[0])
        raise ValueError(f"{name}: weight [{low + row}, {column}] is {part[row, column]}: "
                         "only finite weights can be quantized")
    padded = np.zeros((len(part), count * GROUP), np.float32)
    padded[:, :part.shape[1]] = part
    return padded.reshape(len(part), count, GROUP)


def _best_scales(groups, half):
    """The candidate of each group with the least squared error, the first of equals."""
    candidates = np.sort(np.abs(groups), axis=-1)
    best = best_error = None
    for place in CANDIDATES:
        scale = candidates[..., place]
        error = _squared_error(groups, scale, half)
        if best is None:
            best, best_error = scale.copy(), error
        else:
            better = error < best_error
            best[better], best_error[better] = scale[better], error[better]
    return best


def _squared_error(groups, scales, half):
    """Sum over j = 0..15, in this order, of squared differences; float32."""
    difference = groups - reconstruct(scales, levels(groups, scales, half), half)
    error = np.zeros(scales.shape, np.float32)
    with np.errstate(over="ignore"):    # an infinite error loses against any other
        squares = difference * difference
        for j in range(GROUP):
            error += squares[..., j]
    return error


def _table(scales):
    """Log-spaced table float32 (27,) over the used scales, and 26 float64 thresholds."""
    used = scales[scales > 0]
    if not used.size:
        return np.ones(SCALES, np.float32), np.full(SCALES - 1, np.inf)
    low, high = math.log(float(used.min())), math.log(float(used.max()))
    step = (high - low) / (SCALES - 1)
    table = np.array([math.exp(low + step * k) for k in range(SCALES)]).astype(np.float32)
    if high == low:
        return table, np.full(SCALES - 1, np.inf)
    return table, np.array([math.exp(low + step * (k + 0.5)) for k in range(SCALES - 1)])


def dequantize(matrix: TritMatrix) -> np.ndarray:
    """Weights float32 (N, K) of a quantized matrix."""
    weights = np.empty(matrix.shape, np.float32)
    step = max(1, _CHUNK // (matrix.groups * GROUP))
    for low in range(0, matrix.rows, step):
        rows = slice(low, low + step)
        q = matrix.q[rows].reshape(-1, matrix.groups, GROUP).astype(np.float32)
        part = reconstruct(matrix.table[matrix.codes[rows]], q, matrix.half_range)
        weights[rows] = part.reshape(len(part), -1)[:, :matrix.columns]
    return weights
