"""The fixed-point contract: sizes, widths and scale factors that software and gateware share."""

from operator import index

import numpy as np

__all__ = [
    "ACTIVATION_BITS", "ACTIVATION_MAX", "GROUP", "GROUP_SUM_BITS", "MANTISSA_BITS",
    "MANTISSA_MAX", "MAX_DEPTH", "MAX_K", "ROW_SUM_BITS", "SCALES", "SCALE_TRITS",
    "TABLE_RATIO_WARNING", "check_depth", "half_range", "information_bits", "mantissas",
    "result_scale", "stored_bits",
]

#: Consecutive weights of a row that share a scale.
GROUP = 16
#: Trits of a scale code, and entries of a matrix's scale table.
SCALE_TRITS = 3
SCALES = 3 ** SCALE_TRITS
#: Most trits a weight can have.
MAX_DEPTH = 4
#: Longest row a device can take at once.
MAX_K = 32768

ACTIVATION_BITS = 8
ACTIVATION_MAX = 127
#: Signed; ``|sum q x| <= 16 * 40 * 128``.
GROUP_SUM_BITS = 18
#: Unsigned.
MANTISSA_BITS = 17
MANTISSA_MAX = 2**MANTISSA_BITS - 1
#: Signed; ``2048 * 81920 * (2^17 - 1) < 2^45``.
ROW_SUM_BITS = 46

#: Largest over smallest used table entry above which mantissas lose too much.
TABLE_RATIO_WARNING = 4000


def check_depth(depth: int) -> int:
    """The depth, if it is one of 1..4."""
    if not 1 <= index(depth) <= MAX_DEPTH:
        raise ValueError(f"depth must be 1..{MAX_DEPTH}, not {depth!r}")
    return depth


def half_range(depth: int) -> int:
    """Largest integer weight of ``depth`` balanced trits: ``(3^depth - 1) / 2``."""
    return (3 ** check_depth(depth) - 1) // 2


def information_bits(depth: int) -> float:
    """Information of a weight with its share of a scale code, in bits."""
    return float(np.log2(3) * (check_depth(depth) + SCALE_TRITS / GROUP))


def stored_bits(depth: int) -> float:
    """Bits a weight takes in a tile: five trits a byte."""
    return 8 * (GROUP * check_depth(depth) + SCALE_TRITS) / (5 * GROUP)


def mantissas(table: np.ndarray) -> np.ndarray:
    """Scale mantissas (27,) int64 of a table (27,) float32, relative to its largest entry.

    ``m_k = round_half_even(table[k] / max(table) * (2^17 - 1))`` in float64.
    """
    table = np.asarray(table, np.float64)
    return np.rint(table / table.max() * MANTISSA_MAX).astype(np.int64)


def result_scale(table: np.ndarray, depth: int, x_scale):
    """Factor from integer row sums to results: ``max(table) / (2^17 - 1) / h * x_scale``.

    ``x_scale`` is a scalar or one value a vector; float64, evaluated left to right.
    """
    largest = np.float64(np.asarray(table).max())
    return largest / MANTISSA_MAX / half_range(depth) * np.asarray(x_scale, np.float64)
