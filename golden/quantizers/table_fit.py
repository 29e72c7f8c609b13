"""The 27 scales that cost a sample of groups least: Lloyd's algorithm over a grid of scales.

An entry of the table is one of many scales evenly spaced in logarithm; the error of every group at
each of them is computed once. Then, in turn, each group takes the entry of its least error, and
each entry moves to the scale that costs its groups least: no step makes the whole worse.

A device holds a scale as a 17-bit multiple of the largest one. Where the groups need scales that
are too different for that to be accurate, the grid has such multiples only. So the file holds the
scales that a device computes with, and a group that would be multiplied by 0 takes a larger scale
and smaller integers.
"""

import numpy as np

from tritstream.golden.fixed_point import MANTISSA_MAX, SCALES, TABLE_RATIO_WARNING, device_table
from tritstream.golden.kernels import Kernels
from tritstream.golden.quantizers.sample import Sample

__all__ = ["fit_table", "fit_tables"]

#: Scales of the grid; of one of multiples that a device holds.
_GRID, _WIDE_GRID = 192, 512
#: The grid goes from this share of a small group's largest weight to the largest of all.
_LOW, _SMALL = 0.5, 0.001
#: Lloyd's algorithm ends with a step that gains less than this share, or after so many.
_GAIN, _STEPS = 1e-4, 30
#: A table gives small groups up when it makes the median relative error so many times the least.
_GIVEN_UP = 10


def fit_table(sample: Sample, half: int, kernels: Kernels) -> np.ndarray:
    """Scale table of the least squared error for a sample: float32 (27,), ascending.

    All entries are 1 when the sample is empty.
    """
    return fit_tables(sample, half, kernels)[-1]


def fit_tables(sample: Sample, half: int, kernels: Kernels) -> list[np.ndarray]:
    """Scale tables for a sample, the preferred one first, the one of :func:`fit_table` last.

    There is a second table where the least squared error gives up most groups, because others are
    far larger. It makes the sum of relative errors of the groups small instead.
    """
    if not len(sample.groups):
        return [np.ones(SCALES, np.float32)]
    grid = _grid(np.abs(sample.groups).max(axis=1))
    errors = kernels.grid_errors(sample.groups, grid, half, sample.importance)
    tables = [best := _best(errors)]
    with np.errstate(over="ignore", under="ignore"):
        squares = (sample.groups ** 2 * sample.importance).sum(axis=1)
    if _gives_up(errors, squares, best):
        tables.insert(0, _best(errors[squares > 0] / squares[squares > 0, None]))
    return [_exact(grid[np.sort(places)]) for places in tables]


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
    """The table, where its scales are very different with those that a device computes with."""
    wide = table[-1] > TABLE_RATIO_WARNING * table[0]
    return device_table(table, least=1) if wide else table


def _gives_up(errors: np.ndarray, squares: np.ndarray, places: np.ndarray) -> bool:
    """Whether the median relative error of a table is much larger than that of the grid."""
    held = squares > 0
    if not held.any():
        return False
    least, found = (np.median(one.min(axis=1)[held] / squares[held])
                    for one in (errors, errors[:, places]))
    return bool(found > _GIVEN_UP * least)


def _best(errors: np.ndarray) -> np.ndarray:
    """Places on the grid (27,) of the least cost."""
    found = [_lloyd(errors, places) for places in _beginnings(errors)]
    return min(found, key=lambda one: one[0])[1]


def _beginnings(errors: np.ndarray) -> list[np.ndarray]:
    """Places on the grid to begin with: spread evenly, and one by one where each gains most."""
    best = np.sort(errors.argmin(axis=1))
    spread = np.linspace(best[len(best) // 1000], best[-1], SCALES).round().astype(np.intp)
    least, chosen = np.full(len(errors), np.inf, np.float32), []
    for _ in range(SCALES):
        costs = np.minimum(errors, least[:, None]).sum(axis=0, dtype=np.float64)
        chosen.append(costs.argmin())
        least = np.minimum(least, errors[:, chosen[-1]])
    return [spread, np.array(chosen)]


def _lloyd(errors: np.ndarray, places: np.ndarray) -> tuple[float, np.ndarray]:
    """Least cost, and places on the grid (27,)."""
    least, kept = np.inf, places
    for _ in range(_STEPS):
        choice = errors[:, places]
        entries = choice.argmin(axis=1)
        cost = float(choice[np.arange(len(entries)), entries].sum(dtype=np.float64))
        if cost >= least * (1 - _GAIN):
            break
        least, kept = cost, places
        places = _moved(errors, entries, places)
    return least, kept


def _moved(errors: np.ndarray, entries: np.ndarray, places: np.ndarray) -> np.ndarray:
    """For each entry the place that costs its groups least; one without groups stays."""
    order = np.argsort(entries, kind="stable")
    used, firsts = np.unique(entries[order], return_index=True)
    costs = np.add.reduceat(errors[order], firsts, axis=0, dtype=np.float64)
    moved = places.copy()
    moved[used] = costs.argmin(axis=1)
    return moved
