"""What the compiled loops have in common: blocks of groups, the places first."""

import numpy as np

from tritstream.golden.fixed_point import GROUP
from tritstream.golden.kernels.numba_jit import inlined

__all__ = ["BLOCK", "ONE", "ROUND", "ZERO", "square_error", "take_block"]

#: Groups of a block: its magnitudes take 8 KB, which first-level caches hold.
BLOCK = 128
#: 1.5 * 2^23: added to a float32 of small magnitude and taken away, it rounds half to even.
ROUND = np.float32(3 << 22)
ONE, ZERO = np.float32(1), np.float32(0)


@inlined
def take_block(groups, magnitudes):
    for g in range(len(groups)):
        for j in range(GROUP):
            magnitudes[j, g] = abs(groups[g, j])


@inlined
def square_error(magnitudes, scales, importance, half, error):
    error[:] = ZERO
    for j in range(GROUP):
        weights, worth = magnitudes[j], importance[j]
        for g in range(BLOCK):
            ratio = weights[g] / scales[g]
            ratio = ratio if ratio < ONE else ONE
            q = (ratio * half + ROUND) - ROUND
            q = q if scales[g] > ZERO else ZERO
            t = weights[g] - (scales[g] * q) / half
            error[g] += (t * t) * worth[g]
