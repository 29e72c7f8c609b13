"""A packed matrix that this machine's processor multiplies, with golden's integers."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
from numba import config

from tritstream.golden.activation import BITNET, LEVELS, SYMMETRIC, check_finite
from tritstream.golden.fixed_point import GROUP, ROWS, mantissas, result_scale
from tritstream.golden.gemv import check_activations
from tritstream.host.kernels.lane_words import lane_words
from tritstream.host.kernels.numba_activations import (
    quantize_bitnet,
    quantize_vectors,
    write_results,
)
from tritstream.host.kernels.numba_products import LANES, add_row_sums

__all__ = ["CpuMatrix"]

#: Products of a weight and an activation for which threads save more time than they cost.
_SHARED = 1 << 19


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
        self._words = lane_words(tiles, depth, shape)
        self._mantissas, self._shape = mantissas(table), shape
        self._unit = float(result_scale(table, depth, 1.0))

    @property
    def nbytes(self) -> int:
        """Bytes of weights and scale codes in memory."""
        return self._words.numbers.nbytes + self._words.codes.nbytes

    def linear(self, x: np.ndarray, bits: int, rule: str = SYMMETRIC) -> np.ndarray:
        """Multiply float32 (T, K) with 8 or 16 bits per activation; return float32 (T, N).

        8 bits are made by ``rule``, one of :data:`.RULES`. Raises :class:`ValueError` for values
        that are not finite.
        """
        x = np.ascontiguousarray(x)
        digits = np.zeros((len(x) * bits // 8, GROUP * self._words.groups), np.int8)
        scales, results = np.empty(len(x)), np.empty((len(x), self._shape[0]), np.float32)
        finite = (quantize_bitnet(x, digits, scales) if rule == BITNET and bits == 8 else
                  quantize_vectors(x, float(LEVELS[bits]), digits, scales))
        if not finite:
            check_finite(x)
        sums = self._sums(digits.reshape(-1, self._words.groups, GROUP))
        write_results(sums, self._unit * scales, results)
        return results

    def gemv(self, x: np.ndarray) -> np.ndarray:
        """Return row sums for int8 activations: (K,) to int64 (N,), or (B, K) to int64 (B, N).

        They equal the row sums of :func:`tritstream.golden.gemv.gemv`, and so do the errors.
        """
        check_activations(x, self._shape[1])
        rows, columns = self._shape
        vectors = np.zeros((x.size // columns, GROUP * self._words.groups), np.int8)
        vectors[:, :columns] = x
        shape = len(self._words), len(vectors), ROWS, LANES
        sums = self._sums(vectors.reshape(-1, self._words.groups, GROUP)).reshape(shape)
        by_vector = sums.transpose(1, 0, 3, 2).reshape(len(vectors), len(sums) * ROWS * LANES)
        return by_vector[:, :rows].reshape(*x.shape[:-1], rows)

    def _sums(self, x: np.ndarray) -> np.ndarray:
        """Return row sums by block and lane: int8 (B, groups, 16) to int64 (blocks, B, 160)."""
        sums = np.zeros((len(self._words), len(x), ROWS * LANES), np.int64)

        def work(part: slice) -> None:
            add_row_sums(self._words.numbers[part], self._words.codes[part], x, self._mantissas,
                         sums[part])

        _share(work, len(sums), sums.size * GROUP * self._words.groups)
        return sums


def _share(work: Callable[[slice], None], blocks: int, products: int) -> None:
    """Run ``work`` on all blocks, in threads if there are enough products."""
    parts = min(_THREADS, blocks) if products >= _SHARED else 1
    first, *others = (slice(*ends) for ends in pairwise(
        blocks * part // parts for part in range(parts + 1)))
    waiting = [_pool().submit(work, part) for part in others]
    work(first)
    for part in waiting:
        part.result()


#: As many as numba would use, which NUMBA_NUM_THREADS sets.
_THREADS: int = vars(config)["NUMBA_NUM_THREADS"]


@cache
def _pool() -> ThreadPoolExecutor:
    """Return threads that stay, because to start them takes longer than many products."""
    return ThreadPoolExecutor(_THREADS, "products")


# A forked process has none of the threads. Windows has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
