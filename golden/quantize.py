"""Quantizer of profile tritllm-v2: weights to integers, scale codes and a scale table.

Everything is elementwise float32 or a sum in a stated order, without fused multiply-add, so that
any implementation can give the same bits.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from golden.chunks import row_chunks, run_in_threads
from golden.fixed import (
    GROUP,
    SCALES,
    check_table,
    device_table,
    half_range,
    information_bits,
    stored_bits,
)
from golden.forms import FORM, Form, rec
from golden.groups import RowReader, group_count, take_groups
from golden.kernels import load
from golden.kernels.arithmetic import levels
from golden.rounded import Rounded

__all__ = [
    "CODEC", "Encoded", "Scaled", "TritMatrix", "choose_scales", "code_values", "dequantize",
    "dequantized_chunks", "device_values", "levels", "quantize", "rec", "row_dequantizer", "whole",
]

#: Name of the profile in packed checkpoints.
CODEC = "tritllm-v2"

_SINGLE = np.dtype(np.float32)


class Encoded(Protocol):
    """A matrix of integers, codes and a table, wherever they come from."""

    depth: int
    table: np.ndarray
    form:  Form

    @property
    def shape(self) -> tuple[int, int]: ...
    def take_rows(
        self, chunk: slice, groups: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Integers and codes of some rows, whose weights ``groups`` are, if they are at hand."""


