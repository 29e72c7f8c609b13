"""Quantized matrices (integers and the scales of their groups) and how to dequantize them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tritstream.golden.fixed_point import (
    GROUP,
    check_group,
    group_count,
    half_range,
    information_bits,
    stored_bits,
)
from tritstream.golden.rounding import FORM, Form
from tritstream.golden.row_chunks import row_chunks, run_in_threads
from tritstream.golden.scales import CodedScales, DirectScales, Rows

__all__ = [
    "DirectMatrix", "Encoded", "ScaledMatrix", "TritMatrix", "code_values", "dequantize",
    "dequantized_chunks", "largest_weights", "row_dequantizer", "whole", "whole_coded",
]

_SINGLE = np.dtype(np.float32)


class Encoded(Protocol):
    """Quantized matrix whose rows are held in memory or computed when they are requested.

    The members are as in :class:`TritMatrix`.
    """

    @property
    def depth(self) -> int: ...

    @property
    def table(self) -> np.ndarray: ...

    @property
    def form(self) -> Form: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    def take_rows(
        self, chunk: slice, groups: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return integers and codes for rows in ``chunk``: int8 (rows, Kp), uint8 (rows, Kp/16).

        Pass their weights as ``groups``, float32 (n, 16), if they are already loaded.
        """


class ScaledMatrix(Protocol):
    """Quantized matrix with scales of either kind.

    The members are as in :class:`TritMatrix` and :class:`DirectMatrix`.
    """

    @property
    def depth(self) -> int: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def q(self) -> np.ndarray: ...

    @property
    def scales(self) -> CodedScales | DirectScales: ...

    @property
    def group(self) -> int: ...

    @property
    def form(self) -> Form: ...


class _Sizes:
    """Sizes of a matrix, and the check of its integers."""

    depth: int
    shape: tuple[int, int]
    q:     np.ndarray
    group: int

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
        """Groups per row. The last group may be shorter, and is padded with zeros."""
        return group_count(self.columns, self.group)

    @property
    def half_range(self) -> int:
        """Largest magnitude of an integer weight."""
        return half_range(self.depth)

    def _check_integers(self) -> None:
        half = half_range(self.depth)
        if len(self.shape) != 2 or min(self.shape) < 1:
            raise ValueError(f"shape must be two positive integers, not {self.shape!r}")
        check_group(self.group, self.columns)
        _check_array("q", self.q, np.int8, (self.rows, GROUP * group_count(self.columns)))
        if not -half <= self.q.min() <= self.q.max() <= half:
            raise ValueError(f"q must be within {-half}..{half} at depth {self.depth}, "
                             f"not {self.q.min()}..{self.q.max()}")


