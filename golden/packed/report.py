"""Figures of each tensor after packing, and their warnings."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.casting import Rounding
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.fixed_point import GROUP, SCALES, information_bits, table_ratio, tiles_shape
from tritstream.golden.kernels import load
from tritstream.golden.matrix import Encoded, TritMatrix
from tritstream.golden.packed.group_errors import GroupErrors
from tritstream.golden.packed.matrix_warnings import error_warnings, range_warnings, scale_warnings
from tritstream.golden.row_chunks import row_chunks

__all__ = [
    "PackReport", "TensorReport", "code_counts", "kept_report", "matrix_report",
    "share_of_zeros", "square_sums", "table_warnings", "zero_share",
]


@dataclass(frozen=True)
class TensorReport:
    """Figures of one tensor; of a kept one ``depth`` is None and those after ``size`` are zero.

    Members
    -------
    name : str
        Module name of a matrix, tensor name of a kept tensor.
    shape : tuple
        Sizes in the source.
    depth : int or None
        Trits of a weight.
    size : int
        Bytes written, padding and scale table included.
    stored_bits, information_bits : float
        Bits of the file and of information, a weight.
    error, energy : float
        Squared error of the dequantized weights over the square of the weights; that square. A few
        large weights can hide what happens to the others, which ``group_error`` shows.
    group_error : float
        The same for a group of 16 weights: the median of all groups that hold weights.
    zero_share : float
        Share of trits that are zero.
    scale_min, scale_max, table_ratio : float
        Ends of the scale table, and the larger over the smaller.
    warnings : tuple
        One line each.
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
        """Whether the tensor was not quantized."""
        return self.depth is None

    def record(self) -> dict:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict) -> "TensorReport":
        """Reverse of :meth:`record`; other keys are left out."""
        values = {field.name: record[field.name] for field in fields(cls)}
        for name in ("shape", "warnings"):
            values[name] = tuple(values[name])
        return cls(**values)


@dataclass(frozen=True)
class PackReport:
    """Figures of a whole checkpoint.

    Members
    -------
    path : Path
        The packed checkpoint.
    depth : int
        Trits of a weight where a matrix has no other depth.
    tensors : tuple of TensorReport
        One for each source tensor, in file order.
    reasons : mapping
        Why a tensor is kept, by its name.
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
        """Reports of the other tensors."""
        return tuple(report for report in self.tensors if report.kept)

    @property
    def roundings(self) -> tuple[Rounding, ...]:
        """What kept tensors lost that were converted to another dtype."""
        return tuple(Rounding.from_record(report.rounding) for report in self.tensors
                     if report.rounding)

    @property
    def weights(self) -> int:
        """Weights in packed matrices."""
        return sum(int(np.prod(report.shape)) for report in self.matrices)

    @property
    def packed_share(self) -> float:
        """Share of the source's weights that is in packed matrices, 0..1."""
        return self.weights / sum(math.prod(report.shape) for report in self.tensors)

    @property
    def error(self) -> float:
        """Squared error of all packed matrices over the square of their weights."""
        energy = sum(report.energy for report in self.matrices)
        lost = sum(report.error * report.energy for report in self.matrices)
        return lost / energy if energy else 0.0

    @property
    def size(self) -> int:
        """Bytes of all tensors written."""
        return sum(report.size for report in self.tensors)

    @property
    def stored_bits(self) -> float:
        """Bits of the file a packed weight."""
        return 8 * sum(report.size for report in self.matrices) / self.weights

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of all tensors, each with its name."""
        return tuple(f"{report.name}: {line}" for report in self.tensors
                     for line in report.warnings)


def kept_report(
    tensor: SourceTensor, fault: str | None = None, rounding: Rounding | None = None,
) -> TensorReport:
    """Report of a tensor that is copied as it is, or converted, with what that lost.

    ``fault`` is what is wrong with its values, if anything is.
    """
    return TensorReport(tensor.name, tensor.shape, None, tensor.size,
                        warnings=(fault,) if fault else (),
                        rounding=rounding and rounding.record())


def matrix_report(
    name: str, matrix: Encoded, lost: float, energy: float, groups: GroupErrors,
    zero_share: float, codes: np.ndarray, codec: str | None = None,
) -> TensorReport:
    """Report of a matrix from sums of squares (error, weights), zeros and :func:`code_counts`.

    Warnings name the cure for a matrix of this ``codec``.
    """
    size = math.prod(tiles_shape(matrix.shape, matrix.depth)) + 4 * SCALES
    warnings = [*scale_warnings(name, matrix.table, codes, codec),
                *error_warnings(name, groups, matrix.depth, codec),
                *range_warnings(matrix.table, codes, codec)]
    return TensorReport(
        name, matrix.shape, matrix.depth, size,
        stored_bits=8 * size / math.prod(matrix.shape),
        information_bits=information_bits(matrix.depth),
        error=lost / energy if energy else 0.0,
        energy=energy,
        group_error=groups.median,
        zero_share=zero_share,
        scale_min=float(matrix.table.min()),
        scale_max=float(matrix.table.max()),
        table_ratio=table_ratio(matrix.table),
        warnings=tuple(warnings),
    )


def table_warnings(name: str, matrix: TritMatrix, codec: str | None = None) -> tuple[str, ...]:
    """Warnings of small scales, which the file holds and the 17-bit mantissas of a device do not.
    """
    codes = np.zeros(SCALES, np.int64)
    for chunk in row_chunks(*matrix.q.shape):
        codes += code_counts(*matrix.take_rows(chunk))
    return (*scale_warnings(name, matrix.table, codes, codec),
            *range_warnings(matrix.table, codes, codec))


def code_counts(q: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Number of groups of each code that hold anything but zeros: int64 (27,)."""
    held = q.reshape(*codes.shape, GROUP).view(np.uint64).any(axis=-1)
    return np.bincount(codes[held], minlength=SCALES)


def square_sums(
    chunks: Iterable[tuple[slice, np.ndarray]], weights: np.ndarray,
) -> tuple[float, float]:
    """Sums of the squares of the errors and of the weights.

    Parameters
    ----------
    chunks : iterable
        Which rows, and what stands for them, (rows, K), until all are covered.
    weights : float (N, K)
        What they should be.
    """
    error = total = 0.0
    for chunk, rows in chunks:
        wanted = weights[chunk].astype(np.float64)
        error += float(np.square(wanted - rows).sum())
        total += float(np.square(wanted).sum())
    return error, total


def zero_share(matrix: TritMatrix, engine: str | None = None) -> float:
    """Share of zeros among the trits of the weights."""
    kernels, half = load(engine), matrix.half_range
    counts = sum(kernels.count_levels(matrix.q[chunk], half)
                 for chunk in row_chunks(*matrix.q.shape))
    return share_of_zeros(counts, matrix)


def share_of_zeros(counts: np.ndarray, matrix: Encoded) -> float:
    """The same of how often each integer occurs, padding included: (2h + 1,)."""
    counts, padding = counts.copy(), -matrix.shape[1] % GROUP
    counts[len(counts) // 2] -= padding * matrix.shape[0]
    digits = np.arange(counts.size)[:, None] // 3 ** np.arange(matrix.depth) % 3
    zeros = int(counts @ (digits == 1).sum(axis=1))
    return zeros / (matrix.depth * int(counts.sum()))
