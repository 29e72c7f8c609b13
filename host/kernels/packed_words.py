"""Packed matrices in the order in which vector instructions read them."""

from collections.abc import Iterator

import numpy as np

from tritstream.golden.fixed_point import GROUP, ROWS, half_range, row_tiles
from tritstream.golden.row_chunks import row_chunks, run_in_threads
from tritstream.golden.tiles import unpack_trits
from tritstream.host.kernels.numba_products import LANES, PARTS, PIECES

__all__ = ["PackedWords", "from_lanes", "to_lanes"]

#: Converted rows are whole blocks and whole tiles.
_MULTIPLE = LANES * ROWS
_TRITS = 10
_NUMBERS = 3 ** _TRITS
_LINE = 64


class PackedWords:
    """Integers of a packed matrix W (N, K) as words of 16 bits.

    Lane ``l`` of block ``b`` is row ``64b + l``. A unit, 16 columns of a row, takes 2, 4, 5 or 7
    words for 1 to 4 trits per weight: 2, 4, 5 or 7 bits per weight. The last block is padded with
    rows of zeros.

    Parameters
    ----------
    trits : numpy.ndarray
        Trits of five rows per byte: uint8 (ceil(N/5), units, 16d).
    depth : int
        Trits per weight, d.
    shape : tuple
        N and K.

    Members
    -------
    numbers : numpy.ndarray
        Trits, uint16 (blocks, units, words, 64). :data:`.PARTS` and :data:`.PIECES` have their
        order; :mod:`.numba_products` says what a word is.
    """

    def __init__(self, trits: np.ndarray, depth: int, shape: tuple[int, int]):
        self.depth, self.shape, self.units = depth, shape, trits.shape[1]
        blocks, words = -(-shape[0] // LANES), sum(len(PIECES[part]) for part in PARTS[depth])
        self.numbers = _on_a_line((blocks, self.units, words, LANES))

        def work(rows: slice) -> None:
            part = trits[rows.start // ROWS:row_tiles(rows.stop)]
            count = rows.stop - rows.start
            self._write(rows, unpack_trits(part.reshape(len(part), -1), depth, (count, shape[1])))

        run_in_threads(work, self.chunks())

    def __len__(self) -> int:
        return len(self.numbers)

    def chunks(self) -> Iterator[slice]:
        """Yield slices of rows to read at a time: whole tiles, but for the last."""
        return row_chunks(self.shape[0], GROUP * self.units, _MULTIPLE)

    def read(self, rows: slice) -> np.ndarray:
        """Return the integers of one of :meth:`chunks`: int8 (rows, 16 * units)."""
        fractions = self.numbers[_blocks(rows)]
        by_word = np.ascontiguousarray(fractions.transpose(2, 1, 0, 3)).astype(np.uint32)
        values = by_word * np.uint32(_NUMBERS) >> np.uint32(16)
        by_column = np.zeros((GROUP, *values.shape[1:]), np.uint32)
        for word, weight, low, trits, place in _pieces(self.depth):
            by_column[weight] += values[word] // place % 3 ** trits * np.uint32(3 ** low)
        q = by_column.astype(np.int8) - np.int8(half_range(self.depth))
        by_row = q.transpose(2, 3, 1, 0).reshape(-1, GROUP * self.units)
        return by_row[:rows.stop - rows.start]

    def _write(self, rows: slice, q: np.ndarray) -> None:
        """Write the integers of some rows: int8 (rows, 16 * units)."""
        blocks = _blocks(rows)
        count = LANES * (blocks.stop - blocks.start)
        weights = np.zeros((count, self.units, GROUP), np.uint32)
        weights[:len(q)] = q.reshape(-1, self.units, GROUP)
        weights += np.uint32(half_range(self.depth))
        by_column = np.ascontiguousarray(weights.transpose(2, 1, 0))
        values = np.zeros((self.numbers.shape[2], self.units, count), np.uint32)
        for word, weight, low, trits, place in _pieces(self.depth):
            values[word] += by_column[weight] // 3 ** low % 3 ** trits * np.uint32(place)
        fractions = ((values << 16) + np.uint32(_NUMBERS - 1)) // _NUMBERS
        by_block = fractions.reshape(*values.shape[:2], -1, LANES).transpose(2, 1, 0, 3)
        self.numbers[blocks] = by_block


def to_lanes(values: np.ndarray) -> np.ndarray:
    """Return values of groups in the order of the words: (N, C) to (blocks, C, 64).

    The last block is padded with zeros.
    """
    padded = np.zeros((-(-len(values) // LANES) * LANES, values.shape[1]), values.dtype)
    padded[:len(values)] = values
    return np.ascontiguousarray(padded.reshape(-1, LANES, values.shape[1]).transpose(0, 2, 1))


def from_lanes(values: np.ndarray, rows: int) -> np.ndarray:
    """Return values of groups: (blocks, C, 64) to (rows, C), the reverse of :func:`to_lanes`."""
    return values.transpose(0, 2, 1).reshape(-1, values.shape[1])[:rows]


def _pieces(depth: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield the pieces of a unit: word, weight, lowest trit, trits, and the place in the word."""
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
