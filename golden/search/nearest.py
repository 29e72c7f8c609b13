"""Profile ``search``: the best of the 27 codes for each group, and a table fitted to the matrix."""

from dataclasses import dataclass

import numpy as np

from golden.chunks import in_threads, row_chunks, run_in_threads
from golden.fixed import GROUP, half_range
from golden.groups import RowReader, group_count, take_groups
from golden.kernels import Kernels, load
from golden.quantize import Encoded, choose_scales, code_values
from golden.rounded import Rounded
from golden.search.sample import take_sample
from golden.search.table import fit_table

__all__ = ["SEARCH", "Coded", "search"]

#: Name of the profile in packed checkpoints.
SEARCH = "search"


@dataclass(frozen=True, eq=False)
class Coded(Rounded):
    """A matrix whose codes, uint8 (N, Kp/16), are chosen."""

    codes: np.ndarray

    def take_scales(self, chunk: slice) -> tuple[np.ndarray, np.ndarray]:
        """Those of the codes: :meth:`golden.rounded.Rounded.take_scales`."""
        return self.table.take(self.codes[chunk]), self.codes[chunk]


def search(
    weights: np.ndarray | RowReader, depth: int, name: str = "matrix", *,
    engine: str | None = "numpy",
) -> Encoded:
    """Encode a matrix (N, K) of any float dtype; of a reader nobody holds all rows.

    Its squared error is never more than that of ``tritllm-v2``, whose codes it keeps in the rare
    case that no better ones are found. Raises as :func:`golden.quantize.choose_scales` does.
    """
    usual, kernels = choose_scales(weights, depth, name, engine=engine), load(engine)
    table = fit_table(take_sample(weights), half_range(depth), kernels)
    codes = _best_codes(weights, table, depth, kernels)
    found = Coded(weights, int(depth), table, kernels, codes)
    return min(usual, found, key=lambda one: _squared_error(one, weights, kernels))


def _best_codes(
    weights: np.ndarray | RowReader, table: np.ndarray, depth: int, kernels: Kernels,
) -> np.ndarray:
    rows, groups = weights.shape[0], group_count(weights.shape[1])
    codes = np.empty((rows, groups), np.uint8)

    def work(chunk: slice) -> None:
        best, _ = kernels.best_codes(take_groups(weights, chunk), table, half_range(depth))
        codes[chunk] = best.reshape(-1, groups)

    run_in_threads(work, row_chunks(rows, GROUP * groups))
    return codes


def _squared_error(
    matrix: Encoded, weights: np.ndarray | RowReader, kernels: Kernels,
) -> float:
    """Sum over all weights, in float64, of what they would be dequantized to."""
    values = code_values(matrix)

    def work(chunk: slice) -> float:
        groups = take_groups(weights, chunk)
        q, codes = matrix.take_rows(chunk, groups)
        errors, _ = kernels.square_sums(groups, q.reshape(-1, GROUP), codes.ravel(), values)
        return float(errors.sum())

    columns = GROUP * group_count(matrix.shape[1])
    return sum(in_threads(work, row_chunks(matrix.shape[0], columns)))
