"""Folding: represent a partly filled last row block of a matrix in fewer words.

A row block takes ``16 d`` words per 16 columns, and the words of scales, however many of its L row
tiles the matrix has.
Lanes that would be idle take further digits of the same weights instead. A row tile of depth d
becomes several row tiles of a lower depth e: the first has the digits 0..e-1, the next e..2e-1, and
each has the same scales. The device multiplies them like other row tiles of depth e. A row sum
is linear in the digits, so ``A = sum over folds f of 3^(e f) A_f`` is exact. The gateware needs no
support for folding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tritstream.golden.fixed_point import GROUP, ROWS, row_blocks, tile_bytes
from tritstream.hw.protocol import GemvArguments

__all__ = ["CODES", "Fold", "Piece", "ScaleWords", "add_rows", "best_fold", "fold_tiles",
           "fold_trits", "pieces"]


@dataclass(frozen=True)
class ScaleWords:
    """Where the scales are in the words of a row block.

    Members
    -------
    columns : int
        Columns of a group of a GEMV, after which its scales follow: a multiple of 16.
    direct : bool
        Whether the scales are mantissas in place of codes.
    """

    columns: int = GROUP
    direct:  bool = False

    @property
    def length(self) -> int:
        """Units of 16 columns per group."""
        return self.columns // GROUP

    def block_words(self, depth: int, groups: int) -> int:
        """Return the words of a row block of so many units of 16 columns."""
        return GemvArguments(depth, groups, 1, 1, self.length, self.direct).block_words


#: Words of tiles: codes after each 16 columns.
CODES = ScaleWords()


@dataclass(frozen=True)
class Fold:
    """How the last row tiles of a matrix are folded.

    Members
    -------
    depth : int
        Digits per weight in each fold, e.
    folds : int
        Folds per row tile, ceil(d / e).
    tiles : int
        Row tiles of the matrix. They become ``folds * tiles``, by fold and then by row tile.
    first_row : int
        First row of the matrix in these row tiles.
    """

    depth:     int
    folds:     int
    tiles:     int
    first_row: int

    def join(self, sums: np.ndarray) -> np.ndarray:
        """Return row sums int64 (B, 5 * tiles) from the sums (B, M) of the folded row tiles."""
        by_fold = sums[:, :ROWS * self.folds * self.tiles].reshape(len(sums), self.folds, -1)
        place_values = 3 ** (self.depth * np.arange(self.folds, dtype=np.int64))
        return (by_fold * place_values[:, None]).sum(axis=1)


@dataclass(frozen=True)
class Piece:
    """Block of a matrix that is sent together: some row tiles, some groups.

    Members
    -------
    tiles, groups : slice
        Row tiles, and groups of each row.
    fold : Fold or None
        How the row tiles are folded; None if they are not.
    """

    tiles:  slice
    groups: slice
    fold:   Fold | None = None

    def size(self, depth: int, lanes: int) -> tuple[int, int, int]:
        """Return depth, groups and row blocks of the words, for a matrix of ``depth``."""
        count, groups = (each.stop - each.start for each in (self.tiles, self.groups))
        if self.fold:
            depth, count = self.fold.depth, self.fold.folds * count
        return depth, groups, row_blocks(ROWS * count, lanes)


def pieces(
    tiles: int, groups: int, depth: int, lanes: int, max_k: int, fold_words: int | None,
    scales: ScaleWords = CODES, first: int = 0,
) -> Iterator[Piece]:
    """Cut ``tiles`` row tiles of ``groups`` units of 16 columns to what a device holds.

    The units begin with unit ``first``, at which a group begins. Ranges of columns go from left to
    right. In each range, complete row blocks come first.
    ``max_k`` is in columns, at least those of a group of ``scales``. ``fold_words`` is the number
    of words that folding must save; None means never fold.
    """
    whole, step = tiles // lanes * lanes, max_k // scales.columns * scales.length
    for start in range(first, first + groups, step):
        span = slice(start, min(start + step, first + groups))
        fold = None
        if tiles > whole and fold_words is not None:
            fold = best_fold(slice(whole, tiles), span.stop - span.start, depth, lanes, fold_words,
                             scales)
        if not fold:
            yield Piece(slice(0, tiles), span)
            continue
        if whole:
            yield Piece(slice(0, whole), span)
        yield Piece(slice(whole, tiles), span, fold)


def best_fold(
    tiles: slice, groups: int, depth: int, lanes: int, least: int, scales: ScaleWords = CODES,
) -> Fold | None:
    """Return the fold of row tiles, fewer than ``lanes``, that takes the fewest words.

    Returns None if no fold saves ``least`` words.
    """
    count = tiles.stop - tiles.start
    fewest, best = scales.block_words(depth, groups) - least, None
    for low in range(depth - 1, 0, -1):
        folds = -(-depth // low)
        words = row_blocks(ROWS * folds * count, lanes) * scales.block_words(low, groups)
        if words <= fewest:
            fewest, best = words, Fold(low, folds, count, ROWS * tiles.start)
    return best


def fold_tiles(tiles: np.ndarray, depth: int, fold: Fold) -> np.ndarray:
    """Fold row tiles uint8 (n, groups, 16d+3) of ``depth`` to (folds * n, groups, 16e+3)."""
    count, groups, _ = tiles.shape
    folded = np.empty((fold.folds, count, groups, tile_bytes(fold.depth)), np.uint8)
    trits = tiles[..., :GROUP * depth].reshape(count, -1)
    folded[..., :GROUP * fold.depth] = fold_trits(trits, depth, fold).reshape(
        fold.folds, count, groups, -1)
    folded[..., GROUP * fold.depth:] = tiles[..., GROUP * depth:]
    return folded.reshape(fold.folds * count, groups, -1)


def fold_trits(trits: np.ndarray, depth: int, fold: Fold) -> np.ndarray:
    """Fold trits of row tiles, uint8 (n, K * d) of ``depth``, to (folds * n, K * e)."""
    count = len(trits)
    digits = np.zeros((count, trits.shape[1] // depth, fold.folds * fold.depth), np.uint8)
    digits[..., :depth] = trits.reshape(count, -1, depth)
    weights = digits.reshape(count, -1, fold.folds, fold.depth)
    return np.moveaxis(weights, 2, 0).reshape(fold.folds * count, -1)


def add_rows(sums: np.ndarray, part_sums: np.ndarray, fold: Fold | None) -> None:
    """Add row sums of some row blocks, (B, M), to the same rows of ``sums``, (B, N).

    The padding rows of the last block are ignored.
    """
    first = 0
    if fold:
        first, part_sums = fold.first_row, fold.join(part_sums)
    rows = min(sums.shape[1] - first, part_sums.shape[1])
    sums[:, first:first + rows] += part_sums[:, :rows]
