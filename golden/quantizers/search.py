"""Profile ``search``: the best of the 27 codes per group, and a table fitted to the matrix."""

from dataclasses import dataclass

import numpy as np

from tritstream.golden.fixed_point import (
    GROUP,
    TABLE_RATIO_WARNING,
    group_count,
    half_range,
    table_ratio,
)
from tritstream.golden.groups import ShiftedRows, WeightRows, take_groups
from tritstream.golden.kernels import Kernels, load
from tritstream.golden.matrix import Encoded, code_values
from tritstream.golden.quantize import Rounded, choose_scales, device_values
from tritstream.golden.quantizers.sample import Sample, take_sample
from tritstream.golden.quantizers.table_fit import fit_tables
from tritstream.golden.row_chunks import in_threads, row_chunks, run_in_threads

__all__ = ["SEARCH", "Coded", "in_range", "search", "unshifted"]

#: Name of the profile in packed checkpoints.
SEARCH = "search"

#: Range of squared weights in which float32 represents their errors accurately.
_LOW, _HIGH = 2.0 ** -60, 2.0 ** 80


@dataclass(frozen=True, eq=False)
class Coded(Rounded):
    """Matrix with chosen codes, uint8 (N, Kp/16)."""

    codes: np.ndarray

    def take_scales(self, chunk: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return scales of the codes, and the codes: see :meth:`.Rounded.take_scales`."""
        return self.table.take(self.codes[chunk]), self.codes[chunk]


def search(
    weights: WeightRows, depth: int, name: str = "matrix", *, engine: str | None = "numpy",
) -> Encoded:
    """Encode a matrix (N, K) of any float dtype. A reader never has all its rows in memory.

    The squared error is never larger than that of ``tritllm-v2``, because the codes of
    ``tritllm-v2`` are kept in the rare case that no better codes are found. If the scales of one
    of the two differ so much that a device represents them inaccurately, two errors are computed,
    for the weights in the file and for the weights that the device uses. The larger one counts.

    Raises the errors of :func:`tritstream.golden.quantize.choose_scales`.
    """
    usual, kernels = choose_scales(weights, depth, name, engine=engine), load(engine)
    limit = _squared_error(usual, weights, kernels)
    shifted, shift, sample = in_range(weights)
    for table in fit_tables(sample, half_range(depth), kernels):
        codes = _best_codes(shifted, table, depth, kernels)
        coded = Coded(weights, int(depth), unshifted(table, shift), kernels, codes)
        if _squared_error(coded, weights, kernels) < limit:
            return coded
    return usual


def in_range(
    weights: WeightRows, name: str | None = None, group: int = GROUP,
    columns: np.ndarray | None = None, results: np.ndarray | None = None,
) -> tuple[WeightRows, int, Sample]:
    """Scale weights by a power of two if their squares are out of the range of float32.

    Returns the scaled weights, the exponent and a sample of the scaled weights. The sample has
    groups of ``group`` weights and the factors ``columns`` and ``results`` of
    :func:`.take_sample`. With a name, raises :class:`ValueError` for a value that is not finite.
    """
    sample = take_sample(weights, columns, results, name, group)
    if _LOW < sample.peak < _HIGH:
        return weights, 0, sample
    width = GROUP * group_count(weights.shape[1])
    largest = max(in_threads(lambda chunk: float(np.abs(take_groups(weights, chunk)).max()),
                             row_chunks(weights.shape[0], width)))
    shift = -int(np.frexp(largest)[1])
    shifted = ShiftedRows(weights, shift)
    return shifted, shift, take_sample(shifted, columns, results, group=group)


def unshifted(table: np.ndarray, shift: int) -> np.ndarray:
    """Return the scales of the weights before :func:`in_range`, from those after it."""
    if not shift:
        return table
    least = np.finfo(np.float32).smallest_subnormal
    return np.maximum(np.ldexp(table.astype(np.float64), -shift).astype(np.float32), least)


def _best_codes(
    weights: WeightRows, table: np.ndarray, depth: int, kernels: Kernels,
) -> np.ndarray:
    rows, groups = weights.shape[0], group_count(weights.shape[1])
    codes = np.empty((rows, groups), np.uint8)

    def work(chunk: slice) -> None:
        best, _ = kernels.best_codes(take_groups(weights, chunk), table, half_range(depth))
        codes[chunk] = best.reshape(-1, groups)

    run_in_threads(work, row_chunks(rows, GROUP * groups))
    return codes


def _squared_error(matrix: Encoded, weights: WeightRows, kernels: Kernels) -> float:
    """Return the sum of squared errors over all weights, as :func:`search` counts it."""
    wide = table_ratio(matrix.table) > TABLE_RATIO_WARNING
    values = [code_values(matrix), *([device_values(matrix)] if wide else [])]

    def work(chunk: slice) -> np.ndarray:
        groups = take_groups(weights, chunk)
        q, codes = matrix.take_rows(chunk, groups)
        q, codes = q.reshape(-1, GROUP), codes.ravel()
        return np.array([kernels.square_sums(groups, q, codes, table)[0].sum()
                         for table in values])

    columns = GROUP * group_count(matrix.shape[1])
    sums = in_threads(work, row_chunks(matrix.shape[0], columns))
    return float(sum(sums, np.zeros(len(values))).max())
