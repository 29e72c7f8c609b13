"""Tiles of a matrix and the figures of its report, computed in one pass over the rows."""

from collections.abc import Iterable, Iterator

import numpy as np

from tritstream.golden.checkpoints.safetensors_writer import Data
from tritstream.golden.fixed_point import GROUP, ROWS, SCALES, group_count, half_range
from tritstream.golden.groups import WeightRows, take_groups
from tritstream.golden.kernels import load
from tritstream.golden.matrix import Encoded, code_values
from tritstream.golden.packed.counts import code_counts, share_of_zeros
from tritstream.golden.packed.group_errors import GroupErrors
from tritstream.golden.packed.layout import SCALES_SUFFIX, TRITS_SUFFIX
from tritstream.golden.packed.report import TensorReport, matrix_report
from tritstream.golden.row_chunks import in_threads, row_chunks
from tritstream.golden.tiles import row_packer

__all__ = ["Packing"]


class Packing:
    """Packing of one matrix: tiles from top to bottom, then the figures of its report.

    Parameters
    ----------
    matrix : Encoded
        Matrix to pack.
    weights : WeightRows
        Weights (N, K) to measure the error against, None if the matrix represents them exactly.
    engine : str, optional
        Engine of :mod:`tritstream.golden.kernels`. It does not affect the output.
    """

    def __init__(self, matrix: Encoded, weights: WeightRows | None,
                 engine: str | None = None):
        self._matrix, self._weights = matrix, weights
        self._kernels, self._pack = load(engine), row_packer(matrix.depth, engine)
        self._values = code_values(matrix)
        self._counts = np.zeros(self._values.shape[1], np.int64)
        # Per row, so that the sums do not depend on the number of rows per chunk.
        self._squares = np.zeros((2, matrix.shape[0]))
        self._codes = np.zeros(SCALES, np.int64)
        self._errors = GroupErrors()

    def tensors(self, module: str) -> dict[str, Iterable[Data]]:
        """Return the values of the tensors to write, by name. Call this once."""
        return {module + TRITS_SUFFIX: self.pieces(), module + SCALES_SUFFIX: [self._matrix.table]}

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield tiles a few row tiles at a time, computed in threads. Call this once."""
        rows, columns = self._matrix.shape
        chunks = row_chunks(rows, GROUP * group_count(columns), ROWS, self._kernels.CHUNK)
        for tiles, counts, codes, errors in in_threads(self._work, chunks):
            self._counts += counts
            self._codes += codes
            self._errors.add(errors)
            yield tiles

    def report(self, name: str, codec: str | None = None) -> TensorReport:
        """Return the figures of the matrix, after all pieces have been read.

        Warnings give advice for matrices of ``codec``.
        """
        lost, energy = self._squares.sum(axis=1).tolist()
        zeros = share_of_zeros(self._counts, self._matrix)
        return matrix_report(name, self._matrix, lost, energy, self._errors, zeros, self._codes,
                             codec)

    def _work(self, chunk: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray, GroupErrors]:
        groups = None if self._weights is None else take_groups(self._weights, chunk)
        q, codes = self._matrix.take_rows(chunk, groups)
        errors = GroupErrors()
        if groups is not None:
            sums = self._kernels.square_sums(groups, q.reshape(-1, GROUP), codes.ravel(),
                                             self._values)
            self._squares[:, chunk] = [part.reshape(codes.shape).sum(axis=1) for part in sums]
            errors = GroupErrors.of(*sums)
        counts = self._kernels.count_levels(q, half_range(self._matrix.depth))
        return self._pack(q, codes), counts, code_counts(q, codes), errors
