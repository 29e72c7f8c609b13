"""Method ``search`` for groups of any length, with coded or direct scales."""

import numpy as np

from tritstream.golden.fixed_point import GROUP, group_count, half_range
from tritstream.golden.groups import WeightRows, take_groups
from tritstream.golden.kernels import load
from tritstream.golden.matrix import DirectMatrix, Encoded, TritMatrix
from tritstream.golden.quantizers.direct import search_direct
from tritstream.golden.quantizers.grouping import Grouping
from tritstream.golden.quantizers.search import in_range, search, unshifted
from tritstream.golden.quantizers.table_fit import fit_tables
from tritstream.golden.quantizers.units import grid_errors, per_unit
from tritstream.golden.row_chunks import row_chunks, run_in_threads
from tritstream.golden.scales import DIRECT

__all__ = ["search_coded", "search_groups"]


def search_groups(
    weights: WeightRows, depth: int, name: str = "matrix", *, grouping: Grouping,
    engine: str | None = "numpy",
) -> Encoded | DirectMatrix:
    """Encode a matrix (N, K) of any float dtype in groups with scales as ``grouping`` says.

    Raises the errors of :func:`.search` and of :func:`.search_direct`.
    """
    half_range(depth)
    if len(weights.shape) != 2 or 0 in weights.shape:
        raise ValueError(f"{name} must be a matrix with rows and columns, not {weights.shape}")
    group = grouping.length(weights.shape[1])
    if grouping.scales == DIRECT:
        return search_direct(weights, depth, group, name, engine=engine)
    if group == GROUP:
        return search(weights, depth, name, engine=engine)
    return search_coded(weights, depth, group, name, engine=engine)


def search_coded(
    weights: WeightRows, depth: int, group: int, name: str = "matrix", *,
    engine: str | None = "numpy",
) -> TritMatrix:
    """Encode a matrix (N, K) of any float dtype with the best of 27 scales per ``group`` weights.

    The table is that of :func:`.search`, fitted to longer groups. Raises :class:`ValueError` for
    weights that are not finite.
    """
    half, kernels = half_range(depth), load(engine)
    rows, columns = weights.shape
    groups, width = group_count(columns, group), GROUP * group_count(columns)
    shifted, shift, sample = in_range(weights, name, group)
    fitted = fit_tables(sample, half, kernels)[0]
    table = unshifted(fitted, shift)
    q, codes = np.empty((rows, width), np.int8), np.empty((rows, groups), np.uint8)

    def work(chunk: slice) -> None:
        taken = take_groups(shifted, chunk, group=group)
        best = grid_errors(taken, fitted, half, None, kernels).argmin(axis=1)
        codes[chunk] = best.reshape(-1, groups)
        scales = per_unit(table[best], group // GROUP)
        own = take_groups(weights, chunk, group=group)
        levels = kernels.find_levels(own.reshape(-1, GROUP), scales, half)
        q[chunk] = levels.reshape(-1, group * groups)[:, :width]

    run_in_threads(work, row_chunks(rows, group * groups, times=kernels.CHUNK))
    return TritMatrix(int(depth), (rows, columns), q, codes, table, group=group)
