"""Distinct magnitudes of a matrix, and groups that contain them."""

from dataclasses import dataclass, replace

import numpy as np

from tritstream.golden.fixed_point import GROUP, MAX_DEPTH, SCALES, half_range
from tritstream.golden.rounding import float_bits, magnitude_mask
from tritstream.golden.row_chunks import in_threads, row_chunks

__all__ = ["MAX_DISTINCT", "Magnitudes", "grouped", "pick_groups", "scan"]

#: Largest number of distinct magnitudes that 27 scales can produce, at the largest depth.
MAX_DISTINCT = SCALES * half_range(MAX_DEPTH)

#: Groups examined first, in addition to those in which a magnitude occurs for the first time.
_SAMPLE = 1024
#: Number of groups with many magnitudes, and of those that decide whether a form is promising.
_RICH, _FEW = 64, 8


@dataclass(frozen=True)
class Magnitudes:
    """Distinct magnitudes of a matrix.

    Members
    -------
    bits : numpy.ndarray
        Distinct magnitudes except zero, ascending, as unsigned integers of the stored dtype's size.
    dtype : numpy.dtype
        Dtype of the stored weights.
    groups : numpy.ndarray
        Numbers of groups, counted row by row, that together contain every magnitude, and of other
        groups, evenly spread: int64.
    rows : int
        Number of rows examined: fewer than N only if there are too many magnitudes.
    negative_zeros : int
        Number of weights that are a negative zero, in the rows examined.
    """

    bits:           np.ndarray
    dtype:          np.dtype
    groups:         np.ndarray
    rows:           int
    negative_zeros: int

    @property
    def too_many(self) -> bool:
        """Whether there are more magnitudes than 27 scales can produce at any depth."""
        return self.bits.size > MAX_DISTINCT

    @property
    def values(self) -> np.ndarray:
        """The magnitudes as float32."""
        return self.bits.view(self.dtype).astype(np.float32)

    def indices(self, groups: np.ndarray) -> np.ndarray:
        """Return 1-based indices in ``bits`` of the magnitudes of groups (n, 16); 0 for zero."""
        magnitudes = groups & magnitude_mask(groups.dtype)
        return np.where(magnitudes, np.searchsorted(self.bits, magnitudes) + 1, 0)

    def of_few(self, bits: np.ndarray) -> tuple["Magnitudes", float]:
        """Choose a few groups of the matrix (N, K) with many magnitudes each, of similar size.

        Returns their magnitudes, and the least of the groups' largest magnitudes.
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
    """Return the groups of some rows (N, K): (n, 16), the last group per row zero-padded."""
    chosen, padding = bits[rows], -bits.shape[1] % GROUP
    if padding:
        chosen = np.pad(chosen, ((0, 0), (0, padding)))
    return chosen.reshape(-1, GROUP)


def pick_groups(bits: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return some groups of a matrix (N, K), by their numbers: (n, 16), zero-padded."""
    rows, groups = np.divmod(numbers, -(-bits.shape[1] // GROUP))
    columns = GROUP * groups[:, None] + np.arange(GROUP)
    inside = columns < bits.shape[1]
    picked = bits[rows[:, None], np.where(inside, columns, 0)]
    return np.where(inside, picked, picked.dtype.type(0))


def scan(weights: np.ndarray, name: str = "matrix") -> Magnitudes:
    """Collect the distinct magnitudes of a matrix (N, K) of float16, bfloat16 or float32.

    Stops when there are more than :data:`MAX_DISTINCT`. Raises :class:`ValueError` for another
    shape, and for a value that is not finite. The message has its row and column.
    """
    if weights.ndim != 2 or 0 in weights.shape:
        raise ValueError(f"{name} must be a matrix with rows and columns, not {weights.shape}")
    bits = float_bits(weights)
    mask = magnitude_mask(bits.dtype)
    infinity = float_bits(np.array(np.inf, weights.dtype))
    known, negative_zeros = np.empty(0, bits.dtype), 0
    groups: list[np.ndarray] = []
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
    """Return the distinct integers, ascending."""
    if bits.dtype.itemsize > 2:
        return np.unique(bits)
    return np.flatnonzero(np.bincount(bits.ravel())).astype(bits.dtype)


def _refuse(weights: np.ndarray, rows: slice, name: str) -> None:
    with np.errstate(invalid="ignore"):     # for signaling NaNs
        row, column = np.argwhere(~np.isfinite(weights[rows]))[0]
    row += rows.start
    raise ValueError(f"{name} must be finite, not {weights[row, column]} at row {row}, "
                     f"column {column}")


def _first_groups(bits: np.ndarray, rows: slice, new: np.ndarray) -> np.ndarray:
    """Return the number of the first group in some rows that contains each of the magnitudes."""
    magnitudes = grouped(bits, rows).ravel() & magnitude_mask(bits.dtype)
    if bits.dtype.itemsize > 2:
        values, indices = np.unique(magnitudes, return_index=True)
        first = indices[np.searchsorted(values, new)]
    else:
        indices = np.empty(1 << 15, np.int64)
        # Indices are written in descending order, so that the first one remains.
        indices[magnitudes[::-1]] = np.arange(magnitudes.size)[::-1]
        first = indices[new]
    return np.unique(first // GROUP) + rows.start * -(-bits.shape[1] // GROUP)


def _sample(shown: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    count = shape[0] * -(-shape[1] // GROUP)
    spread = np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)
    return np.unique(np.concatenate([*shown, spread]))
