"""Activations to factors of the products, and row sums to results, compiled, in one call each.

The arithmetic is golden's: :mod:`tritstream.golden.activation` and
:func:`tritstream.golden.gemv.dequantize_rows`. For a single vector, numpy would spend more time on
its calls than on the values.
"""

import numpy as np

from tritstream.golden.fixed_point import GROUP, half_range
from tritstream.golden.kernels.numba_jit import compiled
from tritstream.host.kernels.numba_products import LANES, PARTS, PIECES, SLOTS

__all__ = [
    "differences", "prepare_job", "quantize_bitnet", "quantize_vectors", "write_results",
]

#: Constants of the rule of BitNet: see :mod:`tritstream.golden.activation`.
_ONE, _LEAST, _MOST = np.float32(1), np.float32(1e-5), np.float32(127)


def differences(depth: int) -> np.ndarray:
    """Return the factors of each activation of a unit: uint16 (parts, 16, SLOTS), modulo 2^16.

    A quotient counts with the activation of the piece that ends there, and against that of the
    piece after it. What is added last makes trits of trits plus one.
    """
    found = np.zeros((len(PARTS[depth]), GROUP, SLOTS), np.int64)
    for matrix, part in zip(found, PARTS[depth], strict=True):
        matrix[:, -1] = -half_range(part)
        slot = 0
        for pieces in PIECES[part]:
            for place, (weight, low, trits) in enumerate(pieces):
                matrix[weight, slot + place] += 3 ** low
                if place:
                    matrix[weight, slot + place - 1] -= 3 ** (low + trits)
            slot += len(pieces)
    return found.astype(np.uint16)


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
def prepare_job(x, matrices, depth, numbers, codes, mantissas, factors, sums, job):
    """Write the factors of vectors, int8 (B, 16 * units), and a job for :func:`.block_products`.

    ``matrices`` are :func:`differences`. The other arguments are described there. The last two
    fields of the job are not written.
    """
    values = np.empty(GROUP, np.uint16)
    for vector in range(len(x)):
        for unit in range(len(factors)):
            for j in range(GROUP):
                values[j] = x[vector, GROUP * unit + j]
            for part in range(len(matrices)):
                for slot in range(SLOTS):
                    total = np.uint16(0)
                    for j in range(GROUP):
                        total = np.uint16(total + matrices[part, j, slot] * values[j])
                    factors[unit, part, vector, slot] = total
    job[0], job[1], job[2], job[3], job[4] = 0, len(codes), len(factors), depth, len(x)
    job[5], job[6], job[7] = numbers.ctypes.data, codes.ctypes.data, factors.ctypes.data
    job[8], job[9] = mantissas.ctypes.data, sums.ctypes.data


@compiled
def write_results(sums, units, scales, results):
    """Write ``float32(float64(sum) * (unit * scale))`` into ``results``, float32 (T, N).

    ``sums`` are row sums for the digits of T vectors, int64 (blocks, T or 2T, 64). ``units`` are
    float64 (N,), or (1,) for all rows, and ``scales`` float64 (T,).
    """
    count, rows = results.shape
    for block in range(len(sums)):
        first = LANES * block
        for t in range(count):
            factor = units[0] * scales[t]
            for lane in range(min(LANES, rows - first)):
                total = sums[block, t, lane]
                if sums.shape[1] > count:
                    total = 256 * total + sums[block, count + t, lane]
                if len(units) > 1:
                    factor = units[first + lane] * scales[t]
                results[t, first + lane] = np.float32(np.float64(total) * factor)
