"""Exact integer products with packed bytes, compiled to vector instructions of 16-bit lanes.

A byte holds the digits D_0..D_4 of five rows as the number ``v = sum_r 3^r D_r``. A digit is the
difference of two quotients, ``D_r = v // 3^r - 3 * (v // 3^(r+1))``. The product is linear in the
digits, so the loops multiply the quotients, and take the difference once per sum of 16 columns.
A quotient is the high half of a 16-bit product, which one instruction computes for 16 or 32 bytes.

All values are kept modulo 2^16. A sum of 16 columns is exact, because three digits at most are
multiplied at a time: its magnitude is at most 16 * 13 * 128 = 26624, less than 2^15.
"""

import numpy as np

from tritstream.golden.fixed_point import GROUP, ROWS
from tritstream.golden.kernels.numba_jit import compiled, inlined

__all__ = ["LANES", "add_row_sums", "quotients"]

#: Row tiles per block: the 16-bit lanes of one instruction of AVX-512, of two of AVX2. Defined here
#: because numba's cache notices changes of this file only.
LANES = 32
#: Rows of a block.
_WIDTH = ROWS * LANES
#: Digits that are multiplied at a time.
_DIGITS = 3
#: ceil(2^16 / 3^r): ``(v * factor) >> 16`` equals ``v // 3^r`` for every v of five digits.
_BY3, _BY9, _BY27, _BY81 = (np.uint32(-(-(1 << 16) // 3 ** r)) for r in range(1, ROWS))
_HIGH, _THREE = np.uint32(16), np.uint16(3)


@compiled
def add_row_sums(numbers, codes, x, mantissas, sums):
    """Add row sums to ``sums``, int64 (blocks, B, 160).

    ``numbers`` and ``codes`` are as in :class:`.LaneWords`, ``x`` is int8 (B, groups, 16), and
    ``mantissas`` int64 (27,).
    """
    depth = numbers.shape[2] // GROUP
    weights = np.empty((GROUP, _WIDTH), np.uint16)
    # One row more, of zeros: the quotient by 3^5.
    products = np.zeros(_WIDTH + LANES, np.uint16)
    scales = np.empty(_WIDTH, np.int64)
    for block in range(len(numbers)):
        for group in range(codes.shape[1]):
            for first in range(0, depth, _DIGITS):
                digits = min(_DIGITS, depth - first)
                if len(x) > 1:
                    _expand(numbers[block, group], first, digits, depth, weights)
                for row in range(_WIDTH):
                    scales[row] = mantissas[codes[block, group, row]] * 3 ** first
                for vector in range(len(x)):
                    if len(x) > 1:
                        _multiply(weights, x[vector, group], products)
                    else:
                        _multiply_one(numbers[block, group], first, digits, depth, x[0, group],
                                      products)
                    offset = _offset(x[vector, group], digits)
                    total = sums[block, vector]
                    for row in range(_WIDTH):
                        s = products[row] - _THREE * products[row + LANES] - offset
                        total[row] += np.int64(np.int16(np.uint16(s))) * scales[row]


@inlined
def _expand(numbers, first, digits, depth, weights):
    """Write ``sum_i 3^i (v_i // 3^r)`` over some digits i of 16 weights: uint16 (16, 160)."""
    weights[:] = 0
    place = np.uint32(1)
    for i in range(first, first + digits):
        for j in range(GROUP):
            for lane in range(LANES):
                q0, q1, q2, q3, q4 = quotients(numbers[depth * j + i, lane])
                weights[j, lane] = _plus(weights[j, lane], q0, place)
                weights[j, lane + LANES] = _plus(weights[j, lane + LANES], q1, place)
                weights[j, lane + 2 * LANES] = _plus(weights[j, lane + 2 * LANES], q2, place)
                weights[j, lane + 3 * LANES] = _plus(weights[j, lane + 3 * LANES], q3, place)
                weights[j, lane + 4 * LANES] = _plus(weights[j, lane + 4 * LANES], q4, place)
        place *= np.uint32(3)


@inlined
def quotients(number):
    """Return ``v // 3^r`` for r = 0..4 and a number v up to 242, as five uint32."""
    v = np.uint32(number)
    return v, (v * _BY3) >> _HIGH, (v * _BY9) >> _HIGH, (v * _BY27) >> _HIGH, (v * _BY81) >> _HIGH


@inlined
def _multiply(weights, x, products):
    """Write the sums over 16 columns, modulo 2^16, into ``products``."""
    for row in range(_WIDTH):
        total = np.uint16(0)
        for j in range(GROUP):
            total = _plus(total, np.uint32(weights[j, row]), np.uint32(np.uint16(x[j])))
        products[row] = total


@inlined
def _multiply_one(numbers, first, digits, depth, x, products):
    """Write the same sums for a single vector, without weights in between, two columns at a time.
    """
    products[:] = 0
    place = np.uint32(1)
    for i in range(first, first + digits):
        for j in range(0, GROUP, 2):
            x0 = np.uint32(np.uint16(place * np.uint32(np.uint16(x[j]))))
            x1 = np.uint32(np.uint16(place * np.uint32(np.uint16(x[j + 1]))))
            for lane in range(LANES):
                q0, q1, q2, q3, q4 = quotients(numbers[depth * j + i, lane])
                p0, p1, p2, p3, p4 = quotients(numbers[depth * (j + 1) + i, lane])
                products[lane] = _plus(_plus(products[lane], q0, x0), p0, x1)
                at = lane + LANES
                products[at] = _plus(_plus(products[at], q1, x0), p1, x1)
                at += LANES
                products[at] = _plus(_plus(products[at], q2, x0), p2, x1)
                at += LANES
                products[at] = _plus(_plus(products[at], q3, x0), p3, x1)
                at += LANES
                products[at] = _plus(_plus(products[at], q4, x0), p4, x1)
        place *= np.uint32(3)


@inlined
def _plus(total, value, factor):
    """Return ``total + value * factor`` modulo 2^16, for uint16, uint32 and uint32."""
    return np.uint16(np.uint32(total) + value * factor)


@inlined
def _offset(x, digits):
    """Return what 1 added to each trit adds to a sum, modulo 2^16: half range times sum of x."""
    total = 0
    for j in range(GROUP):
        total += x[j]
    return np.uint16(total * ((3 ** digits - 1) // 2))
