"""Some groups of a matrix, by which a scale table is fitted."""

from dataclasses import dataclass

import numpy as np

from tritstream.golden.fixed_point import GROUP, group_count
from tritstream.golden.groups import take_groups
from tritstream.golden.row_chunks import in_threads, row_chunks

__all__ = ["Sample", "take_sample"]

#: Groups that are taken because errors in them weigh most, and of the others.
_HEAVIEST, _OTHERS = 1000, 8000


@dataclass(frozen=True, eq=False)
class Sample:
    """Groups that stand for all.

    Members
    -------
    groups : numpy.ndarray
        float32 (n, 16).
    importance : numpy.ndarray
        float32 (n, 16): what a squared error of each weight counts.
    peak : float
        Largest weighted sum of squares of a group of the matrix; 0 or infinity where float32
        cannot hold it.
    """

    groups:     np.ndarray
    importance: np.ndarray
    peak:       float = 1.0


def take_sample(
    weights: np.ndarray, columns: np.ndarray | None = None, results: np.ndarray | None = None,
    name: str | None = None,
) -> Sample:
    """The groups that weigh most, and evenly of the others, those of zeros left out.

    Parameters
    ----------
    weights : WeightRows
        Weights (N, K) of any float dtype.
    columns : numpy.ndarray, optional
        float32 (Kp,): what a squared error in each column counts.
    results : numpy.ndarray, optional
        float32 (N,): what one in each row counts.
    name : str, optional
        Raise :class:`ValueError` with this name when a value is not finite.
    """
    rows, groups = weights.shape[0], group_count(weights.shape[1])
    columns = np.ones(GROUP * groups, np.float32) if columns is None else columns
    results = np.ones(rows, np.float32) if results is None else results
    columns = columns.reshape(groups, GROUP)
    chunks = list(row_chunks(rows, GROUP * groups))

    def weigh(chunk: slice) -> np.ndarray:
        taken = take_groups(weights, chunk, name).reshape(-1, groups, GROUP)
        return ((taken * taken * columns).sum(axis=2) * results[chunk, None]).ravel()

    with np.errstate(over="ignore", under="ignore"):
        heaviness = np.concatenate(list(in_threads(weigh, chunks)))
        places, shares = _choose(heaviness)
    return Sample(_gather(weights, chunks, places, groups),
                  columns[places % groups] * (results[places // groups] * shares)[:, None],
                  float(heaviness.max()))


def _choose(heaviness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of groups, ascending, and how many each stands for: int64 (n,), float32 (n,)."""
    order = np.argsort(-heaviness, kind="stable")
    order = order[:np.count_nonzero(heaviness)]
    heaviest, others = order[:_HEAVIEST], order[_HEAVIEST:]
    step = max(1, -(-len(others) // _OTHERS))
    places = np.concatenate([heaviest, others[::step]])
    shares = np.ones(len(places), np.float32)
    shares[len(heaviest):] = len(others) / max(1, len(others[::step]))
    ascending = np.argsort(places, kind="stable")
    return places[ascending], shares[ascending]


def _gather(
    weights: np.ndarray, chunks: list[slice], places: np.ndarray, groups: int,
) -> np.ndarray:
    parts = [np.empty((0, GROUP), np.float32)]
    for chunk in chunks:
        first, last = np.searchsorted(places, [chunk.start * groups, chunk.stop * groups])
        if first < last:
            parts.append(take_groups(weights, chunk)[places[first:last] - chunk.start * groups])
    return np.concatenate(parts)
