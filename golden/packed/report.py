"""Figures and warnings of each tensor after packing."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.cast_tensor import Rounding
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.kernels import load
from tritstream.golden.matrix import DirectMatrix, Encoded, TritMatrix
from tritstream.golden.packed.counts import share_of_zeros
from tritstream.golden.packed.group_errors import GroupErrors
from tritstream.golden.packed.layout import TILES, Layout
from tritstream.golden.packed.matrix_warnings import (
    error_warnings,
    exactness_warnings,
    range_warnings,
    scale_warnings,
    table_warnings,
)
from tritstream.golden.row_chunks import row_chunks

__all__ = [
    "PackReport", "TensorReport", "apart_report", "kept_report", "matrix_report", "square_sums",
    "zero_share",
]


@dataclass(frozen=True)
class TensorReport:
    """Figures of one tensor. For an unquantized tensor, figures after ``size`` are zero.

    Members
    -------
    name : str
        Module name of a matrix, tensor name of an unquantized tensor.
    shape : tuple
        Shape in the source.
    depth : int or None
        Trits per weight, None for an unquantized tensor.
    size : int
        Bytes written, padding and scale table included.
    stored_bits, information_bits : float
        Stored bits per weight, and information content in bits per weight.
    error : float
        Sum of squared errors of the weights, relative to the sum of squares of the weights. A few
        large weights can hide the errors of all other weights, so see ``group_error`` as well.
    energy : float
        Sum of squares of the weights.
    group_error : float
        Median relative squared error of the groups with weights other than zero.
    zero_share : float
        Share of trits that are zero.
    scale_min, scale_max, table_ratio : float
        Smallest and largest entry of the scale table, or of direct scales other than 0, and their
        ratio.
    warnings : tuple
        One line per warning.
    rounding : dict or None
        Record of the :class:`.Rounding` of a tensor that was converted to another dtype.
    """

    name:             str
    shape:            tuple[int, ...]
    depth:            int | None
    size:             int
    stored_bits:      float = 0.0
    information_bits: float = 0.0
    error:            float = 0.0
    energy:           float = 0.0
    group_error:      float = 0.0
    zero_share:       float = 0.0
    scale_min:        float = 0.0
    scale_max:        float = 0.0
    table_ratio:      float = 0.0
    warnings:         tuple[str, ...] = ()
    rounding:         dict | None = None

    @property
    def kept(self) -> bool:
        """Whether the tensor is unquantized."""
        return self.depth is None

    def record(self) -> dict:
        """Return the members as a dict that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict) -> "TensorReport":
        """Return the report that :meth:`record` made a dict of; other keys are ignored."""
        values = {field.name: record[field.name] for field in fields(cls)}
        for name in ("shape", "warnings"):
            values[name] = tuple(values[name])
        return cls(**values)


