"""Profile ``search`` with calibration: rounding with error feedback.

This is GPTQ (Frantar et al., 2022) in the form of LDLQ (Chee et al., 2023), with the Fisher
information F of :mod:`tritstream.golden.quantizers.moments` in place of the second moments of the
inputs. Let ``F = (I + N) C (I + N)^T`` with a diagonal matrix C and a strictly upper triangular
matrix N. The loss of a row of errors e is then the sum over columns k of ``c_k t_k^2``, where ``t_k
= e_k + sum over i < k of N_ik e_i``. Columns are rounded from the first to the last, each after the
errors of the columns before it were added to it. The code of a group is the one of 27 with which
its columns, rounded in this way, have the least loss.
"""

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from tritstream.golden.fixed_point import GROUP, group_count, half_range
from tritstream.golden.groups import WeightRows, take_groups
from tritstream.golden.kernels import Kernels, load
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.quantizers.moments import Moment
from tritstream.golden.quantizers.sample import take_sample
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
    """Factors of a diagonal block of F.

    Members
    -------
    columns : slice
        Columns of the block, padded to complete groups.
    feedback : numpy.ndarray
        N: float32 (b, b).
    importance : numpy.ndarray
        Diagonal of C: float32 (b,).
    """

    columns:    slice
    feedback:   np.ndarray
    importance: np.ndarray


def feed_back(
    weights: WeightRows, depth: int, moment: Moment, name: str = "matrix", *,
    group: int = GROUP, engine: str | None = "numpy",
) -> TritMatrix:
    """Encode a matrix (N, K) of any float dtype with its calibration statistics.

    ``group`` is one of :data:`GROUPS`. All engines return identical bits on machines of one kind.
    Matrix products use numpy's BLAS, in one thread. Raises :class:`ValueError` for weights that
    are not finite as float32, and for statistics that are not those of inputs.
    """
    half, kernels = half_range(depth), load(engine)
    with threadpool_limits(1, "blas"):
        factors = _factors(moment, group, name)
        importance = np.concatenate([block.importance for block in factors])
        sample = take_sample(weights, importance, moment.results, name, group)
        table = fit_table(sample, half, kernels)
        rows, groups = weights.shape[0], group_count(weights.shape[1], group)
        q = np.empty((rows, GROUP * group_count(weights.shape[1])), np.int8)
        codes = np.empty((rows, groups), np.uint8)

        def work(chunk: slice) -> None:
            columns = take_groups(weights, chunk, group=group).reshape(-1, group * groups).T.copy()
            levels = np.empty(columns.shape, np.int8)
            for block in factors:
                here = slice(block.columns.start // group, block.columns.stop // group)
                codes[chunk, here] = _encode(columns[block.columns], block, table, half, group,
                                             kernels, levels[block.columns]).T
            q[chunk] = levels[:q.shape[1]].T

        run_in_threads(work, [slice(first, min(rows, first + _ROWS))
                              for first in range(0, rows, _ROWS)])
    q[:, weights.shape[1]:] = 0
    return TritMatrix(int(depth), (rows, weights.shape[1]), q, codes, table, group=group)


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
        return _Factors(slice(columns.start, columns.start + size), *_factorized(padded, name))

    return list(in_threads(factorize, moment.blocks()))


def _factorized(block: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return N and the diagonal of C for a block of F (b, b), float64, which is damped first."""
    diagonal = np.diag_indices_from(block)
    block[diagonal] += max(_DAMPING * np.diag(block).mean(), _LEAST)
    try:
        root = np.linalg.cholesky(block[::-1, ::-1])[::-1, ::-1]
    except np.linalg.LinAlgError:
        raise _no_moments(name) from None
    pivots = np.diag(root).copy()
    feedback = np.divide(root, pivots, dtype=np.float32, casting="same_kind")
    feedback[diagonal] = 0
    return feedback, (pivots ** 2).astype(np.float32)


def _no_moments(name: str) -> ValueError:
    return ValueError(f"the moments of {name} are of no inputs: calibrate again")


def _encode(
    weights: np.ndarray, factors: _Factors, table: np.ndarray, half: int, group: int,
    kernels: Kernels, levels: np.ndarray,
) -> np.ndarray:
    """Write integers (b, n) of the columns (b, n) of one block; return codes (b / group, n)."""
    errors = np.empty_like(weights)
    codes = np.empty((len(weights) // group, weights.shape[1]), np.uint8)
    feedback = factors.feedback
    for first in range(0, len(weights), _SPAN):
        last = min(first + _SPAN, len(weights))
        targets = weights[first:last] + feedback[:first, first:last].T @ errors[:first]
        for start in range(first, last, group):
            here, inside = slice(start, start + group), slice(start - first, start - first + group)
            targets[inside] += feedback[first:start, here].T @ errors[first:start]
            levels[here], codes[start // group], errors[here] = kernels.feed_back(
                weights[here], targets[inside], np.ascontiguousarray(feedback[here, here]),
                factors.importance[here], table, half)
    return codes
