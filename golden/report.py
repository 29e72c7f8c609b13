"""What packing did to each tensor, in figures and warnings."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from golden.chunks import in_threads, row_chunks
from golden.fixed import GROUP, SCALES, TABLE_RATIO_WARNING, mantissas, table_ratio
from golden.groups import take_groups
from golden.kernels import load
from golden.quantize import TritMatrix
from golden.shards import Tensor
from golden.tiles import tiles_shape

__all__ = [
    "PackReport", "TensorReport", "kept_report", "matrix_report", "relative_error", "square_sums",
    "table_warnings", "zero_share",
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


def kept_report(tensor: Tensor) -> TensorReport:
    """Report of a tensor that is copied as it is."""
    return TensorReport(tensor.name, tensor.shape, None, tensor.size)


def matrix_report(
    name: str, matrix: TritMatrix, error: float, engine: str | None = "numpy",
) -> TensorReport:
    """Report of a matrix and its relative error."""
    size = int(np.prod(tiles_shape(matrix.shape, matrix.depth))) + 4 * SCALES
    return TensorReport(
        name, matrix.shape, matrix.depth, size,
        stored_bits=8 * size / (matrix.rows * matrix.columns),
        information_bits=matrix.information_bits,
        error=error,
        zero_share=zero_share(matrix, engine),
        scale_min=float(matrix.table.min()),
        scale_max=float(matrix.table.max()),
        table_ratio=table_ratio(matrix.table),
        warnings=table_warnings(matrix),
    )


def table_warnings(matrix: TritMatrix) -> tuple[str, ...]:
    """What is lost of small scales on a device: the file has them, a 17-bit mantissa has not."""
    warnings = []
    ratio = table_ratio(matrix.table)
    if ratio > TABLE_RATIO_WARNING:
        warnings.append(f"scales span a ratio of {ratio:.3g}, above {TABLE_RATIO_WARNING}; "
                        "integer products lose precision")
    lost = np.flatnonzero(mantissas(matrix.table) == 0)
    used = _used_codes(matrix) if lost.size else ()
    codes = [int(code) for code in lost if code in used]
    if codes:
        warnings.append(f"scale codes {codes} are used but have mantissa 0; "
                        "their groups count as zero in integer products")
    return tuple(warnings)


def _used_codes(matrix: TritMatrix) -> set[int]:
    """Codes of groups that hold anything but zeros."""
    used = set()
    for chunk in row_chunks(*matrix.q.shape):
        live = matrix.q[chunk].reshape(-1, matrix.groups, GROUP).any(axis=-1)
        used.update(np.unique(matrix.codes[chunk][live]).tolist())
    return used


def relative_error(
    matrix: TritMatrix, weights: np.ndarray, engine: str | None = "numpy",
) -> float:
    """Squared error of a matrix over the square of the weights (N, K) it was made of."""
    kernels, values = load(engine), matrix.values()

    def work(chunk: slice) -> tuple[float, float]:
        sums = kernels.square_sums(take_groups(weights, chunk), matrix.q[chunk].reshape(-1, GROUP),
                                   matrix.codes[chunk].ravel(), values)
        return tuple(float(part.sum()) for part in sums)

    error, total = map(sum, zip(*in_threads(work, row_chunks(*matrix.q.shape)), strict=True))
    return error / total if total else 0.0


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


def zero_share(matrix: TritMatrix, engine: str | None = "numpy") -> float:
    """Share of zeros among the trits of the weights."""
    half, kernels = matrix.half_range, load(engine)
    chunks = row_chunks(*matrix.q.shape)
    counts = sum(in_threads(lambda chunk: kernels.count_levels(matrix.q[chunk], half), chunks))
    counts[half] -= matrix.q.size - math.prod(matrix.shape)
    digits = np.arange(counts.size)[:, None] // 3 ** np.arange(matrix.depth) % 3
    zeros = int(counts @ (digits == 1).sum(axis=1))
    return zeros / (matrix.depth * int(counts.sum()))
