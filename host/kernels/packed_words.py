"""Packed matrices in the order in which vector instructions read them."""

from collections.abc import Iterator

import numpy as np

from tritstream.golden.fixed_point import GROUP, ROWS, SCALES, half_range, row_tiles, tiles_shape
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.row_chunks import row_chunks, run_in_threads
from tritstream.golden.tiles import check_tiles, pack, unpack
from tritstream.host.kernels.numba_products import LANES, PARTS, PIECES

__all__ = ["PackedWords"]

#: Converted rows are whole blocks and whole tiles.
_MULTIPLE = LANES * ROWS
_TRITS = 10
_NUMBERS = 3 ** _TRITS
_LINE = 64
_TABLE = np.ones(SCALES, np.float32)


class PackedWords:
    """Packed matrix W (N, K) as words of 16 bits. Lane ``l`` of block ``b`` is row ``64b + l``.

    A group of a row takes 2, 4, 5 or 7 words for 1 to 4 trits per weight, and 8 bits for its scale
    code: 2.5, 4.5, 5.5 or 7.5 bits per weight. The last block is padded with rows of zeros.

    Parameters
    ----------
    tiles : numpy.ndarray
        uint8 (ceil(N/5), ceil(K/16), 16d+3).
    depth : int
        Trits per weight, d.
    shape : tuple
        N and K.

    Members
    -------
    numbers : numpy.ndarray
        Trits, uint16 (blocks, groups, words, 64). :data:`.PARTS` and :data:`.PIECES` have their
        order; :mod:`.numba_products` says what a word is.
    codes : numpy.ndarray
        Scale codes 0..26, uint8 (blocks, groups, 64).

    Raises the errors of :func:`.check_tiles`.
    """

    def __init__(self, tiles: np.ndarray, depth: int, shape: tuple[int, int]):
        check_tiles(tiles, depth, shape)
        self.depth, self.shape, self.groups = depth, shape, tiles.shape[1]
        blocks, words = -(-shape[0] // LANES), sum(len(PIECES[part]) for part in PARTS[depth])
        self.numbers = _on_a_line((blocks, self.groups, words, LANES))
        self.codes = np.zeros((blocks, self.groups, LANES), np.uint8)

        def work(rows: slice) -> None:
            part = tiles[rows.start // ROWS:row_tiles(rows.stop)]
            self._write(rows, unpack(part, depth, (rows.stop - rows.start, shape[1]), _TABLE))

        run_in_threads(work, self._chunks())

    def __len__(self) -> int:
        return len(self.codes)

    def tiles(self) -> np.ndarray:
        """Return the tiles again, with zeros as padding: uint8 (ceil(N/5), ceil(K/16), 16d+3)."""
        tiles = np.empty(tiles_shape(self.shape, self.depth), np.uint8)

        def work(rows: slice) -> None:
            tiles[rows.start // ROWS:row_tiles(rows.stop)] = pack(self._read(rows), engine=None)

        run_in_threads(work, self._chunks())
        return tiles

    def _chunks(self) -> Iterator[slice]:
        return row_chunks(self.shape[0], GROUP * self.groups, _MULTIPLE)

    def _write(self, rows: slice, matrix: TritMatrix) -> None:
        """Write some rows of a matrix."""
        blocks = _blocks(rows)
        count = LANES * (blocks.stop - blocks.start)
        weights = np.zeros((count, self.groups, GROUP), np.uint32)
        weights[:len(matrix.q)] = matrix.q.reshape(-1, self.groups, GROUP)
        weights += np.uint32(half_range(self.depth))
        by_column = np.ascontiguousarray(weights.transpose(2, 1, 0))
        values = np.zeros((self.numbers.shape[2], self.groups, count), np.uint32)
        for word, weight, low, trits, place in _pieces(self.depth):
            values[word] += by_column[weight] // 3 ** low % 3 ** trits * np.uint32(place)
        fractions = ((values << 16) + np.uint32(_NUMBERS - 1)) // _NUMBERS
        by_block = fractions.reshape(*values.shape[:2], -1, LANES).transpose(2, 1, 0, 3)
        self.numbers[blocks] = by_block
        codes = np.zeros((count, self.groups), np.uint8)
        codes[:len(matrix.codes)] = matrix.codes
        self.codes[blocks] = codes.reshape(-1, LANES, self.groups).transpose(0, 2, 1)

    def _read(self, rows: slice) -> TritMatrix:
        """Return some rows as a matrix, with a table of ones."""
        fractions, codes = self.numbers[_blocks(rows)], self.codes[_blocks(rows)]
        by_word = np.ascontiguousarray(fractions.transpose(2, 1, 0, 3)).astype(np.uint32)
        values = by_word * np.uint32(_NUMBERS) >> np.uint32(16)
        by_column = np.zeros((GROUP, *values.shape[1:]), np.uint32)
        for word, weight, low, trits, place in _pieces(self.depth):
            by_column[weight] += values[word] // place % 3 ** trits * np.uint32(3 ** low)
        q = by_column.astype(np.int8) - np.int8(half_range(self.depth))
        count, groups = rows.stop - rows.start, self.groups
        return TritMatrix(self.depth, (count, GROUP * groups),
                          q.transpose(2, 3, 1, 0).reshape(-1, GROUP * groups)[:count],
                          codes.transpose(0, 2, 1).reshape(-1, groups)[:count], _TABLE)


def _pieces(depth: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield the pieces of a group: word, weight, lowest trit, trits, and the place in the word."""
    word, above = 0, 0
    for part in PARTS[depth]:
        for pieces in PIECES[part]:
            rest = _TRITS
            for weight, low, trits in pieces:
                rest -= trits
                yield word, weight, above + low, trits, 3 ** rest
            word += 1
        above += part


def _blocks(rows: slice) -> slice:
    return slice(rows.start // LANES, -(-rows.stop // LANES))


def _on_a_line(shape: tuple[int, ...]) -> np.ndarray:
    """Return an uninitialized uint16 array at the start of a cache line, for faster reads."""
    size = 2 * int(np.prod(shape))
    room = np.empty(size + _LINE, np.uint8)
    start = -room.__array_interface__["data"][0] % _LINE
    return room[start:start + size].view(np.uint16).reshape(shape)
