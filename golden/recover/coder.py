"""Codes and integers of stored weights, by look-up, for a known scale table."""

from collections.abc import Callable

import numpy as np

from tritstream.golden.fixed_point import GROUP, SCALES, half_range
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.recover.magnitudes import grouped
from tritstream.golden.rounding import Form, float_bits, magnitude_mask, to_dtype
from tritstream.golden.row_chunks import in_threads, row_chunks

__all__ = ["Coder", "encode"]

#: Base-2 logarithm of the size of a hash table, so large that few multipliers cause a collision.
_SLOTS = 20


class Coder:
    """Look-up of codes and integers for stored values in a dtype.

    A group gets the largest scale that produces all its weights, because a 17-bit mantissa is most
    accurate for large scales. A group of zeros gets code 0. If several integers produce a weight,
    the nearest one is taken.

    Parameters
    ----------
    table : numpy.ndarray
        Scale table: float32 (27,), ascending.
    dtype : numpy.dtype
        Dtype of the stored weights.
    form : tritstream.golden.rounding.Form
        Form in which the weights were computed.
    half : int
        Largest magnitude of an integer.

    Members
    -------
    numbers : callable
        Maps the bits of stored values, any shape, to numbers of the values, uint16.
    """

    def __init__(self, table: np.ndarray, dtype: np.dtype, form: Form, half: int) -> None:
        q = np.arange(1, half + 1)
        made = to_dtype(form.weights(table[:, None], q, half), dtype)
        # Values that overflow or round to zero represent no weight. Zero itself is integer 0.
        made[~(np.isfinite(made) & (made > 0))] = 0
        bits = float_bits(made.astype(dtype))
        known = np.unique(np.append(bits, bits.dtype.type(0)))
        self.numbers = (_direct if bits.dtype.itemsize == 2 else _hashed)(known)
        self._stride = 2 * (known.size + 1)
        indices = np.searchsorted(known, bits)
        self._masks = self._both_signs(_masks(indices, known.size))
        positive = _integers(indices, known.size, table, made, half)
        self._integers = self._both_signs(positive, -positive).ravel()

    def codes(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the code per group (n, 16), uint8 (n,), and whether it has one, bool (n,)."""
        masks = np.bitwise_and.reduce(self._masks.take(numbers), axis=1)
        # The exponent of a float64 is the index of the highest bit.
        highest = (masks.astype(np.float64).view(np.int64) >> 52) - 1023
        highest[(masks == 0) | (highest == SCALES)] = 0
        return highest.astype(np.uint8), masks > 0

    def integers(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the integer weights of groups: int8 (n, 16)."""
        return self._integers.take(numbers + self._stride * codes.astype(np.int32)[:, None])

    @staticmethod
    def _both_signs(positive: np.ndarray, negative: np.ndarray | None = None) -> np.ndarray:
        return np.concatenate([positive, positive if negative is None else negative], axis=-1)


def encode(
    weights: np.ndarray, table: np.ndarray, depth: int, form: Form, name: str = "matrix",
) -> TritMatrix:
    """Return the matrix that dequantizes to ``weights`` (N, K), except for signs of zeros.

    Raises :class:`ValueError` for weights that the table does not produce.
    """
    coder = Coder(table, weights.dtype, form, half_range(depth))
    bits, (rows, columns) = float_bits(weights), weights.shape
    groups = -(-columns // GROUP)
    q = np.empty((rows, groups, GROUP), np.int8)
    codes = np.empty((rows, groups), np.uint8)

    def work(chunk: slice) -> bool:
        numbers = coder.numbers(grouped(bits, chunk))
        some, fits = coder.codes(numbers)
        codes[chunk] = some.reshape(-1, groups)
        q[chunk] = coder.integers(numbers, some).reshape(-1, groups, GROUP)
        return bool(fits.all())

    if not all(in_threads(work, row_chunks(rows, columns))):
        raise ValueError(f"{name} is not what its table was found for; run the command again")
    return TritMatrix(depth, (rows, columns), q.reshape(rows, -1), codes, table, form)


def _masks(indices: np.ndarray, count: int) -> np.ndarray:
    """Return the codes that can produce each known value, as bit masks: uint32 (count + 1,).

    The last entry is for unknown values. Zero has an additional bit, which remains in the
    intersection over a group only if all its weights are zero.
    """
    masks = np.zeros(count + 1, np.uint32)
    for code, row in enumerate(indices):
        masks[row] |= np.uint32(1 << code)
    masks[0] = (2 << SCALES) - 1
    return masks


def _integers(
    indices: np.ndarray, count: int, table: np.ndarray, made: np.ndarray, half: int,
) -> np.ndarray:
    """Return the integer per code and known value: int8 (27, count + 1), 0 if there is none."""
    integers = np.zeros((SCALES, count + 1), np.int8)
    q = np.arange(1, half + 1)
    far = np.abs(table[:, None].astype(np.float64) * q / half - made)
    order = np.argsort(-far, axis=1, kind="stable")
    # Of several integers for one value, the last one written remains, which is the nearest.
    np.put_along_axis(integers, np.take_along_axis(indices, order, 1), order + 1, 1)
    integers[:, 0] = 0
    return integers


def _direct(known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a look-up of 16-bit values: their index in ``known``, or its size if unknown.

    Numbers of negative values follow those of positive values.
    """
    table = np.full((2, 1 << 15), known.size, np.uint16)
    table[:, known] = np.arange(known.size)
    table[1] += np.uint16(known.size + 1)
    return table.ravel().take


def _hashed(known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the same look-up for 32-bit values, by a hash without collisions in ``known``."""
    rng, shift = np.random.default_rng(0), np.uint32(32 - _SLOTS)
    multiplier = np.uint32(1)
    while np.unique(slots := known * multiplier >> shift).size < known.size:
        multiplier = np.uint32(rng.integers(1 << 32) | 1)
    table = np.zeros(1 << _SLOTS, np.uint16)
    table[slots] = np.arange(known.size)
    mask, offset = magnitude_mask(known.dtype), np.uint16(known.size + 1)

    def numbers(bits: np.ndarray) -> np.ndarray:
        magnitudes = bits & mask
        indices = table.take(magnitudes * multiplier >> shift)
        indices[known.take(indices) != magnitudes] = known.size
        return indices + (bits > mask) * offset
    return numbers