@dataclass(frozen=True, eq=False)
class TritMatrix:
    """A quantized matrix; ``w[n, k] = table[codes[n, k // 16]] * q[n, k] / half_range``.

    In an integer product that is all there is to it; ``form`` says how a float weight is rounded.

    Members
    -------
    depth : int
        Trits of a weight, 1..4.
    shape : tuple
        Rows N and columns K, without padding.
    q : numpy.ndarray
        int8 (N, Kp), Kp being K rounded up to whole groups: integer weights within the half range.
    codes : numpy.ndarray
        uint8 (N, Kp/16): scale code of each group, 0..26.
    table : numpy.ndarray
        float32 (27,): scale of each code, finite and positive.
    form : golden.forms.Form
        In which order, and with which roundings, dequantizing computes a weight.

    Raises :class:`ValueError` when these do not agree.
    """

    depth: int
    shape: tuple[int, int]
    q:     np.ndarray
    codes: np.ndarray
    table: np.ndarray
    form:  Form = FORM

    def __post_init__(self):
        half = half_range(self.depth)
        if len(self.shape) != 2 or min(self.shape) < 1:
            raise ValueError(f"shape must be two positive integers, not {self.shape!r}")
        _check_array("q", self.q, np.int8, (self.rows, GROUP * self.groups))
        _check_array("codes", self.codes, np.uint8, (self.rows, self.groups))
        check_table(self.table)
        if not -half <= self.q.min() <= self.q.max() <= half:
            raise ValueError(f"q must be within {-half}..{half} at depth {self.depth}, "
                             f"not {self.q.min()}..{self.q.max()}")
        if self.codes.max() >= SCALES:
            raise ValueError(f"codes must be 0..{SCALES - 1}, not {self.codes.max()}")

    @property
    def rows(self) -> int:
        """Rows N, the outputs."""
        return self.shape[0]

    @property
    def columns(self) -> int:
        """Columns K, the inputs, without padding."""
        return self.shape[1]

    @property
    def groups(self) -> int:
        """Groups of a row, the last one padded with zeros where K is not a multiple of 16."""
        return group_count(self.columns)

    @property
    def half_range(self) -> int:
        """Largest magnitude of an integer weight."""
        return half_range(self.depth)

    @property
    def information_bits(self) -> float:
        """Bits of information a weight."""
        return information_bits(self.depth)

    @property
    def stored_bits(self) -> float:
        """Bits of a file a weight, padding left out."""
        return stored_bits(self.depth)

    def take_rows(
        self, chunk: slice, groups: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Integers and codes of some rows."""
        return self.q[chunk], self.codes[chunk]


@dataclass(frozen=True, eq=False)
class Scaled(Rounded):
    """One whose scales are chosen, and follow from a table even in logarithm.

    Members
    -------
    scales : numpy.ndarray
        float32 (N, Kp/16): the scale of each group, before it is coded.
    edges : numpy.ndarray
        float64: what separates codes.
    """

    scales: np.ndarray
    edges:  np.ndarray

    def take_scales(self, chunk: slice) -> tuple[np.ndarray, np.ndarray]:
        """Those of the codes: :meth:`golden.rounded.Rounded.take_scales`."""
        scales = self.scales[chunk]
        codes = self.kernels.find_codes(scales, self.edges)
        coded = self.table.take(codes)
        coded[scales == 0] = 0
        return coded, codes


def whole(matrix: Encoded) -> TritMatrix:
    """All integers and codes of a matrix."""
    if isinstance(matrix, TritMatrix):
        return matrix
    rows, groups = matrix.shape[0], group_count(matrix.shape[1])
    q = np.empty((rows, GROUP * groups), np.int8)
    codes = np.empty((rows, groups), np.uint8)

    def work(chunk: slice) -> None:
        q[chunk], codes[chunk] = matrix.take_rows(chunk)

    run_in_threads(work, row_chunks(*q.shape))
    return TritMatrix(matrix.depth, matrix.shape, q, codes, matrix.table)


def quantize(
    weights: np.ndarray, depth: int, name: str = "matrix", *, engine: str | None = "numpy",
) -> TritMatrix:
    """Quantize a matrix (N, K) of any float dtype, a few rows at a time in as many threads.

    This is the profile ``tritllm-v2``, whose bits are fixed. One tiny or huge group can cost the
    others much: :func:`golden.search.nearest.search`, by which checkpoints are packed unless told
    otherwise, is robust against that.

    Any engine of :mod:`golden.kernels` gives the same bits; None is the fastest.

    Raises :class:`ValueError` for a depth outside 1..4, another shape, or a value that is not
    finite as float32 (it names the matrix and the first such place).
    """
    return whole(choose_scales(np.asarray(weights), depth, name, engine=engine))


def choose_scales(
    weights: np.ndarray | RowReader, depth: int, name: str = "matrix", *,
    engine: str | None = "numpy",
) -> Scaled:
    """The same in two steps, of which this is the first; of a reader nobody holds all rows."""
    half, kernels = half_range(depth), load(engine)
    if len(weights.shape) != 2 or 0 in weights.shape:
        raise ValueError(f"{name} must be a matrix with rows and columns, not {weights.shape}")
    rows, groups = weights.shape[0], group_count(weights.shape[1])
    scales = np.empty((rows, groups), np.float32)

    def work(chunk: slice) -> None:
        chosen = kernels.choose_scales(take_groups(weights, chunk, name), half)
        scales[chunk] = chosen.reshape(-1, groups)

    run_in_threads(work, row_chunks(rows, GROUP * groups, times=kernels.CHUNK))
    table, edges = _fit_table(scales)
    return Scaled(weights, int(depth), table, kernels, scales, edges)


def dequantize(matrix: TritMatrix) -> np.ndarray:
    """Weights of a quantized matrix, computed in its form: float32 (N, K)."""
    weights = np.empty(matrix.shape, np.float32)
    for chunk, rows in dequantized_chunks(matrix):
        weights[chunk] = rows
    return weights


def dequantized_chunks(
    matrix: TritMatrix, dtype: np.dtype = _SINGLE,
) -> Iterator[tuple[slice, np.ndarray]]:
    """The same a few rows at a time, top to bottom: which rows, and (rows, K).

    In another ``dtype`` they are rounded half to even, to infinity when beyond its range.
    """
    rows = row_dequantizer(matrix, dtype)
    for chunk in row_chunks(*matrix.q.shape):
        yield chunk, rows(chunk)


def row_dequantizer(
    matrix: TritMatrix, dtype: np.dtype = _SINGLE,
) -> Callable[[slice], np.ndarray]:
    """What gives those of any rows, a slice or their numbers: a look-up, for a matrix has few
    different weights."""
    with np.errstate(over="ignore", under="ignore"):
        weights = code_values(matrix).astype(dtype)

    def rows(chunk: slice) -> np.ndarray:
        zeros = weights.shape[1] * matrix.codes[chunk].astype(np.int32) + matrix.half_range
        places = matrix.q[chunk].reshape(-1, matrix.groups, GROUP) + zeros[..., None]
        return weights.take(places).reshape(len(zeros), -1)[:, :matrix.columns]
    return rows


def code_values(matrix: Encoded) -> np.ndarray:
    """What integers stand for: float32 (27, 2h + 1), by code and integer, -h first."""
    half = half_range(matrix.depth)
    return matrix.form.weights(matrix.table[:, None], np.arange(-half, half + 1), half)


def device_values(matrix: Encoded) -> np.ndarray:
    """Weights that a device computes with: float32 (27, 2h + 1), by code and integer, -h first."""
    half = half_range(matrix.depth)
    return FORM.weights(device_table(matrix.table)[:, None], np.arange(-half, half + 1), half)


def _check_array(name: str, array: np.ndarray, dtype: type, shape: tuple[int, int]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name} must be {np.dtype(dtype)} {shape}, "
                         f"not {array.dtype} {array.shape}")


def _fit_table(scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale table float32 (27,), even in logarithm, and edges between its codes, float64.

    There are 26 edges, or none where one code serves all.
    """
    largest = scales.max()
    if largest == 0:
        return np.ones(SCALES, np.float32), np.empty(0)
    smallest = np.min(scales, where=scales > 0, initial=largest)
    low, high = math.log(float(smallest)), math.log(float(largest))
    step = (high - low) / (SCALES - 1)
    table = np.array([math.exp(low + step * k) for k in range(SCALES)]).astype(np.float32)
    count = SCALES - 1 if high > low else 0
    return table, np.array(sorted(math.exp(low + step * (k + 0.5)) for k in range(count)))
