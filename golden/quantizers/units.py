"""Errors of groups of any length, from kernels that work on units of 16 weights.

A group of G weights has ``G / 16`` units. Its error is the float32 sum of the errors of its units,
in their order.
"""

import numpy as np

from tritstream.golden.fixed_point import GROUP
from tritstream.golden.kernels import Kernels

__all__ = ["grid_errors", "over_units", "own_errors", "per_unit"]

#: Errors that are held at a time.
_VALUES = 1 << 22


def grid_errors(
    groups: np.ndarray, scales: np.ndarray, half: int, importance: np.ndarray | None,
    kernels: Kernels,
) -> np.ndarray:
    """Return the error of each group at every scale: (n, G) and (m,) to float32 (n, m).

    ``importance``, float32 (n, G), is 1 if it is None. See :meth:`.Kernels.grid_errors`.
    """
    units, errors = groups.shape[1] // GROUP, np.empty((len(groups), len(scales)), np.float32)
    step = max(1, _VALUES // (units * len(scales)))
    for first in range(0, len(groups), step):
        part = groups[first:first + step].reshape(-1, GROUP)
        factors = (np.ones_like(part) if importance is None else
                   importance[first:first + step].reshape(-1, GROUP))
        errors[first:first + step] = over_units(
            kernels.grid_errors(part, scales, half, factors), units)
    return errors


def own_errors(groups: np.ndarray, scales: np.ndarray, half: int, kernels: Kernels) -> np.ndarray:
    """Return the error of each group at scales of its own: (n, G) and (n, m) to float32 (n, m)."""
    units = groups.shape[1] // GROUP
    found = kernels.own_errors(groups.reshape(-1, GROUP), per_unit(scales, units), half)
    return over_units(found, units)


def over_units(values: np.ndarray, units: int) -> np.ndarray:
    """Return the sums over the units of each group, in their order: (n * units, ..) to (n, ..)."""
    by_group = values.reshape(-1, units, *values.shape[1:])
    total = by_group[:, 0].copy()
    with np.errstate(over="ignore"):
        for unit in range(1, units):
            total += by_group[:, unit]
    return total


def per_unit(values: np.ndarray, units: int) -> np.ndarray:
    """Return values of groups for each of their units: (n, ..) to (n * units, ..)."""
    return np.repeat(values, units, axis=0)
