"""Quantized matrices: integers, scale codes and a scale table, and the weights that they stand for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tritstream.golden.fixed_point import (
    GROUP,
    SCALES,
    check_table,
    group_count,
    half_range,
    information_bits,
    stored_bits,
)
from tritstream.golden.rounding import FORM, Form
from tritstream.golden.row_chunks import row_chunks, run_in_threads

__all__ = [
    "Encoded", "TritMatrix", "code_values", "dequantize", "dequantized_chunks", "row_dequantizer",
    "whole",
]


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
    form : tritstream.golden.rounding.Form
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


def _check_array(name: str, array: np.ndarray, dtype: type, shape: tuple[int, int]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name} must be {np.dtype(dtype)} {shape}, "
                         f"not {array.dtype} {array.shape}")
