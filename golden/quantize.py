"""Quantizer of profile tritllm-v2: weights to integers, scale codes and a scale table.

Everything is elementwise float32 or a sum in a stated order, without fused multiply-add, so that
any implementation can give the same bits.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from golden.chunks import row_chunks
from golden.fixed import GROUP, SCALES, check_table, half_range, information_bits, stored_bits
from golden.forms import FORM, Form, rec

__all__ = [
    "CODEC", "TritMatrix", "dequantize", "dequantized_chunks", "levels", "quantize", "rec",
    "row_dequantizer",
]

#: Name of the profile in packed checkpoints.
CODEC = "tritllm-v2"

_SINGLE = np.dtype(np.float32)

#: Places of the candidate scales among the ascending magnitudes of a group, in order of trial.
_CANDIDATES = (10, 12, 14, 15)


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
        return -(-self.columns // GROUP)

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


def quantize(weights: np.ndarray, depth: int, name: str = "matrix") -> TritMatrix:
    """Quantize a matrix (N, K) of any float dtype; works on a few rows at a time.

    Raises :class:`ValueError` for a depth outside 1..4, another shape, or a value that is not
    finite as float32 (it names the matrix and the first such place).
    """
    half = half_range(depth)
    weights = np.asarray(weights)
    if weights.ndim != 2 or 0 in weights.shape:
        raise ValueError(f"{name} must be a matrix with rows and columns, not {weights.shape}")
    rows, columns = weights.shape
    groups = -(-columns // GROUP)
    scales = np.empty((rows, groups), np.float32)
    for chunk in row_chunks(rows, columns):
        scales[chunk] = _choose_scales(_grouped(weights, chunk, groups, name), half)
    table, codes = _code_scales(scales)
    q = np.empty((rows, GROUP * groups), np.int8)
    for chunk in row_chunks(rows, columns):
        coded = np.where(scales[chunk] > 0, table[codes[chunk]], np.float32(0))
        found = levels(_grouped(weights, chunk, groups, name), coded[..., None], half)
        q[chunk] = found.reshape(-1, GROUP * groups)
    return TritMatrix(int(depth), (rows, columns), q, codes, table)


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
    """What gives those of any rows: a look-up, for a matrix has few different weights."""
    half = matrix.half_range
    q = np.arange(-half, half + 1)
    with np.errstate(over="ignore", under="ignore"):
        weights = matrix.form.weights(matrix.table[:, None], q, half).astype(dtype)

    def rows(chunk: slice) -> np.ndarray:
        zeros = q.size * matrix.codes[chunk].astype(np.int32) + half
        places = matrix.q[chunk].reshape(-1, matrix.groups, GROUP) + zeros[..., None]
        return weights.take(places).reshape(len(zeros), -1)[:, :matrix.columns]
    return rows


def levels(weights: np.ndarray, scales: np.ndarray, half: int) -> np.ndarray:
    """Nearest integer weights, as float32: ``rint(clip(w / s, -1, 1) * half)``, 0 where s is 0.

    ``weights`` and ``scales`` are float32 and broadcast against each other.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        ratio = weights / scales
    np.copyto(ratio, np.float32(0), where=scales == 0)
    np.clip(ratio, np.float32(-1), np.float32(1), out=ratio)
    ratio *= np.float32(half)
    return np.rint(ratio, out=ratio)


def _check_array(name: str, array: np.ndarray, dtype: type, shape: tuple[int, int]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name} must be {np.dtype(dtype)} {shape}, "
                         f"not {array.dtype} {array.shape}")


def _grouped(weights: np.ndarray, chunk: slice, groups: int, name: str) -> np.ndarray:
    """Some rows as float32 (rows, groups, 16), padded with zeros; raises unless finite."""
    rows = chunk.stop - chunk.start
    padded = np.zeros((rows, GROUP * groups), np.float32)
    with np.errstate(over="ignore"):
        padded[:, :weights.shape[1]] = weights[chunk]
    finite = np.isfinite(padded)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(f"{name} must be finite, not {padded[row, column]} at row "
                         f"{chunk.start + row}, column {column}")
    return padded.reshape(rows, groups, GROUP)


def _choose_scales(weights: np.ndarray, half: int) -> np.ndarray:
    """Best candidate of each group by squared error: (rows, groups, 16) to (rows, groups)."""
    # Signs change neither an error nor a candidate. Places come first, groups last: (16, n).
    magnitudes = np.abs(weights.reshape(-1, GROUP)).T.copy()
    ascending = np.sort(magnitudes, axis=0)
    best = ascending[_CANDIDATES[0]].copy()
    least = _squared_error(magnitudes, best, half)
    for place in _CANDIDATES[1:]:
        error = _squared_error(magnitudes, ascending[place], half)
        better = error < least
        np.copyto(best, ascending[place], where=better)
        np.copyto(least, error, where=better)
    return best.reshape(weights.shape[:2])


def _squared_error(magnitudes: np.ndarray, scales: np.ndarray, half: int) -> np.ndarray:
    """Sum over the 16 places, in their order: (16, n) and (n,) to (n,)."""
    with np.errstate(over="ignore", under="ignore"):
        terms = magnitudes - rec(scales, levels(magnitudes, scales, half), half)
        terms *= terms
        error = np.zeros_like(scales)
        for term in terms:
            error += term
    return error


def _code_scales(scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale table float32 (27,), even in logarithm, and the code of each scale."""
    codes = np.zeros(scales.shape, np.uint8)
    largest = scales.max()
    if largest == 0:
        return np.ones(SCALES, np.float32), codes
    smallest = np.min(scales, where=scales > 0, initial=largest)
    low, high = math.log(float(smallest)), math.log(float(largest))
    step = (high - low) / (SCALES - 1)
    table = np.array([math.exp(low + step * k) for k in range(SCALES)]).astype(np.float32)
    if high > low:
        edges = sorted(math.exp(low + step * (k + 0.5)) for k in range(SCALES - 1))
        for chunk in row_chunks(*scales.shape):
            # side="left" counts the edges strictly smaller; in float64, as the edges are.
            codes[chunk] = np.searchsorted(edges, scales[chunk].astype(np.float64), side="left")
    return table, codes