@dataclass(frozen=True, eq=False)
class TritMatrix(_Sizes):
    """A matrix with coded scales; ``w[n, k] = table[codes[n, k // group]] * q[n, k] / half_range``.

    The equation defines the integer product. ``form`` adds the rounding of a dequantized weight.

    Members
    -------
    depth : int
        Trits per weight, 1..4.
    shape : tuple
        Rows N and columns K, without padding.
    q : numpy.ndarray
        Integer weights within the half range: int8 (N, Kp). Kp is K rounded up to a multiple of 16.
    codes : numpy.ndarray
        Scale code of each group, 0..26: uint8 (N, ceil(K / group)).
    table : numpy.ndarray
        Scale of each code, finite and positive: float32 (27,).
    form : tritstream.golden.rounding.Form
        Order of operations and roundings by which dequantizing computes a weight.
    group : int
        Consecutive weights of a row that share a scale: a multiple of 16 up to Kp.

    Raises :class:`ValueError` for inconsistent members.
    """

    depth: int
    shape: tuple[int, int]
    q:     np.ndarray
    codes: np.ndarray
    table: np.ndarray
    form:  Form = FORM
    group: int = GROUP

    def __post_init__(self) -> None:
        self._check_integers()
        _check_array("codes", self.codes, np.uint8, (self.rows, self.groups))
        CodedScales(self.codes, self.table)

    @property
    def scales(self) -> CodedScales:
        """Scales of the groups."""
        return CodedScales(self.codes, self.table)

    @property
    def information_bits(self) -> float:
        """Information content in bits per weight, scale codes included."""
        return information_bits(self.depth, self.group)

    @property
    def stored_bits(self) -> float:
        """Stored bits per weight, scale codes included, padding and table not."""
        return stored_bits(self.depth, self.group)

    def take_rows(
        self, chunk: slice, groups: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return integers and codes for the rows in ``chunk``; ``groups`` is not used."""
        return self.q[chunk], self.codes[chunk]


@dataclass(frozen=True, eq=False)
class DirectMatrix(_Sizes):
    """A matrix with direct scales; ``w[n, k] = s[n, k // group] * q[n, k] / half_range``.

    Members
    -------
    depth, shape, q, form, group
        As in :class:`TritMatrix`.
    scales : DirectScales
        Scales of the groups.

    Raises :class:`ValueError` for inconsistent members.
    """

    depth:  int
    shape:  tuple[int, int]
    q:      np.ndarray
    scales: DirectScales
    group:  int = GROUP
    form:   Form = FORM

    def __post_init__(self) -> None:
        self._check_integers()
        if (self.scales.rows, self.scales.groups) != (self.rows, self.groups):
            raise ValueError(f"scales must be of {self.rows} rows with {self.groups} groups, "
                             f"not {self.scales.rows} with {self.scales.groups}")


def whole(matrix: Encoded | DirectMatrix) -> TritMatrix | DirectMatrix:
    """Return a matrix with all integers and codes in memory."""
    return matrix if isinstance(matrix, DirectMatrix) else whole_coded(matrix)


def whole_coded(matrix: Encoded) -> TritMatrix:
    """Return a matrix with coded scales as :func:`whole` does."""
    if isinstance(matrix, TritMatrix):
        return matrix
    rows, groups = matrix.shape[0], group_count(matrix.shape[1])
    q = np.empty((rows, GROUP * groups), np.int8)
    codes = np.empty((rows, groups), np.uint8)

    def work(chunk: slice) -> None:
        q[chunk], codes[chunk] = matrix.take_rows(chunk)

    run_in_threads(work, row_chunks(*q.shape))
    return TritMatrix(matrix.depth, matrix.shape, q, codes, matrix.table)


def dequantize(matrix: ScaledMatrix) -> np.ndarray:
    """Return the weights of a quantized matrix, computed in its form: float32 (N, K)."""
    weights = np.empty(matrix.shape, np.float32)
    for chunk, rows in dequantized_chunks(matrix):
        weights[chunk] = rows
    return weights


def dequantized_chunks(
    matrix: ScaledMatrix, dtype: np.dtype = _SINGLE,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the weights a few rows at a time, top to bottom: the slice of rows, and (rows, K).

    ``dtype`` is as for :func:`code_values`.
    """
    dequantize_rows = row_dequantizer(matrix, dtype)
    for chunk in row_chunks(*matrix.q.shape):
        yield chunk, dequantize_rows(chunk)


def row_dequantizer(
    matrix: ScaledMatrix, dtype: np.dtype = _SINGLE,
) -> Callable[[Rows], np.ndarray]:
    """Return a function that dequantizes rows, given as a slice or as an array of row numbers.

    ``dtype`` is as for :func:`code_values`.
    """
    return _looked_up(matrix, dtype) if isinstance(matrix, TritMatrix) else (
        _computed(matrix, dtype))


def _looked_up(matrix: TritMatrix, dtype: np.dtype) -> Callable[[Rows], np.ndarray]:
    """Return a function that looks weights up, because there are few: 27 (2h + 1) at most."""
    weights, units = code_values(matrix, dtype), matrix.group // GROUP

    def rows(chunk: Rows) -> np.ndarray:
        zeros = weights.shape[1] * matrix.codes[chunk].astype(np.int32) + matrix.half_range
        q = matrix.q[chunk].reshape(len(zeros), -1, GROUP)
        if units > 1:
            zeros = np.repeat(zeros, units, axis=1)[:, :q.shape[1]]
        return weights.take(q + zeros[..., None]).reshape(len(zeros), -1)[:, :matrix.columns]
    return rows


def _computed(matrix: ScaledMatrix, dtype: np.dtype) -> Callable[[Rows], np.ndarray]:
    half, columns = half_range(matrix.depth), matrix.shape[1]

    def rows(chunk: Rows) -> np.ndarray:
        scales = np.repeat(matrix.scales.values(chunk), matrix.group, axis=1)[:, :columns]
        weights = matrix.form.weights(scales, matrix.q[chunk, :columns], half)
        with np.errstate(over="ignore", under="ignore"):
            return weights.astype(dtype, copy=False)
    return rows


def code_values(matrix: Encoded, dtype: np.dtype = _SINGLE) -> np.ndarray:
    """Return every value that a weight may have: (27, 2h + 1), by code and integer, -h first.

    All functions that dequantize weights take them from here. In a ``dtype`` other than float32
    the values are rounded half to even, and to infinity when they are beyond its range.
    """
    half = half_range(matrix.depth)
    values = matrix.form.weights(matrix.table[:, None], np.arange(-half, half + 1), half)
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(dtype, copy=False)


def largest_weights(matrix: ScaledMatrix) -> np.ndarray:
    """Return the weights of largest magnitude that each scale can make: float32."""
    scales, half = matrix.scales, half_range(matrix.depth)
    own = scales.table if isinstance(scales, CodedScales) else scales.values(slice(None))
    return matrix.form.weights(own, np.array(half), half)


def _check_array(name: str, array: np.ndarray, dtype: type, shape: tuple[int, int]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name} must be {np.dtype(dtype)} {shape}, "
                         f"not {array.dtype} {array.shape}")
