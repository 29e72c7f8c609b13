"""Warnings about a packed matrix, each with advice."""

import numpy as np

from tritstream.golden.fixed_point import (
    DIRECT_MANTISSA_BITS,
    SCALES,
    TABLE_RATIO_WARNING,
    device_table,
    mantissas,
    table_ratio,
)
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.packed.counts import code_counts
from tritstream.golden.packed.group_errors import GroupErrors
from tritstream.golden.packed.metadata import RECOVERED
from tritstream.golden.quantize import CODEC
from tritstream.golden.quantizers.search import SEARCH
from tritstream.golden.row_chunks import row_chunks
from tritstream.golden.scales import DirectScales

__all__ = ["error_warnings", "exactness_warnings", "range_warnings", "scale_warnings",
           "table_warnings"]

#: Limit of the median relative error of groups, by depth: ten times the error of normally
#: distributed weights, except three times at d = 1.
_GROUP_ERROR = {1: 0.5, 2: 0.2, 3: 0.02, 4: 0.004}
#: Largest share of groups that may become zero without a warning.
_VANISHED = 0.01
#: Relative error of a scale on a device above the rounding of float32. The method search chooses
#: scales that a device represents exactly.
_INACCURATE = 1e-4
#: Largest value of float16, and largest value that float16 rounds to 0.
_HALF_MOST, _HALF_LEAST = 65504.0, 2.0 ** -25

#: Advice by codec, with a placeholder for the module name.
_CURES = {
    CODEC: "`tritstream quantize --method search` fits the scales to the matrix",
    SEARCH: "`tritstream quantize --exclude {name}` leaves the matrix unquantized",
    RECOVERED: "`--backend reference` computes with the stored values",
}


def scale_warnings(
    name: str, table: np.ndarray, codes: np.ndarray, codec: str | None = None,
) -> list[str]:
    """Return warnings about scales that a device represents inaccurately or as zero.

    ``codes`` is the number of groups per code, groups of zeros not counted: int64 (27,).
    """
    found, lost = [], (mantissas(table) == 0) & (codes > 0)
    ratio = table_ratio(table)
    inaccurate = np.abs(device_table(table) / table - 1).max() > _INACCURATE
    if ratio > TABLE_RATIO_WARNING and inaccurate:
        found.append(f"scales span a ratio of {ratio:.3g}, above "
                     f"{TABLE_RATIO_WARNING}; integer products lose precision")
    if lost.any():
        share = codes[lost].sum() / codes.sum()
        found.append(f"scale codes {np.flatnonzero(lost).tolist()} are used but have mantissa 0; "
                     f"their groups, {_percent(share)} of all that are not zero, count as zero in "
                     "integer products")
    return [line + _cure(name, codec) for line in found]


def error_warnings(
    name: str, groups: GroupErrors, depth: int, codec: str | None = None,
) -> list[str]:
    """Return warnings about groups with large errors, which the matrix error may hide."""
    found = []
    if groups.median > _GROUP_ERROR[depth]:
        found.append(f"half of the groups have a relative squared error above "
                     f"{groups.median:.2g}, which the error of the matrix may hide")
    if groups.vanished > _VANISHED * groups.groups:
        found.append(f"{_percent(groups.vanished / groups.groups)} of the groups become zero, "
                     "because others are far larger")
    return [line + _cure(name, codec) for line in found]


def range_warnings(
    table: np.ndarray, codes: np.ndarray, codec: str | None = None,
) -> list[str]:
    """Return warnings about weights out of float16's range, unless the matrix was imported."""
    used = table[codes > 0]
    if codec == RECOVERED or not used.size:
        return []
    if used.max() > _HALF_MOST:
        return [f"scales up to {used.max():.3g} overflow float16 (65504), so `tritstream export` "
                "needs another --dtype, such as float32; a device computes with it"]
    if used.max() <= _HALF_LEAST:
        kind = "denormal in float32" if used.max() < np.finfo(np.float32).tiny else "tiny"
        return [f"no weight exceeds {used.max():.3g}, so all are {kind} and vanish in float16, "
                "so `tritstream export` needs another --dtype, such as float32; check the source"]
    return []


def table_warnings(name: str, matrix: TritMatrix, codec: str | None = None) -> tuple[str, ...]:
    """Return warnings about scales that the 17-bit mantissas of a device represent inaccurately.

    Weights out of float16's range are included.
    """
    codes = np.zeros(SCALES, np.int64)
    for chunk in row_chunks(*matrix.q.shape):
        codes += code_counts(*matrix.take_rows(chunk), matrix.group)
    return (*scale_warnings(name, matrix.table, codes, codec),
            *range_warnings(matrix.table, codes, codec))


def exactness_warnings(scales: DirectScales) -> list[str]:
    """Return a warning if a device does not hold all direct scales exactly."""
    found = scales.exactness
    if not found.groups:
        return []
    return [f"{found.groups} scales in {found.rows} of {scales.rows} rows are not exact in the "
            f"{DIRECT_MANTISSA_BITS}-bit mantissas of a device, by {found.error:.2g} of a scale at "
            "most; `--backend reference` computes with the stored values"]


def _percent(share: float) -> str:
    """Return a share in percent with 1 digit, not rounded to 0 or 100."""
    return f"{min(max(share, 1e-3), 0.999) if 0 < share < 1 else share:.1%}"


def _cure(name: str, codec: str | None) -> str:
    return f"; {_CURES[codec].format(name=name)}" if codec in _CURES else ""
