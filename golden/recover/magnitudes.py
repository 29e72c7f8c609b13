"""Distinct magnitudes of a matrix, and groups that show them."""

from dataclasses import dataclass, replace

import numpy as np

from tritstream.golden.fixed_point import GROUP, MAX_DEPTH, SCALES, half_range
from tritstream.golden.rounding import float_bits, magnitude_mask
from tritstream.golden.row_chunks import in_threads, row_chunks

__all__ = ["MAX_DISTINCT", "Magnitudes", "grouped", "pick_groups", "scan"]

#: What 27 scales can make of the deepest integers.
MAX_DISTINCT = SCALES * half_range(MAX_DEPTH)

#: Groups looked at first, besides those in which a magnitude is seen for the first time.
_SAMPLE = 1024
#: Groups with many magnitudes, and those among them that decide whether a form is looked at closer.
_RICH, _FEW = 64, 8


@dataclass(frozen=True)
class Magnitudes:
    """What a matrix is made of.

    Members
    -------
    bits : numpy.ndarray
        Distinct magnitudes but zero, ascending, as unsigned integers of the stored dtype's size.
    dtype : numpy.dtype
        The stored dtype.
    groups : numpy.ndarray
        int64: numbers of groups, row by row, that show every magnitude, and others evenly spread.
    rows : int
        Rows looked at: fewer than there are only when there are too many magnitudes.
    negative_zeros : int
        Weights that are a negative zero, in the rows looked at.
    """

    bits:           np.ndarray
    dtype:          np.dtype
    groups:         np.ndarray
    rows:           int
    negative_zeros: int

    @property
    def too_many(self) -> bool:
        """Whether no 27 scales can make them, at any depth."""
        return self.bits.size > MAX_DISTINCT

    @property
    def values(self) -> np.ndarray:
        """The same as float32."""
        return self.bits.view(self.dtype).astype(np.float32)

    def indices(self, groups: np.ndarray) -> np.ndarray:
        """Places of the magnitudes of groups (n, 16) in ``bits``, counted from 1; zero is 0."""
        magnitudes = groups & magnitude_mask(groups.dtype)
        return np.where(magnitudes, np.searchsorted(self.bits, magnitudes) + 1, 0)

    def of_few(self, bits: np.ndarray) -> tuple["Magnitudes", float]:
        """A few groups of the matrix (N, K) with many magnitudes each, alike in size.

        Returns what they are made of, and the least of the largest magnitudes of a group.
        """
        groups = pick_groups(bits, self.groups) & magnitude_mask(bits.dtype)
        groups.sort(axis=1)
        distinct = np.count_nonzero(np.diff(groups, axis=1), axis=1)
        rich = np.argsort(-distinct, kind="stable")[:_RICH]
        rich = rich[groups[rich, -1] > 0]
        by_size = rich[np.argsort(groups[rich, -1], kind="stable")]
        first = max(0, by_size.size // 2 - _FEW // 2)
        few = np.sort(by_size[first:first + _FEW])
        known = np.unique(groups[few])
        some = replace(self, bits=known[known > 0], groups=self.groups[few])
        return some, float(groups[few, -1].min(keepdims=True).view(self.dtype)[0])


def grouped(bits: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
    """Groups of some rows of a matrix (N, K): (n, 16), the last of a row padded with zeros."""
    part, spare = bits[rows], -bits.shape[1] % GROUP
    if spare:
        part = np.pad(part, ((0, 0), (0, spare)))
    return part.reshape(-1, GROUP)


def pick_groups(bits: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Some groups of a matrix (N, K), by their numbers: (n, 16)."""
    rows, places = np.divmod(numbers, -(-bits.shape[1] // GROUP))
    columns = GROUP * places[:, None] + np.arange(GROUP)
    inside = columns < bits.shape[1]
    picked = bits[rows[:, None], np.where(inside, columns, 0)]
    return np.where(inside, picked, picked.dtype.type(0))


def scan(weights: np.ndarray, name: str = "matrix") -> Magnitudes:
    """Magnitudes of a matrix (N, K) of float16, bfloat16 or float32.

    Stops when there are more than :data:`MAX_DISTINCT`. Raises :class:`ValueError` for another
    shape, and for a value that is not finite (it names the first such place).
    """
    if weights.ndim != 2 or 0 in weights.shape:
        raise ValueError(f"{name} must be a matrix with rows and columns, not {weights.shape}")
    bits = float_bits(weights)
    mask = magnitude_mask(bits.dtype)
    infinity = float_bits(np.array(np.inf, weights.dtype))
    known, groups, negative_zeros = np.empty(0, bits.dtype), [], 0
    chunks = list(row_chunks(*bits.shape))
    for chunk, values in zip(chunks, in_threads(lambda rows: _distinct(bits[rows]), chunks),
                             strict=True):
        new = np.setdiff1d(values & mask, known)
        new = new[new > 0]
        if new.size and new[-1] >= infinity:
            _refuse(weights, chunk, name)
        known = np.union1d(known, new)
        if known.size > MAX_DISTINCT:
            break
        if new.size:
            groups.append(_first_groups(bits, chunk, new))
        if values[-1] > mask and mask + 1 in values:
            negative_zeros += int((bits[chunk] == mask + 1).sum())
    return Magnitudes(known, weights.dtype, _sample(groups, bits.shape), chunk.stop, negative_zeros)


def _distinct(bits: np.ndarray) -> np.ndarray:
    """Distinct integers, ascending."""
    if bits.dtype.itemsize > 2:
        return np.unique(bits)
    return np.flatnonzero(np.bincount(bits.ravel())).astype(bits.dtype)


def _refuse(weights: np.ndarray, rows: slice, name: str) -> None:
    with np.errstate(invalid="ignore"):     # of a NaN that signals
        row, column = np.argwhere(~np.isfinite(weights[rows]))[0]
    row += rows.start
    raise ValueError(f"{name} must be finite, not {weights[row, column]} at row {row}, "
                     f"column {column}")


def _first_groups(bits: np.ndarray, rows: slice, new: np.ndarray) -> np.ndarray:
    """Number of the first group of some rows that shows each of these magnitudes."""
    magnitudes = grouped(bits, rows).ravel() & magnitude_mask(bits.dtype)
    if bits.dtype.itemsize > 2:
        values, places = np.unique(magnitudes, return_index=True)
        first = places[np.searchsorted(values, new)]
    else:
        places = np.empty(1 << 15, np.int64)
        # Of several places the last written counts: the first one.
        places[magnitudes[::-1]] = np.arange(magnitudes.size)[::-1]
        first = places[new]
    return np.unique(first // GROUP) + rows.start * -(-bits.shape[1] // GROUP)


def _sample(shown: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    count = shape[0] * -(-shape[1] // GROUP)
    spread = np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)
    return np.unique(np.concatenate([*shown, spread]))
