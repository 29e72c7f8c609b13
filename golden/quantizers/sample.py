"""Samples of the groups of a matrix, to which scale tables are fitted."""

from dataclasses import dataclass

import numpy as np

from tritstream.golden.fixed_point import GROUP, group_count
from tritstream.golden.groups import WeightRows, take_groups
from tritstream.golden.row_chunks import in_threads, row_chunks

__all__ = ["Sample", "take_sample"]

#: Number of groups of 16 taken because they have the largest weighted squares, and of others; and
#: the least numbers of longer groups.
_HEAVIEST, _OTHERS = (1000, 250), (8000, 1000)


@dataclass(frozen=True, eq=False)
class Sample:
    """Sample of groups that represents all groups of a matrix.

    Members
    -------
    groups : numpy.ndarray
        Weights of the groups: float32 (n, G).
    importance : numpy.ndarray
        Factor for the squared error of each weight: float32 (n, G).
    peak : float
        Largest weighted sum of squares of a group of the matrix, or 0 or infinity if it is out of
        the range of float32.
    """

    groups:     np.ndarray
    importance: np.ndarray
    peak:       float = 1.0


def take_sample(
    weights: WeightRows, columns: np.ndarray | None = None, results: np.ndarray | None = None,
    name: str | None = None, group: int = GROUP,
) -> Sample:
    """Take the groups with the largest weighted squares, and other groups at even distances.

    Groups of zeros are left out.

    Parameters
    ----------
    weights : WeightRows
        Weights (N, K) of any float dtype.
    columns : numpy.ndarray, optional
        Factor for squared errors in each column, padded to complete groups: float32 (Kp,); 1 by
        default.
    results : numpy.ndarray, optional
        Factor for squared errors in each row: float32 (N,); 1 by default.
    name : str, optional
        Name of the matrix. If given, a value that is not finite raises :class:`ValueError`.
    group : int
        Weights per group, G: a multiple of 16.
    """
    rows, groups = weights.shape[0], group_count(weights.shape[1], group)
    columns = np.ones(group * groups, np.float32) if columns is None else columns
    results = np.ones(rows, np.float32) if results is None else results
    columns = columns.reshape(groups, group)
    chunks = list(row_chunks(rows, group * groups))

    def weigh(chunk: slice) -> np.ndarray:
        taken = take_groups(weights, chunk, name, group).reshape(-1, groups, group)
        # Each thread has its own error state. Infinity times zero counts as zero.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            weighed = (taken * taken * columns).sum(axis=2) * results[chunk, None]
        return np.fmax(weighed, np.float32(0)).ravel()

    heaviness = np.concatenate(list(in_threads(weigh, chunks)))
    indices, shares = _choose(heaviness, group)
    return Sample(_gather(weights, chunks, indices, group),
                  columns[indices % groups] * (results[indices // groups] * shares)[:, None],
                  float(heaviness.max()))


def _choose(heaviness: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indices of groups, ascending, and how many groups each represents: (n,) each."""
    order = _descending(heaviness)[:np.count_nonzero(heaviness)]
    count, wanted = (max(most * GROUP // group, least) for most, least in (_HEAVIEST, _OTHERS))
    heaviest, others = order[:count], order[count:]
    step = max(1, -(-len(others) // wanted))
    indices = np.concatenate([heaviest, others[::step]])
    shares = np.ones(len(indices), np.float32)
    shares[len(heaviest):] = len(others) / max(1, len(others[::step]))
    ascending = np.argsort(indices, kind="stable")
    return indices[ascending], shares[ascending]


def _descending(heaviness: np.ndarray) -> np.ndarray:
    """Return the indices of numbers, float32 (n,), from the largest to the smallest.

    Equal numbers stay in their order. Numbers must not be negative. To sort integers that hold a
    number and its index takes half the time of a stable sort.
    """
    keys = np.iinfo(np.uint32).max - heaviness.view(np.uint32).astype(np.uint64)
    keys = keys << np.uint64(32) | np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(np.iinfo(np.uint32).max)).astype(np.intp)


def _gather(
    weights: WeightRows, chunks: list[slice], indices: np.ndarray, group: int,
) -> np.ndarray:
    """Return the groups with these indices, ascending: float32 (n, G)."""
    groups = group_count(weights.shape[1], group)
    gathered = [np.empty((0, group), np.float32)]
    for chunk in chunks:
        start = chunk.start * groups
        first, last = np.searchsorted(indices, [start, chunk.stop * groups])
        if first < last:
            gathered.append(take_groups(weights, chunk, group=group)[indices[first:last] - start])
    return np.concatenate(gathered)
