"""Fixed-point contract: sizes, bit widths, scale mantissas and conversion to real numbers."""

import math

import numpy as np

__all__ = [
    "ACTIVATION_BITS", "GROUP", "GROUP_SUM_BITS", "MANTISSA_BITS", "MANTISSA_MAX", "MAX_DEPTH",
    "MAX_K", "ROWS", "ROW_SUM_BITS", "SCALES", "SCALE_TRITS", "TABLE_RATIO_WARNING",
    "TRITS_PER_BYTE", "check_table", "device_table", "group_count", "half_range",
    "information_bits", "mantissas", "packed_bits", "result_scale", "row_blocks", "row_tiles",
    "stored_bits", "table_ratio", "tile_bytes", "tiles_shape",
]

#: Consecutive weights of a row that share a scale.
GROUP = 16
#: Entries of a scale table, one per value of a scale code of SCALE_TRITS digits.
SCALES = 27
SCALE_TRITS = 3
#: Largest number of trits per weight.
MAX_DEPTH = 4

ACTIVATION_BITS = 8
#: Signed. The magnitude of a group sum is at most 16 * 40 * 128 = 81920.
GROUP_SUM_BITS = 18
#: Unsigned.
MANTISSA_BITS = 17
#: Signed. Sufficient for MAX_K columns.
ROW_SUM_BITS = 46
MAX_K = 32768

#: Ratio of the largest to the smallest table entry above which mantissas of small scales are too
#: inaccurate.
TABLE_RATIO_WARNING = 4000

#: Mantissa of the largest scale of a table.
MANTISSA_MAX = 2 ** MANTISSA_BITS - 1

TRITS_PER_BYTE = 5
#: Rows of a tile: one per trit of a byte.
ROWS = TRITS_PER_BYTE


def half_range(depth: int) -> int:
    """Return the largest integer of ``depth`` trits: 1, 4, 13 or 40.

    Raises :class:`ValueError` for a depth outside 1..4.
    """
    is_integer = isinstance(depth, (int, np.integer)) and not isinstance(depth, bool)
    if not is_integer or not 1 <= depth <= MAX_DEPTH:
        raise ValueError(f"depth must be 1..{MAX_DEPTH}, not {depth!r}")
    return (3 ** int(depth) - 1) // 2


def information_bits(depth: int) -> float:
    """Return the information content in bits per weight, its share of the scale code included."""
    half_range(depth)
    return math.log2(3) * (depth + SCALE_TRITS / GROUP)


def stored_bits(depth: int) -> float:
    """Return stored bits per weight at five trits per byte, padding and table not included."""
    half_range(depth)
    return 8 / 5 * (GROUP * depth + SCALE_TRITS) / GROUP


def check_table(table: np.ndarray) -> None:
    """Raise :class:`ValueError` unless the table is 27 finite positive float32 values."""
    if table.dtype != np.float32 or table.shape != (SCALES,):
        raise ValueError(f"table must be float32 ({SCALES},), not {table.dtype} {table.shape}")
    wrong = np.flatnonzero(~(np.isfinite(table) & (table > 0)))
    if wrong.size:
        raise ValueError(f"table must be finite and positive, not {table[wrong[0]]} "
                         f"at code {wrong[0]}")


def mantissas(table: np.ndarray) -> np.ndarray:
    """Return the unsigned 17-bit mantissas of a scale table: float32 (27,) to int64 (27,).

    ``m[k] = round_half_even(table[k] / max(table) * (2**17 - 1))``, in float64.
    """
    check_table(table)
    wide = table.astype(np.float64)
    return np.rint(wide / wide.max() * MANTISSA_MAX).astype(np.int64)


def device_table(table: np.ndarray, least: int = 0) -> np.ndarray:
    """Return the scales that a device computes with: float32 (27,) to float32 (27,).

    ``m[k] * max(table) / (2**17 - 1)``. Mantissas ``m[k]`` below ``least`` are raised to ``least``.
    """
    counts = np.maximum(mantissas(table), least)
    return (counts * (float(table.max()) / MANTISSA_MAX)).astype(np.float32)


def table_ratio(table: np.ndarray) -> float:
    """Return the ratio of the largest to the smallest entry."""
    check_table(table)
    return float(table.max()) / float(table.min())


def result_scale(table: np.ndarray, depth: int, x_scale: float | np.ndarray) -> float | np.ndarray:
    """Return the factor for row sums: one float64, or one per entry of ``x_scale``.

    ``c = max(table) / (2**17 - 1) / h * x_scale`` in float64, from left to right.
    """
    check_table(table)
    unit = float(table.max()) / MANTISSA_MAX / half_range(depth)
    if np.ndim(x_scale):
        return unit * np.asarray(x_scale, np.float64)
    return unit * float(x_scale)


def tile_bytes(depth: int) -> int:
    """Return the number of bytes per tile."""
    half_range(depth)
    return GROUP * depth + SCALE_TRITS


def row_tiles(rows: int) -> int:
    """Return the number of row tiles for ``rows`` rows."""
    return -(-rows // ROWS)


def row_blocks(rows: int, lanes: int) -> int:
    """Return the number of row blocks, of ``lanes`` row tiles each, for ``rows`` rows."""
    return -(-row_tiles(rows) // lanes)


def tiles_shape(shape: tuple[int, int], depth: int) -> tuple[int, int, int]:
    """Return the shape of the tiles of an N x K matrix: (row tiles, groups, bytes)."""
    return row_tiles(shape[0]), -(-shape[1] // GROUP), tile_bytes(depth)


def packed_bits(shape: tuple[int, int], depth: int) -> float:
    """Return stored bits per weight of a matrix ``(N, K)``, padding included, table not."""
    return 8 * math.prod(tiles_shape(shape, depth)) / math.prod(shape)


def group_count(columns: int) -> int:
    """Return the number of groups per row, the padded last one included."""
    return -(-columns // GROUP)
