"""Parts shared by the compiled loops, which work on blocks of groups, transposed to (16, n)."""

import numpy as np

from tritstream.golden.fixed_point import GROUP
from tritstream.golden.kernels.numba_jit import inlined

__all__ = ["BLOCK", "ONE", "ROUND", "ZERO", "square_error", "take_block"]

#: Groups per block. The magnitudes of a block take 8 KB, which fit a first-level cache.
BLOCK = 128
#: 1.5 * 2^23. Adding it to a float32 below 2^22 and subtracting it again rounds half to even.
ROUND = np.float32(3 << 22)
ONE, ZERO = np.float32(1), np.float32(0)


@inlined
def take_block(groups, magnitudes):
    """Write magnitudes of groups (n, 16) into the first n columns of ``magnitudes`` (16, 128)."""
    for g in range(len(groups)):
        for j in range(GROUP):
            magnitudes[j, g] = abs(groups[g, j])


@inlined
def square_error(magnitudes, scales, importance, half, error):
    """Write the weighted squared error of each group of a block into ``error`` (128,)."""
    error[:] = ZERO
    for j in range(GROUP):
        weights, factors = magnitudes[j], importance[j]
        for g in range(BLOCK):
            ratio = weights[g] / scales[g]
            ratio = ratio if ratio < ONE else ONE
            q = (ratio * half + ROUND) - ROUND
            q = q if scales[g] > ZERO else ZERO
            t = weights[g] - (scales[g] * q) / half
            error[g] += (t * t) * factors[g]
