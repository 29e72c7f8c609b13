"""Folding: the last row block of a matrix, when it is partly filled, in fewer words.

A row block takes ``groups * (16d + 3)`` words, however many of its L row tiles the matrix has.
Where lanes would be idle they take further digits of the same weights: a row tile of depth d
becomes several of a lower depth e, the digits 0..e-1 in one, e..2e-1 in the next, each with the
same scale codes. A device multiplies them as row tiles like any other, at depth e, and since a row
sum is linear in the digits, ``A = sum over folds f of 3^(e f) A_f``, exactly. No gateware knows of
this.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tritstream.golden.fixed_point import GROUP, ROWS, row_blocks, tile_bytes

__all__ = ["FOLD_WORDS", "Fold", "Piece", "add_rows", "best_fold", "fold_tiles", "pieces"]

#: Words that folding must save: a further GEMV frame costs 100 to 200 cycles and as many bytes.
FOLD_WORDS = 256


@dataclass(frozen=True)
class Fold:
    """How the last row tiles of a matrix are folded.

    Members
    -------
    depth : int
        Digits of a weight in each fold, e.
    folds : int
        Folds of a row tile, ceil(d / e).
    tiles : int
        Row tiles of the matrix; the folded are ``folds * tiles``, by fold and then by row tile.
    first_row : int
        First row of the matrix that is in them.
    """

    depth:     int
    folds:     int
    tiles:     int
    first_row: int

    def join(self, sums: np.ndarray) -> np.ndarray:
        """Row sums int64 (B, 5 * tiles) of those of the folded row tiles (B, at least that)."""
        some = sums[:, :ROWS * self.folds * self.tiles].reshape(len(sums), self.folds, -1)
        worth = 3 ** (self.depth * np.arange(self.folds, dtype=np.int64))
        return (some * worth[:, None]).sum(axis=1)


@dataclass(frozen=True)
class Piece:
    """Row tiles and groups of a matrix that are multiplied together.

    Members
    -------
    tiles, groups : slice
        Which.
    fold : Fold or None
        How they are folded, if they are.
    """

    tiles:  slice
    groups: slice
    fold:   Fold | None = None

    def size(self, depth: int, lanes: int) -> tuple[int, int, int]:
        """Depth, groups and row blocks of its words, for a matrix of a depth."""
        count, groups = (some.stop - some.start for some in (self.tiles, self.groups))
        if self.fold:
            depth, count = self.fold.depth, self.fold.folds * count
        return depth, groups, row_blocks(ROWS * count, lanes)


def pieces(
    tiles: int, groups: int, depth: int, lanes: int, max_k: int, fold_words: int | None,
) -> Iterator[Piece]:
    """Cut ``tiles`` row tiles of ``groups`` groups to what a device holds, folding what may be.

    Columns from left to right, and of each range first the whole row blocks. ``max_k`` is in
    columns, at least 16; ``fold_words`` the words that folding must save, None never to fold.
    """
    whole, step = tiles // lanes * lanes, max_k // GROUP
    for first in range(0, groups, step):
        some = slice(first, min(first + step, groups))
        fold = None
        if tiles > whole and fold_words is not None:
            fold = best_fold(slice(whole, tiles), some.stop - first, depth, lanes, fold_words)
        if not fold:
            yield Piece(slice(0, tiles), some)
            continue
        if whole:
            yield Piece(slice(0, whole), some)
        yield Piece(slice(whole, tiles), some, fold)


def best_fold(
    tiles: slice, groups: int, depth: int, lanes: int, least: int,
) -> Fold | None:
    """How to fold row tiles, fewer than ``lanes``, to the fewest words.

    None where no way saves ``least`` words.
    """
    count = tiles.stop - tiles.start
    fewest, best = tile_bytes(depth) - -(-least // groups), None
    for low in range(depth - 1, 0, -1):
        folds = -(-depth // low)
        words = row_blocks(ROWS * folds * count, lanes) * tile_bytes(low)
        if words <= fewest:
            fewest, best = words, Fold(low, folds, count, ROWS * tiles.start)
    return best


def fold_tiles(tiles: np.ndarray, depth: int, fold: Fold) -> np.ndarray:
    """Row tiles uint8 (n, groups, 16d+3) of a depth as (folds * n, groups, 16e+3)."""
    count, groups, _ = tiles.shape
    digits = np.zeros((count, groups, GROUP, fold.folds * fold.depth), np.uint8)
    digits[..., :depth] = tiles[..., :GROUP * depth].reshape(count, groups, GROUP, depth)
    folded = np.empty((fold.folds, count, groups, tile_bytes(fold.depth)), np.uint8)
    weights = digits.reshape(count, groups, GROUP, fold.folds, fold.depth)
    folded[..., :GROUP * fold.depth] = np.moveaxis(weights, 3, 0).reshape(
        fold.folds, count, groups, -1)
    folded[..., GROUP * fold.depth:] = tiles[..., GROUP * depth:]
    return folded.reshape(fold.folds * count, groups, -1)


def add_rows(sums: np.ndarray, found: np.ndarray, fold: Fold | None) -> None:
    """Add row sums (B, rows of some blocks) to those of their rows in ``sums`` (B, N).

    What fills up the last block is left out.
    """
    first = 0
    if fold:
        first, found = fold.first_row, fold.join(found)
    rows = min(sums.shape[1] - first, found.shape[1])
    sums[:, first:first + rows] += found[:, :rows]
