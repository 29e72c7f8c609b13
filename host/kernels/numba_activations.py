"""Activations to int8 digits, and row sums to results, compiled: golden's arithmetic, in one call.

The plain code is :mod:`tritstream.golden.activation` and
:func:`tritstream.golden.gemv.dequantize_rows`. For a single vector, numpy would spend more time on
its calls than on the values.
"""

import numpy as np

from tritstream.golden.fixed_point import ROWS
from tritstream.golden.kernels.numba_jit import compiled
from tritstream.host.kernels.numba_products import LANES

__all__ = ["quantize_bitnet", "quantize_vectors", "write_results"]

#: Constants of the rule of BitNet: see :mod:`tritstream.golden.activation`.
_ONE, _LEAST, _MOST = np.float32(1), np.float32(1e-5), np.float32(127)


@compiled
def quantize_vectors(x, most, digits, scales):
    """Quantize float32 (T, K) to ``digits``, int8 (T or 2T, >= K), and ``scales``, float64 (T,).

    ``most`` is the largest level, float64. 2T rows are the high digits in base 256, then the low
    ones. Returns whether all values are finite; if not, the results are incomplete.
    """
    count, columns = x.shape
    for t in range(count):
        largest, total = 0.0, 0.0
        for k in range(columns):
            value = np.float64(x[t, k])
            largest = max(largest, abs(value))
            total += value
        if not np.isfinite(total):
            return False
        scale = largest / most
        scales[t] = scale
        for k in range(columns if scale > 0 else 0):
            level = np.int32(min(max(np.rint(np.float64(x[t, k]) / scale), -most), most))
            if len(digits) == count:
                digits[t, k] = level
            else:
                low = (level + 128) % 256 - 128
                digits[t, k], digits[count + t, k] = (level - low) // 256, low
    return True


@compiled
def quantize_bitnet(x, digits, scales):
    """Quantize like :func:`quantize_vectors` to 8 bits, by the rule of BitNet, in float32."""
    count, columns = x.shape
    for t in range(count):
        largest, total = _LEAST, 0.0
        for k in range(columns):
            largest = max(largest, abs(x[t, k]))
            total += np.float64(x[t, k])
        if not np.isfinite(total):
            return False
        factor = np.float32(_ONE / largest) * _MOST
        scales[t] = 1 / np.float64(factor)
        for k in range(columns):
            level = np.rint(np.float32(x[t, k] * factor))
            digits[t, k] = np.int32(min(max(level, np.float32(-128)), _MOST))
    return True


@compiled
def write_results(sums, factors, results):
    """Write ``float32(float64(sum) * factor)``, in row order, into ``results``, float32 (T, N).

    ``sums`` are the results of :func:`.add_row_sums` for the digits of T vectors, int64
    (blocks, T or 2T, 160). ``factors`` are float64 (T,).
    """
    count, rows = results.shape
    for t in range(count):
        for row in range(rows):
            tile = row // ROWS
            block, place = tile // LANES, row % ROWS * LANES + tile % LANES
            total = sums[block, t, place]
            if sums.shape[1] > count:
                total = 256 * total + sums[block, count + t, place]
            results[t, row] = np.float32(np.float64(total) * factors[t])
