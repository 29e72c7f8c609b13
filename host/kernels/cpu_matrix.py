"""A packed matrix that this machine's processor multiplies, with golden's integers."""

from functools import cache

import numpy as np

from tritstream.golden.activation import BITNET, LEVELS, SYMMETRIC, check_finite
from tritstream.golden.fixed_point import (
    GROUP,
    ROWS,
    SCALES,
    half_range,
    mantissas,
    result_scale,
    row_tiles,
    tiles_shape,
)
from tritstream.golden.gemv import check_activations
from tritstream.golden.packed_matrix import PackedMatrix, StoredMatrix, Tiles
from tritstream.golden.row_chunks import run_in_threads
from tritstream.golden.scales import CodedScales
from tritstream.golden.tiles import (
    check_tiles,
    check_trits,
    pack_trits,
    row_packer,
    trits_shape,
    unpack_codes,
)
from tritstream.host.kernels.numba_activations import (
    differences,
    prepare_job,
    quantize_bitnet,
    quantize_vectors,
    write_results,
)
from tritstream.host.kernels.numba_products import FIELDS, LANES, SLOTS, block_products
from tritstream.host.kernels.packed_words import PackedWords, from_lanes, to_lanes
from tritstream.host.kernels.threads import Sharing

__all__ = ["CpuMatrix"]

#: Products of a weight and an activation for which threads save more time than they cost.
_LEAST = 1 << 19


class CpuMatrix:
    """Packed matrix W (N, K) in memory, and its exact product with int8 vectors.

    Parameters
    ----------
    matrix : tuple or PackedMatrix
        Matrix as a packed checkpoint stores it: :meth:`.PackedCheckpoint.stored`. Its bytes are
        copied into another order.

    Raises :class:`ValueError` for tiles, trits or a table that do not fit.
    """

    def __init__(self, matrix: StoredMatrix):
        self._use_apart(matrix) if isinstance(matrix, PackedMatrix) else self._use_tiles(matrix)
        self._differences = differences(self._words.depth)

    def _use_tiles(self, matrix: Tiles) -> None:
        tiles, table, depth, self._shape = matrix
        check_tiles(tiles, depth, self._shape)
        self._in_tiles, self._length, self._direct = True, 1, False
        self._units = np.array([result_scale(table, depth, 1.0)])
        self._mantissas = _bytes(mantissas(table))
        self._words = PackedWords(tiles[..., :GROUP * depth], depth, self._shape)
        self._scales = to_lanes(unpack_codes(tiles[..., GROUP * depth:], self._shape[0]))

    def _use_apart(self, matrix: PackedMatrix) -> None:
        """Take codes, or the mantissas of each group, which are 1 if a row is one group."""
        depth, scales, self._shape = matrix.depth, matrix.scales, matrix.shape
        check_trits(matrix.trits, depth, self._shape)
        self._in_tiles, self._length = False, matrix.group // GROUP
        self._direct = not isinstance(scales, CodedScales)
        self._units = np.atleast_1d(scales.units) / half_range(depth)
        trits = matrix.trits.reshape(len(matrix.trits), -1, GROUP * depth)
        self._words = PackedWords(trits, depth, self._shape)
        if isinstance(scales, CodedScales):
            self._mantissas = _bytes(mantissas(scales.table))
            self._scales = to_lanes(scales.codes)
        else:
            self._mantissas = _bytes(np.ones(SCALES, np.int64))
            self._scales = to_lanes(scales.mantissas(slice(None)).astype(np.uint16))

    @property
    def nbytes(self) -> int:
        """Bytes of weights and scales in memory."""
        return self._words.numbers.nbytes + self._scales.nbytes

    def tiles(self) -> np.ndarray:
        """Return the tiles, or trits that are stored apart, again, with zeros as padding."""
        depth, codes = self._words.depth, None
        shape: tuple[int, ...] = trits_shape(self._shape, depth)
        if self._in_tiles:
            shape, codes = tiles_shape(self._shape, depth), from_lanes(self._scales, self._shape[0])
        stored = np.empty(shape, np.uint8)

        def work(rows: slice) -> None:
            q = self._words.read(rows)
            stored[rows.start // ROWS:row_tiles(rows.stop)] = (
                pack_trits(q, depth, None) if codes is None else
                row_packer(depth)(q, np.ascontiguousarray(codes[rows])))

        run_in_threads(work, self._words.chunks())
        return stored

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
        write_results(self._sums(digits), self._units, scales, results)
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
        """Return int8 vectors of zeros, with room for whole units."""
        return np.zeros((count, GROUP * self._words.units), np.int8)

    def _sums(self, x: np.ndarray) -> np.ndarray:
        """Return row sums by block: int8 (B, 16 * units) to int64 (blocks, B, 64)."""
        words = self._words
        factors = np.empty((words.units, len(self._differences), len(x), SLOTS), np.uint16)
        sums = np.empty((len(words), len(x), LANES), np.int64)
        job = np.empty(FIELDS, np.int64)
        job[-2:] = self._length, self._direct
        prepare_job(x, self._differences, words.depth, words.numbers, self._scales,
                    self._mantissas, factors, sums, job)
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