@dataclass(frozen=True)
class PackReport:
    """Figures of a complete checkpoint.

    Members
    -------
    path : Path
        Directory of the packed checkpoint.
    depth : int
        Trits per weight of matrices without a depth of their own.
    tensors : tuple of TensorReport
        Report of each source tensor, in file order.
    reasons : mapping
        Reason for each unquantized tensor, by tensor name.
    """

    path:    Path
    depth:   int
    tensors: tuple[TensorReport, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def matrices(self) -> tuple[TensorReport, ...]:
        """Reports of the packed matrices."""
        return tuple(report for report in self.tensors if not report.kept)

    @property
    def kept(self) -> tuple[TensorReport, ...]:
        """Reports of the unquantized tensors."""
        return tuple(report for report in self.tensors if report.kept)

    @property
    def roundings(self) -> tuple[Rounding, ...]:
        """Rounding errors of unquantized tensors that were converted to another dtype."""
        return tuple(Rounding.from_record(report.rounding) for report in self.tensors
                     if report.rounding)

    @property
    def weights(self) -> int:
        """Number of weights in packed matrices."""
        return sum(int(np.prod(report.shape)) for report in self.matrices)

    @property
    def packed_share(self) -> float:
        """Share of the source's weights in packed matrices, 0..1."""
        return self.weights / sum(math.prod(report.shape) for report in self.tensors)

    @property
    def error(self) -> float:
        """Sum of squared errors of all packed matrices, relative to the squares of the weights."""
        energy = sum(report.energy for report in self.matrices)
        lost = sum(report.error * report.energy for report in self.matrices)
        return lost / energy if energy else 0.0

    @property
    def size(self) -> int:
        """Total size of all written tensors in bytes."""
        return sum(report.size for report in self.tensors)

    @property
    def stored_bits(self) -> float:
        """Stored bits per packed weight."""
        return 8 * sum(report.size for report in self.matrices) / self.weights

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of all tensors, each prefixed with the name of its tensor."""
        return tuple(f"{report.name}: {line}" for report in self.tensors
                     for line in report.warnings)


def kept_report(
    tensor: SourceTensor, fault: str | None = None, rounding: Rounding | None = None,
) -> TensorReport:
    """Return the report of an unquantized tensor.

    ``fault`` is a line about invalid values, ``rounding`` the rounding error of a conversion.
    """
    return TensorReport(tensor.name, tensor.shape, None, tensor.size,
                        warnings=(fault,) if fault else (),
                        rounding=rounding.record() if rounding else None)


def matrix_report(
    name: str, matrix: Encoded, lost: float, energy: float, groups: GroupErrors,
    zero_share: float, codes: np.ndarray, codec: str | None = None,
) -> TensorReport:
    """Return the report of a packed matrix.

    Parameters
    ----------
    name : str
        Module name.
    matrix : Encoded
        The matrix.
    lost, energy : float
        Sums of squares of the errors and of the weights.
    groups : GroupErrors
        Errors of the groups.
    zero_share : float
        Share of trits that are zero.
    codes : numpy.ndarray
        Result of :func:`code_counts`: int64 (27,).
    codec : str, optional
        Profile of the matrix, for the advice in warnings.
    """
    warnings = [*scale_warnings(name, matrix.table, codes, codec),
                *error_warnings(name, groups, matrix.depth, codec),
                *range_warnings(matrix.table, codes, codec)]
    return _figures(name, matrix.depth, matrix.shape, TILES, lost, energy, groups, zero_share,
                    matrix.table, warnings)


def apart_report(
    name: str, matrix: TritMatrix | DirectMatrix, layout: Layout, lost: float, energy: float,
    groups: GroupErrors, zero_share: float, codec: str | None = None,
) -> TensorReport:
    """Return the report of a packed matrix in a layout of version 5, as :func:`matrix_report`."""
    warnings = [*error_warnings(name, groups, matrix.depth, codec)]
    if isinstance(matrix, TritMatrix):
        warnings += table_warnings(name, matrix, codec)
        scales = matrix.table
    else:
        warnings += exactness_warnings(matrix.scales)
        scales = matrix.scales.values(slice(None))
    return _figures(name, matrix.depth, matrix.shape, layout, lost, energy, groups, zero_share,
                    scales, warnings)


def _figures(
    name: str, depth: int, shape: tuple[int, int], layout: Layout, lost: float, energy: float,
    groups: GroupErrors, zero_share: float, scales: np.ndarray, warnings: Iterable[str],
) -> TensorReport:
    size, used = layout.size(shape, depth), scales[scales > 0]
    least, most = (float(used.min()), float(used.max())) if used.size else (0.0, 0.0)
    return TensorReport(
        name, shape, depth, size,
        stored_bits=8 * size / math.prod(shape),
        information_bits=layout.information_bits(shape, depth),
        error=lost / energy if energy else 0.0,
        energy=energy,
        group_error=groups.median,
        zero_share=zero_share,
        scale_min=least,
        scale_max=most,
        table_ratio=most / least if least else 1.0,
        warnings=tuple(warnings),
    )


def square_sums(
    chunks: Iterable[tuple[slice, np.ndarray]], weights: np.ndarray,
) -> tuple[float, float]:
    """Return the sums of squares of the errors and of the weights.

    Parameters
    ----------
    chunks : iterable
        Slices of rows with their dequantized weights (rows, K), for all rows.
    weights : numpy.ndarray
        Original weights: float (N, K).
    """
    error = total = 0.0
    for chunk, rows in chunks:
        wanted = weights[chunk].astype(np.float64)
        error += float(np.square(wanted - rows).sum())
        total += float(np.square(wanted).sum())
    return error, total


def zero_share(matrix: TritMatrix | DirectMatrix, engine: str | None = None) -> float:
    """Return the share of zeros among the trits of the weights."""
    kernels, half = load(engine), matrix.half_range
    counts = np.zeros(2 * half + 1, np.int64)
    for chunk in row_chunks(*matrix.q.shape):
        counts += kernels.count_levels(matrix.q[chunk], half)
    return share_of_zeros(counts, matrix)
