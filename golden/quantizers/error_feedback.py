"""Profile ``search`` with calibration: rounding with error feedback.

This is GPTQ (Frantar et al., 2022), with the Fisher information of
:mod:`tritstream.golden.quantizers.moments` in place of the second moments of the inputs. Columns
are rounded from the first to the last. The later columns compensate for the error of each column,
such that the loss is least. The code of a group is the one of 27 with which its sixteen columns,
rounded in this way, have the least loss.
"""

from collections.abc import Iterator

import numpy as np
from threadpoolctl import threadpool_limits

from tritstream.golden.fixed_point import GROUP, group_count, half_range
from tritstream.golden.groups import WeightRows, take_groups
from tritstream.golden.kernels import Kernels, load
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.quantizers.moments import Moment
from tritstream.golden.quantizers.sample import take_sample
from tritstream.golden.quantizers.table_fit import fit_table
from tritstream.golden.row_chunks import run_in_threads

__all__ = ["feed_back"]

#: Damping added to the diagonal, as a share of its mean, so that rare inputs count a little.
_DAMPING = 0.01
#: Least damping, for a matrix whose diagonals have mean one.
_LEAST = 1e-6
#: Rows that are encoded together: enough for a fast matrix product.
_ROWS = 256
#: Columns whose errors are collected before they are subtracted from all later columns.
_SPAN = 128


def feed_back(
    weights: WeightRows, depth: int, moment: Moment, name: str = "matrix", *,
    engine: str | None = "numpy",
) -> TritMatrix:
    """Encode a matrix (N, K) of any float dtype with its calibration statistics.

    All engines return identical bits on machines of one kind. Matrix products use numpy's BLAS, in
    one thread. Raises :class:`ValueError` for weights that are not finite as float32, and for
    statistics or weights so large that errors overflow.
    """
    half, kernels = half_range(depth), load(engine)
    with threadpool_limits(1, "blas"):
        uppers = [(columns, _upper(block, name))
                  for columns, block in _scaled_blocks(moment, name)]
        diagonal = np.concatenate([np.diag(upper) for _, upper in uppers])
        sample = take_sample(weights, diagonal ** -2, moment.results, name)
        table = fit_table(sample, half, kernels)
        rows, groups = weights.shape[0], group_count(weights.shape[1])
        q = np.empty((rows, GROUP * groups), np.int8)
        codes = np.empty((rows, groups), np.uint8)

        def work(chunk: slice) -> None:
            rest = take_groups(weights, chunk).reshape(-1, GROUP * groups)
            for columns, upper in uppers:
                block = slice(columns.start // GROUP, columns.stop // GROUP)
                q[chunk, columns], codes[chunk, block] = _encode(
                    rest[:, columns], upper, table, half, kernels)

        run_in_threads(work, [slice(first, min(rows, first + _ROWS))
                              for first in range(0, rows, _ROWS)])
    q[:, weights.shape[1]:] = 0
    return TritMatrix(int(depth), (rows, weights.shape[1]), q, codes, table)


def _scaled_blocks(moment: Moment, name: str) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the columns of each diagonal block of F, and the block, float64.

    The last block is padded with columns of zeros. All blocks are scaled such that the mean of the
    diagonal is one, which changes no choice.
    """
    with np.errstate(over="ignore"):
        mean = np.mean([np.diag(block).mean() for _, block in moment.blocks()]) or 1.0
    for columns, block in moment.blocks():
        size = GROUP * group_count(len(block))
        padded = np.zeros((size, size))
        with np.errstate(over="ignore"):
            padded[:len(block), :len(block)] = block / mean
        if not (np.isfinite(mean) and np.isfinite(padded).all()):
            raise _no_moments(name)
        yield slice(columns.start, columns.start + size), padded


def _upper(block: np.ndarray, name: str) -> np.ndarray:
    """Return the upper triangular U with ``block^-1 = U^T U`` for the damped block: float32."""
    damped = block.copy()
    damped[np.diag_indices_from(block)] += max(_DAMPING * np.diag(block).mean(), _LEAST)
    try:
        lower = np.linalg.inv(np.linalg.cholesky(damped[::-1, ::-1]))
    except np.linalg.LinAlgError:
        raise _no_moments(name) from None
    return np.ascontiguousarray(lower[::-1, ::-1], np.float32)


def _no_moments(name: str) -> ValueError:
    return ValueError(f"the moments of {name} are of no inputs: calibrate again")


def _encode(
    rest: np.ndarray, upper: np.ndarray, table: np.ndarray, half: int, kernels: Kernels,
) -> tuple[np.ndarray, np.ndarray]:
    """Return integers and codes for the rows (n, b) of one block; ``rest`` is overwritten."""
    q = np.empty(rest.shape, np.int8)
    codes = np.empty((len(rest), rest.shape[1] // GROUP), np.uint8)
    for first in range(0, rest.shape[1], _SPAN):
        last = min(first + _SPAN, rest.shape[1])
        fed_back = np.empty((len(rest), last - first), np.float32)
        for start in range(first, last, GROUP):
            here, behind = slice(start, start + GROUP), slice(start + GROUP, last)
            q[:, here], codes[:, start // GROUP], errors = kernels.feed_back(
                np.ascontiguousarray(rest[:, here]), np.ascontiguousarray(upper[here, here]),
                table, half)
            fed_back[:, start - first:start - first + GROUP] = errors
            rest[:, behind] -= errors @ upper[here, behind]
        rest[:, last:] -= fed_back @ upper[first:last, last:]
    return q, codes
