"""Profile ``search`` with calibration: rounding with error feedback.

This is GPTQ (Frantar et al., 2022) in the form of LDLQ (Chee et al., 2023), with the Fisher
information F of :mod:`tritstream.golden.quantizers.moments` in place of the second moments of the
inputs. Let ``F = (I + N) C (I + N)^T`` with a diagonal matrix C and a strictly upper triangular
matrix N. The loss of a row of errors e is then the sum over columns k of ``c_k t_k^2``, where ``t_k
= e_k + sum over i < k of N_ik e_i``. Columns are rounded one after the other. The errors of the
columns before it are added to a column before it is rounded. The code of a group is the one of 27
with which its columns, rounded in this way, have the least loss.

The groups with the largest diagonal elements of F come first, because the later columns compensate
for their errors. The columns of a group are ordered in the same way.
"""

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from tritstream.golden.fixed_point import GROUP, group_count, half_range
from tritstream.golden.groups import WeightRows, take_groups
from tritstream.golden.kernels import Kernels, load
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.quantizers.moments import Moment
from tritstream.golden.quantizers.search import in_range, unshifted
from tritstream.golden.quantizers.table_fit import fit_table
from tritstream.golden.row_chunks import in_threads, run_in_threads

__all__ = ["GROUPS", "feed_back"]

#: Group lengths: those that divide a span.
GROUPS = (16, 32, 64, 128)

#: Damping added to the diagonal, as a share of its mean, so that rare inputs count a little.
_DAMPING = 0.01
#: Least damping, for a matrix whose diagonals have mean one.
_LEAST = 1e-6
#: Rows that are encoded together: enough for a fast matrix product.
_ROWS = 256
#: Columns whose sums of earlier errors are computed together.
_SPAN = 128


@dataclass(frozen=True, eq=False)
class _Factors:
    """Factors of a diagonal block of F, whose b columns are padded to complete groups.

    Members
    -------
    order : numpy.ndarray
        Indices of the columns in the matrix, in the order of rounding: int (b,).
    feedback : numpy.ndarray
        N, in the order of rounding: float32 (b, b).
    importance : numpy.ndarray
        Diagonal of C, in the order of rounding: float32 (b,).
    """

    order:      np.ndarray
    feedback:   np.ndarray
    importance: np.ndarray


def feed_back(
    weights: WeightRows, depth: int, moment: Moment, name: str = "matrix", *,
    group: int = GROUP, engine: str | None = "numpy",
) -> TritMatrix:
    """Encode a matrix (N, K) of any float dtype with its calibration statistics.

    ``group`` is one of :data:`GROUPS`, or all columns of a narrower matrix. All engines return
    identical bits on machines of one kind. Matrix products use numpy's BLAS, in one thread. Raises
    :class:`ValueError` for weights that are not finite as float32, and for statistics that no
    inputs have.
    """
    half, kernels = half_range(depth), load(engine)
    rows, columns = weights.shape
    groups, width = group_count(columns, group), GROUP * group_count(columns)
    q, codes = np.empty((rows, width), np.int8), np.empty((rows, groups), np.uint8)
    with threadpool_limits(1, "blas"):
        factors = _factors(moment, group, name)
        importance = np.empty(group * groups, np.float32)
        for block in factors:
            importance[block.order] = block.importance
        shifted, shift, sample = in_range(weights, name, group, importance, moment.results)
        table = fit_table(sample, half, kernels)

        def work(chunk: slice) -> None:
            taken = take_groups(shifted, chunk, group=group).reshape(-1, group * groups).T.copy()
            levels = np.empty(taken.shape, np.int8)
            for block in factors:
                levels[block.order], found = _encode(
                    taken[block.order], block, table, half, group, kernels)
                codes[chunk, block.order[::group] // group] = found.T
            q[chunk] = levels[:width].T

        run_in_threads(work, [slice(first, min(rows, first + _ROWS))
                              for first in range(0, rows, _ROWS)])
    q[:, columns:] = 0
    return TritMatrix(int(depth), (rows, columns), q, codes, unshifted(table, shift), group=group)


def _factors(moment: Moment, group: int, name: str) -> list[_Factors]:
    """Return the factors of each diagonal block of F.

    All blocks are scaled such that the mean of the diagonal is one, which changes no choice.
    """
    with np.errstate(over="ignore"):
        mean = np.mean([np.diag(block).mean() for _, block in moment.blocks()]) or 1.0

    def factorize(part: tuple[slice, np.ndarray]) -> _Factors:
        columns, block = part
        size = group * group_count(len(block), group)
        padded = np.zeros((size, size))
        with np.errstate(over="ignore"):
            padded[:len(block), :len(block)] = block / mean
        if not (np.isfinite(mean) and np.isfinite(padded).all()):
            raise _no_moments(name)
        order = _order(np.diag(padded), group)
        padded.flat[::size + 1] += max(_DAMPING * np.diag(block).mean() / mean, _LEAST)
        return _Factors(columns.start + order, *_factorized(padded[np.ix_(order, order)], name))

    return list(in_threads(factorize, moment.blocks()))


def _order(diagonal: np.ndarray, group: int) -> np.ndarray:
    """Return the order in which columns are rounded. Each group stays in one piece."""
    by_group = diagonal.reshape(-1, group)
    inside = np.argsort(-by_group, axis=1, kind="stable")
    first = np.argsort(-by_group.sum(axis=1), kind="stable")
    return (group * first[:, None] + inside[first]).ravel()


def _factorized(block: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return N and the diagonal of C for a damped block of F (b, b), float64."""
    try:
        root = np.linalg.cholesky(block[::-1, ::-1])[::-1, ::-1]
    except np.linalg.LinAlgError:
        raise _no_moments(name) from None
    pivots = np.diag(root)
    feedback = np.divide(root, pivots, dtype=np.float32, casting="same_kind")
    np.fill_diagonal(feedback, 0)
    return feedback, (pivots ** 2).astype(np.float32)


def _no_moments(name: str) -> ValueError:
    return ValueError(f"the moments of {name} are of no inputs: calibrate again")


def _encode(
    weights: np.ndarray, factors: _Factors, table: np.ndarray, half: int, group: int,
    kernels: Kernels,
) -> tuple[np.ndarray, np.ndarray]:
    """Return integers (b, n) and codes (b / group, n) for the columns (b, n) of one block."""
    q, errors = np.empty(weights.shape, np.int8), np.empty_like(weights)
    codes = np.empty((len(weights) // group, weights.shape[1]), np.uint8)
    feedback = factors.feedback
    for first in range(0, len(weights), _SPAN):
        last = min(first + _SPAN, len(weights))
        targets = weights[first:last] + feedback[:first, first:last].T @ errors[:first]
        for start in range(first, last, group):
            here, inside = slice(start, start + group), slice(start - first, start - first + group)
            targets[inside] += feedback[first:start, here].T @ errors[first:start]
            q[here], codes[start // group], errors[here] = kernels.feed_back(
                weights[here], targets[inside], np.ascontiguousarray(feedback[here, here]),
                factors.importance[here], table, half)
    return q, codes
