"""Fixed-point contract: sizes, bit widths, scale mantissas and conversion to real numbers."""

import math

import numpy as np

__all__ = [
    "ACTIVATION_BITS", "DIRECT_BYTES", "DIRECT_MANTISSA_BITS", "GROUP", "GROUP_SUM_BITS",
    "MANTISSA_BITS", "MANTISSA_MAX", "MAX_DEPTH", "MAX_K", "ROWS", "ROW_SUM_BITS", "SCALES",
    "SCALE_TRITS", "TABLE_RATIO_WARNING", "TRITS_PER_BYTE", "check_group", "check_table",
    "device_table", "group_count", "half_range", "information_bits", "longest_piece", "mantissas",
    "packed_bits", "piece_columns", "result_scale", "row_blocks", "row_tiles", "stored_bits",
    "table_ratio", "table_unit", "tile_bytes", "tiles_shape",
]

#: Shortest group: consecutive weights of a row that share a scale. A group of a matrix may be any
#: multiple. Devices count columns in units of so many.
GROUP = 16
#: Entries of a scale table, one per value of a scale code of SCALE_TRITS digits.
SCALES = 27
SCALE_TRITS = 3
#: Largest number of trits per weight.
MAX_DEPTH = 4

ACTIVATION_BITS = 8
#: Signed. Limits the columns that a device adds up before it multiplies: :func:`longest_piece`.
GROUP_SUM_BITS = 18
#: Unsigned. Mantissas of a scale table.
MANTISSA_BITS = 17
#: Unsigned. Mantissas of direct scales, which follow the trits of each group.
DIRECT_MANTISSA_BITS = 16
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
#: Bytes per lane for the direct scales of a group: a mantissa per row of the tile.
DIRECT_BYTES = ROWS * DIRECT_MANTISSA_BITS // 8


def half_range(depth: int) -> int:
    """Return the largest integer of ``depth`` trits: 1, 4, 13 or 40.

    Raises :class:`ValueError` for a depth outside 1..4.
    """
    is_integer = isinstance(depth, (int, np.integer)) and not isinstance(depth, bool)
    if not is_integer or not 1 <= depth <= MAX_DEPTH:
        raise ValueError(f"depth must be 1..{MAX_DEPTH}, not {depth!r}")
    return (3 ** int(depth) - 1) // 2


def longest_piece(depth: int) -> int:
    """Return the most columns whose sum fits :data:`GROUP_SUM_BITS`: 1008, 240, 64 or 16.

    The magnitude of a sum of G columns is at most ``G * h * 128``.
    """
    most = (1 << GROUP_SUM_BITS - 1) - 1
    return most // (half_range(depth) << ACTIVATION_BITS - 1) // GROUP * GROUP


def check_group(group: int, columns: int) -> None:
    """Raise :class:`ValueError` unless a group of so many columns divides rows of ``columns``.

    The length must be a multiple of 16, up to ``columns`` rounded up to a multiple of 16.
    """
    most = GROUP * group_count(columns)
    is_integer = isinstance(group, (int, np.integer)) and not isinstance(group, bool)
    if not is_integer or not GROUP <= group <= most or group % GROUP:
        raise ValueError(f"group must be a multiple of {GROUP} up to {most} for {columns} columns, "
                         f"not {group!r}")


def piece_columns(depth: int, group: int, columns: int, most: int | None = None) -> int:
    """Return the columns of a *piece*, which a device adds up before it multiplies by a mantissa.

    Pieces have one length, except that the last piece of a row may be shorter. A piece does not
    cross the boundary of two groups: it is the largest multiple of 16 that divides ``group``. If
    the group is the complete row, it is the largest multiple of 16. It is at most
    :func:`longest_piece`, and at most ``most`` columns if given.
    """
    check_group(group, columns)
    limit = longest_piece(depth) if most is None else min(longest_piece(depth), most)
    if group >= columns:
        return min(group, limit // GROUP * GROUP)
    return max(piece for piece in range(GROUP, min(group, limit) + 1, GROUP) if not group % piece)


def information_bits(depth: int, group: int = GROUP) -> float:
    """Return the information content in bits per weight, its share of the scale code included."""
    half_range(depth)
    return math.log2(3) * (depth + SCALE_TRITS / group)


def stored_bits(depth: int, group: int = GROUP) -> float:
    """Return stored bits per weight at five trits per byte, padding and table not included."""
    half_range(depth)
    return 8 / 5 * (group * depth + SCALE_TRITS) / group


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
    return (counts * table_unit(table)).astype(np.float32)


def table_ratio(table: np.ndarray) -> float:
    """Return the ratio of the largest to the smallest entry."""
    check_table(table)
    return float(table.max()) / float(table.min())


def table_unit(table: np.ndarray) -> float:
    """Return the value of 1 in a mantissa of a table: ``max(table) / (2**17 - 1)`` in float64."""
    check_table(table)
    return float(table.max()) / MANTISSA_MAX


def result_scale(table: np.ndarray, depth: int, x_scale: float | np.ndarray) -> float | np.ndarray:
    """Return the factor for row sums: one float64, or one per entry of ``x_scale``.

    ``c = max(table) / (2**17 - 1) / h * x_scale`` in float64, from left to right.
    """
    unit = table_unit(table) / half_range(depth)
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


def group_count(columns: int, group: int = GROUP) -> int:
    """Return the number of groups of a length per row, a shorter last one included."""
    return -(-columns // group)
