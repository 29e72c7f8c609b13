"""Tensors of a matrix whose scales are stored apart from its trits, and its report."""

from collections.abc import Iterable, Iterator

import numpy as np

from tritstream.golden.checkpoints.safetensors_writer import Data
from tritstream.golden.fixed_point import GROUP, ROWS
from tritstream.golden.groups import WeightRows, take_groups
from tritstream.golden.matrix import DirectMatrix, TritMatrix, row_dequantizer
from tritstream.golden.packed.group_errors import GroupErrors
from tritstream.golden.packed.layout import CODES_SUFFIX, SCALES_SUFFIX, TRITS_SUFFIX, Layout
from tritstream.golden.packed.report import TensorReport, apart_report, zero_share
from tritstream.golden.row_chunks import in_threads, row_chunks
from tritstream.golden.scales import CodedScales
from tritstream.golden.tiles import pack_codes, pack_trits

__all__ = ["ApartPacking"]


class ApartPacking:
    """Packing of one matrix in a layout of version 5, and the figures of its report.

    Parameters
    ----------
    matrix : TritMatrix or DirectMatrix
        Matrix to pack.
    layout : Layout
        Layout that the matrix has.
    weights : WeightRows
        Weights (N, K) to measure the error against, None if the matrix represents them exactly.
    engine : str, optional
        Engine of :mod:`tritstream.golden.kernels`. It does not affect the output.
    """

    def __init__(self, matrix: TritMatrix | DirectMatrix, layout: Layout,
                 weights: WeightRows | None = None, engine: str | None = None):
        self._matrix, self._layout = matrix, layout
        self._weights, self._engine = weights, engine

    def tensors(self, module: str) -> dict[str, Iterable[Data]]:
        """Return the values of the tensors to write, by name."""
        scales = self._matrix.scales
        found: dict[str, Iterable[Data]] = {module + TRITS_SUFFIX: self._trits()}
        if isinstance(scales, CodedScales):
            return found | {module + SCALES_SUFFIX: [scales.table],
                            module + CODES_SUFFIX: [pack_codes(scales.codes)]}
        # The buffer of bfloat16 cannot be exported, so bytes are written.
        return found | {module + SCALES_SUFFIX: [np.ascontiguousarray(scales.stored).tobytes()]}

    def report(self, name: str, codec: str | None = None) -> TensorReport:
        """Return the figures of the matrix. Warnings give advice for matrices of ``codec``."""
        lost, energy, errors = self._errors()
        return apart_report(name, self._matrix, self._layout, lost, energy, errors,
                            zero_share(self._matrix, self._engine), codec)

    def _trits(self) -> Iterator[np.ndarray]:
        def work(chunk: slice) -> np.ndarray:
            return pack_trits(self._matrix.q[chunk], self._matrix.depth, self._engine)

        yield from in_threads(work, self._chunks(ROWS))

    def _errors(self) -> tuple[float, float, GroupErrors]:
        """Return sums of squares of errors and of weights, and the errors of 16 weights each."""
        lost, energy, errors = 0.0, 0.0, GroupErrors()
        if self._weights is None:
            return lost, energy, errors
        dequantized = row_dequantizer(self._matrix)
        for chunk in self._chunks(1):
            wanted = take_groups(self._weights, chunk).astype(np.float64)
            made = np.zeros((chunk.stop - chunk.start, self._matrix.q.shape[1]))
            made[:, :self._matrix.columns] = dequantized(chunk)
            wrong = np.square(wanted - made.reshape(-1, GROUP)).sum(axis=1)
            squares = np.square(wanted).sum(axis=1)
            lost, energy = lost + float(wrong.sum()), energy + float(squares.sum())
            errors.add(GroupErrors.of(wrong, squares))
        return lost, energy, errors

    def _chunks(self, multiple: int) -> Iterator[slice]:
        return row_chunks(self._matrix.rows, self._matrix.q.shape[1], multiple)
