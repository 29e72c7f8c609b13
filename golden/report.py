"""What packing did to each tensor, in figures and warnings."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from golden.casting import Rounding
from golden.chunks import row_chunks
from golden.fixed import (
    GROUP,
    SCALES,
    TABLE_RATIO_WARNING,
    information_bits,
    mantissas,
    table_ratio,
)
from golden.kernels import load
from golden.quantize import Encoded, TritMatrix
from golden.sources import SourceTensor
from golden.tiles import tiles_shape

__all__ = [
    "PackReport", "TensorReport", "has_lost_codes", "kept_report", "matrix_report",
    "share_of_zeros", "square_sums", "table_warnings", "used_codes", "zero_share",
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
    error : float
        Squared error of the dequantized weights over the square of the weights.
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
    """Figures of a whole checkpoint: where it is, its depth, the report of each source tensor."""

    path:    Path
    depth:   int
    tensors: tuple[TensorReport, ...]

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


def kept_report(tensor: SourceTensor, rounding: Rounding | None = None) -> TensorReport:
    """Report of a tensor that is copied as it is, or converted, with what that lost."""
    return TensorReport(tensor.name, tensor.shape, None, tensor.size,
                        rounding=rounding and rounding.record())


def matrix_report(
    name: str, matrix: Encoded, error: float, zero_share: float, used: Iterable[int],
) -> TensorReport:
    """Report of a matrix, its relative error, share of zeros, and :func:`used_codes`."""
    size = math.prod(tiles_shape(matrix.shape, matrix.depth)) + 4 * SCALES
    return TensorReport(
        name, matrix.shape, matrix.depth, size,
        stored_bits=8 * size / math.prod(matrix.shape),
        information_bits=information_bits(matrix.depth),
        error=error,
        zero_share=zero_share,
        scale_min=float(matrix.table.min()),
        scale_max=float(matrix.table.max()),
        table_ratio=table_ratio(matrix.table),
        warnings=_warnings(matrix.table, used),
    )


def table_warnings(matrix: TritMatrix) -> tuple[str, ...]:
    """What is lost of small scales on a device: the file has them, a 17-bit mantissa has not."""
    used: set[int] = set()
    if has_lost_codes(matrix.table):
        for chunk in row_chunks(*matrix.q.shape):
            used |= used_codes(*matrix.take_rows(chunk))
    return _warnings(matrix.table, used)


def has_lost_codes(table: np.ndarray) -> bool:
    """Whether a code has mantissa 0; only then it matters which are used."""
    return not mantissas(table).all()


def used_codes(q: np.ndarray, codes: np.ndarray) -> set[int]:
    """Codes of groups that hold anything but zeros."""
    return set(np.unique(codes[q.reshape(*codes.shape, GROUP).any(axis=-1)]).tolist())


def _warnings(table: np.ndarray, used: Iterable[int]) -> tuple[str, ...]:
    warnings = []
    ratio = table_ratio(table)
    if ratio > TABLE_RATIO_WARNING:
        warnings.append(f"scales span a ratio of {ratio:.3g}, above {TABLE_RATIO_WARNING}; "
                        "integer products lose precision")
    codes = sorted(set(np.flatnonzero(mantissas(table) == 0).tolist()) & set(used))
    if codes:
        warnings.append(f"scale codes {codes} are used but have mantissa 0; "
                        "their groups count as zero in integer products")
    return tuple(warnings)


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
