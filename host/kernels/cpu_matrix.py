"""A packed matrix that this machine's processor multiplies, with golden's integers."""

from functools import cache

import numpy as np

from tritstream.golden.activation import BITNET, LEVELS, SYMMETRIC, check_finite
from tritstream.golden.fixed_point import GROUP, mantissas, result_scale
from tritstream.golden.gemv import check_activations
from tritstream.host.kernels.numba_activations import (
    differences,
    prepare_job,
    quantize_bitnet,
    quantize_vectors,
    write_results,
)
from tritstream.host.kernels.numba_products import FIELDS, LANES, SLOTS, block_products
from tritstream.host.kernels.packed_words import PackedWords
from tritstream.host.kernels.threads import Sharing

__all__ = ["CpuMatrix"]

#: Products of a weight and an activation for which threads save more time than they cost.
_LEAST = 1 << 19


class CpuMatrix:
    """Packed matrix W (N, K) in memory, and its exact product with int8 vectors.

    Parameters
    ----------
    tiles : numpy.ndarray
        uint8 (ceil(N/5), ceil(K/16), 16d+3). They are copied into another order.
    table : numpy.ndarray
        Scales, float32 (27,).
    depth : int
        Trits per weight, d.
    shape : tuple
        N and K.

    Raises :class:`ValueError` for tiles or a table that do not fit.
    """

    def __init__(self, tiles: np.ndarray, table: np.ndarray, depth: int, shape: tuple[int, int]):
        self._words = PackedWords(tiles, depth, shape)
        self._mantissas, self._shape = _bytes(mantissas(table)), shape
        self._unit = float(result_scale(table, depth, 1.0))
        self._differences = differences(depth)

    @property
    def nbytes(self) -> int:
        """Bytes of weights and scale codes in memory."""
        return self._words.numbers.nbytes + self._words.codes.nbytes

    def tiles(self) -> np.ndarray:
        """Return the tiles again: :meth:`.PackedWords.tiles`."""
        return self._words.tiles()

    def linear(self, x: np.ndarray, bits: int, rule: str = SYMMETRIC) -> np.ndarray:
        """Multiply float32 (T, K) with 8 or 16 bits per activation; return float32 (T, N).

        8 bits are made by ``rule``, one of :data:`.RULES`. Raises :class:`ValueError` for values
        that are not finite.
        """
        x, digits = np.ascontiguousarray(x), self._room(len(x) * bits // 8)
        scales, results = np.empty(len(x)), np.empty((len(x), self._shape[0]), np.float32)
        finite = (quantize_bitnet(x, digits, scales) if rule == BITNET and bits == 8 else
                  quantize_vectors(x, float(LEVELS[bits]), digits, scales))
        if not finite:
            check_finite(x)
        write_results(self._sums(digits), self._unit * scales, results)
        return results

    def gemv(self, x: np.ndarray) -> np.ndarray:
        """Return row sums for int8 activations: (K,) to int64 (N,), or (B, K) to int64 (B, N).

        They equal the row sums of :func:`tritstream.golden.gemv.gemv`, and so do the errors.
        """
        check_activations(x, self._shape[1])
        rows, columns = self._shape
        vectors = self._room(x.size // columns)
        vectors[:, :columns] = x
        sums = self._sums(vectors).transpose(1, 0, 2)
        by_row = sums.reshape(len(vectors), LANES * len(self._words))
        return by_row[:, :rows].reshape(*x.shape[:-1], rows)

    def _room(self, count: int) -> np.ndarray:
        """Return int8 vectors of zeros, with room for whole groups."""
        return np.zeros((count, GROUP * self._words.groups), np.int8)

    def _sums(self, x: np.ndarray) -> np.ndarray:
        """Return row sums by block: int8 (B, 16 * groups) to int64 (blocks, B, 64)."""
        words = self._words
        factors = np.empty((words.groups, len(self._differences), len(x), SLOTS), np.uint16)
        sums = np.empty((len(words), len(x), LANES), np.int64)
        job = np.empty(FIELDS, np.int64)
        prepare_job(x, self._differences, words.depth, words.numbers, words.codes, self._mantissas,
                    factors, sums, job)
        _sharing().run(job.__array_interface__["data"][0], sums.size * x.shape[1])
        return sums


def _bytes(values: np.ndarray) -> np.ndarray:
    """Return the bytes of mantissas, lowest first, padded: int64 (27,) to uint8 (3, 32)."""
    padded = np.pad(values, (0, 32 - len(values)))
    return np.stack([padded >> 8 * byte & 255 for byte in range(3)]).astype(np.uint8)


@cache
def _sharing() -> Sharing:
    """Return what calls :func:`.block_products`."""
    return Sharing(block_products().address, _LEAST)
