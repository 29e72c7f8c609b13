"""Scale tables with the least error for a sample of groups: Lloyd's algorithm on a grid of scales.

Each entry of the table is one of the scales of a grid, which is uniform in log scale. The error of
every group at each scale of the grid is computed once. Then two steps alternate: each group takes
the entry with its least error, and each entry moves to the scale with the least error for its
groups. No step increases the total error.

A device holds a scale as a 17-bit multiple of the largest scale. If the groups need scales that
differ too much for that precision, the grid has only such multiples. The file then holds the scales
that a device computes with, and a group whose scale would become 0 takes a larger scale and smaller
integers.
"""

import numpy as np

from tritstream.golden.fixed_point import MANTISSA_MAX, SCALES, TABLE_RATIO_WARNING, device_table
from tritstream.golden.kernels import Kernels
from tritstream.golden.quantizers.sample import Sample
from tritstream.golden.quantizers.units import grid_errors

__all__ = ["fit_table", "fit_tables"]

#: Number of scales in the grid, and in a grid of multiples that a device holds.
_GRID, _WIDE_GRID = 192, 512
#: The grid starts at _LOW times the _SMALL quantile of the groups' largest weights, and ends at the
#: largest weight.
_LOW, _SMALL = 0.5, 0.001
#: Lloyd's algorithm ends when a step gains less than this share, or after this number of steps.
_GAIN, _STEPS = 1e-4, 30
#: A table gives up small groups if its median relative error is this multiple of the grid's.
_GIVEN_UP = 10


def fit_table(sample: Sample, half: int, kernels: Kernels) -> np.ndarray:
    """Return the scale table with the least squared error: float32 (27,), ascending.

    All entries are 1 when the sample is empty.
    """
    return fit_tables(sample, half, kernels)[-1]


def fit_tables(sample: Sample, half: int, kernels: Kernels) -> list[np.ndarray]:
    """Return one or two scale tables, the preferred table first, that of :func:`fit_table` last.

    There is a second table if the least squared error gives up most groups, because a few groups
    are far larger. The second table minimizes the sum of the groups' relative errors instead.
    """
    if not len(sample.groups):
        return [np.ones(SCALES, np.float32)]
    grid = _grid(np.abs(sample.groups).max(axis=1))
    errors = grid_errors(sample.groups, grid, half, sample.importance, kernels)
    tables = [best := _best(errors)]
    with np.errstate(over="ignore", under="ignore"):
        squares = (sample.groups ** 2 * sample.importance).sum(axis=1)
    if _gives_up(errors, squares, best):
        tables.insert(0, _best(errors[squares > 0] / squares[squares > 0, None]))
    return [_exact(grid[np.sort(indices)]) for indices in tables]


def _grid(largest: np.ndarray) -> np.ndarray:
    low, high = _LOW * float(np.quantile(largest, _SMALL)), float(largest.max())
    tiny = float(np.finfo(np.float32).tiny)
    low, high = max(low, tiny), max(high, tiny)
    if high / low <= TABLE_RATIO_WARNING:
        return np.geomspace(low, high, _GRID).astype(np.float32)
    least = max(low, high / MANTISSA_MAX)
    steps = np.rint(np.geomspace(least, high, _WIDE_GRID) / (high / MANTISSA_MAX))
    return (np.unique(steps) * (high / MANTISSA_MAX)).astype(np.float32)


def _exact(table: np.ndarray) -> np.ndarray:
    """Return the table, replaced by the scales of a device if its scales differ too much."""
    wide = table[-1] > TABLE_RATIO_WARNING * table[0]
    return device_table(table, least=1) if wide else table


def _gives_up(errors: np.ndarray, squares: np.ndarray, indices: np.ndarray) -> bool:
    """Return whether a table's median relative error is much larger than that of the grid."""
    held = squares > 0
    if not held.any():
        return False
    least, actual = (np.median(some.min(axis=1)[held] / squares[held])
                     for some in (errors, errors[:, indices]))
    return bool(actual > _GIVEN_UP * least)


def _best(errors: np.ndarray) -> np.ndarray:
    """Return the indices in the grid (27,) with the least cost."""
    tables = [_lloyd(errors, indices) for indices in _initial_tables(errors)]
    return min(tables, key=lambda table: table[0])[1]


def _initial_tables(errors: np.ndarray) -> list[np.ndarray]:
    """Return two initial choices of indices: evenly spread, and greedy by the largest gain."""
    best = np.sort(errors.argmin(axis=1))
    spread = np.linspace(best[len(best) // 1000], best[-1], SCALES).round().astype(np.intp)
    least = np.full(len(errors), np.inf, np.float32)
    chosen: list[np.intp] = []
    for _ in range(SCALES):
        costs = np.minimum(errors, least[:, None]).sum(axis=0, dtype=np.float64)
        chosen.append(costs.argmin())
        least = np.minimum(least, errors[:, chosen[-1]])
    return [spread, np.array(chosen)]


def _lloyd(errors: np.ndarray, indices: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the least cost, and its indices in the grid (27,)."""
    least, kept = np.inf, indices
    for _ in range(_STEPS):
        choice = errors[:, indices]
        entries = choice.argmin(axis=1)
        cost = float(choice[np.arange(len(entries)), entries].sum(dtype=np.float64))
        if cost >= least * (1 - _GAIN):
            break
        least, kept = cost, indices
        indices = _moved(errors, entries, indices)
    return least, kept


def _moved(errors: np.ndarray, entries: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return, per entry, the index with the least cost for its groups. Unused entries stay."""
    order = np.argsort(entries, kind="stable")
    used, firsts = np.unique(entries[order], return_index=True)
    costs = np.add.reduceat(errors[order], firsts, axis=0, dtype=np.float64)
    moved = indices.copy()
    moved[used] = costs.argmin(axis=1)
    return moved
