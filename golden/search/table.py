"""The 27 scales that cost a sample of groups least: Lloyd's algorithm over a grid of scales.

An entry of the table is one of many scales evenly spaced in logarithm; the error of every group at
each of them is computed once. Then, in turn, each group takes the entry of its least error, and
each entry moves to the scale that costs its groups least: no step makes the whole worse.
"""

import numpy as np

from golden.fixed import SCALES
from golden.kernels import Kernels
from golden.search.sample import Sample

__all__ = ["fit_table"]

#: Scales of the grid.
_GRID = 192
#: The grid goes from this share of a small group's largest weight to the largest of all.
_LOW, _SMALL = 0.5, 0.001
#: Lloyd's algorithm ends with a step that gains less than this share, or after so many.
_GAIN, _STEPS = 1e-4, 30


def fit_table(sample: Sample, half: int, kernels: Kernels) -> np.ndarray:
    """Scale table for a sample: float32 (27,), ascending; ones when the sample is empty."""
    if not len(sample.groups):
        return np.ones(SCALES, np.float32)
    grid = _grid(np.abs(sample.groups).max(axis=1))
    errors = kernels.grid_errors(sample.groups, grid, half, sample.importance)
    found = [_lloyd(errors, places) for places in _beginnings(errors)]
    _, places = min(found, key=lambda one: one[0])
    return grid[np.sort(places)]


def _grid(largest: np.ndarray) -> np.ndarray:
    low, high = _LOW * float(np.quantile(largest, _SMALL)), float(largest.max())
    tiny = float(np.finfo(np.float32).tiny)
    return np.geomspace(max(low, tiny), max(high, tiny), _GRID).astype(np.float32)


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
