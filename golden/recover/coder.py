"""Codes and integers of stored weights, by look-up, when the scale table is known."""

from collections.abc import Callable

import numpy as np

from tritstream.golden.fixed_point import GROUP, SCALES, half_range
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.recover.magnitudes import grouped
from tritstream.golden.rounding import Form, float_bits, magnitude_mask, to_dtype
from tritstream.golden.row_chunks import in_threads, row_chunks

__all__ = ["Coder", "encode"]

#: Base-2 logarithm of the slots of a hash table: so many that few multipliers make two keys meet.
_SLOTS = 20


class Coder:
    """What each stored value can be, in a dtype, of a table (27,), a form and a half range.

    A group takes the largest scale that makes all its weights, on which a 17-bit mantissa loses
    least; a group of zeros takes code 0. Of several integers that make a weight it is the nearest.
    """

    def __init__(self, table: np.ndarray, dtype: np.dtype, form: Form, half: int):
        q = np.arange(1, half + 1)
        made = to_dtype(form.weights(table[:, None], q, half), dtype)
        # What is too large, or rounds to zero, stands for no weight; zero itself is 0.
        made[~(np.isfinite(made) & (made > 0))] = 0
        bits = float_bits(made.astype(dtype))
        known = np.unique(np.append(bits, bits.dtype.type(0)))
        #: Numbers of stored values, uint16, of the bits that hold them, in any shape.
        self.numbers = (_direct if bits.dtype.itemsize == 2 else _hashed)(known)
        self._stride = 2 * (known.size + 1)
        places = np.searchsorted(known, bits)
        self._masks = self._both_signs(_masks(places, known.size))
        positive = _integers(places, known.size, table, made, half)
        self._integers = self._both_signs(positive, -positive).ravel()

    def codes(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Code of each group (n, 16), uint8 (n,), and whether it has one; 0 where it has not."""
        masks = np.bitwise_and.reduce(self._masks.take(numbers), axis=1)
        # The exponent of a float64 is the place of the highest bit.
        highest = (masks.astype(np.float64).view(np.int64) >> 52) - 1023
        highest[(masks == 0) | (highest == SCALES)] = 0
        return highest.astype(np.uint8), masks > 0

    def integers(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Integer weights of groups, int8 (n, 16)."""
        return self._integers.take(numbers + self._stride * codes.astype(np.int32)[:, None])

    @staticmethod
    def _both_signs(positive: np.ndarray, negative: np.ndarray | None = None) -> np.ndarray:
        return np.concatenate([positive, positive if negative is None else negative], axis=-1)


def encode(
    weights: np.ndarray, table: np.ndarray, depth: int, form: Form, name: str = "matrix",
) -> TritMatrix:
    """The matrix (N, K) that stands for ``weights``; signs of zeros are lost.

    Raises :class:`ValueError` for weights that the table does not make.
    """
    coder = Coder(table, weights.dtype, form, half_range(depth))
    bits, (rows, columns) = float_bits(weights), weights.shape
    groups = -(-columns // GROUP)
    q = np.empty((rows, groups, GROUP), np.int8)
    codes = np.empty((rows, groups), np.uint8)

    def work(chunk: slice) -> bool:
        numbers = coder.numbers(grouped(bits, chunk))
        found, fits = coder.codes(numbers)
        codes[chunk] = found.reshape(-1, groups)
        q[chunk] = coder.integers(numbers, found).reshape(-1, groups, GROUP)
        return bool(fits.all())

    if not all(in_threads(work, row_chunks(rows, columns))):
        raise ValueError(f"{name} is not what its table was found for; run the command again")
    return TritMatrix(depth, (rows, columns), q.reshape(rows, -1), codes, table, form)


def _masks(places: np.ndarray, count: int) -> np.ndarray:
    """Codes that can make each known value, as bits: uint32 (count + 1,), the last unknown.

    Zero has one bit more, which a group keeps only when all of it is zero.
    """
    masks = np.zeros(count + 1, np.uint32)
    for code, row in enumerate(places):
        masks[row] |= np.uint32(1 << code)
    masks[0] = (2 << SCALES) - 1
    return masks


def _integers(
    places: np.ndarray, count: int, table: np.ndarray, made: np.ndarray, half: int,
) -> np.ndarray:
    """Integer of each known value by code: int8 (27, count + 1), 0 where a code has none."""
    integers = np.zeros((SCALES, count + 1), np.int8)
    q = np.arange(1, half + 1)
    far = np.abs(table[:, None].astype(np.float64) * q / half - made)
    order = np.argsort(-far, axis=1, kind="stable")
    # Of several that are written to one place the last counts: the nearest.
    np.put_along_axis(integers, np.take_along_axis(places, order, 1), order + 1, 1)
    integers[:, 0] = 0
    return integers


def _direct(known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Numbers of 16-bit values: places in ``known`` or its size; then those of negative values."""
    table = np.full((2, 1 << 15), known.size, np.uint16)
    table[:, known] = np.arange(known.size)
    table[1] += np.uint16(known.size + 1)
    return table.ravel().take


def _hashed(known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The same of 32-bit values, by a hash in which no two of ``known`` meet."""
    rng, shift = np.random.default_rng(0), np.uint32(32 - _SLOTS)
    multiplier = np.uint32(1)
    while np.unique(slots := known * multiplier >> shift).size < known.size:
        multiplier = np.uint32(rng.integers(1 << 32) | 1)
    table = np.zeros(1 << _SLOTS, np.uint16)
    table[slots] = np.arange(known.size)
    mask, offset = magnitude_mask(known.dtype), np.uint16(known.size + 1)

    def numbers(bits: np.ndarray) -> np.ndarray:
        magnitudes = bits & mask
        found = table.take(magnitudes * multiplier >> shift)
        found[known.take(found) != magnitudes] = known.size
        return found + (bits > mask) * offset
    return numbers
