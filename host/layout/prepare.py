"""Matrices as a device eats them: word streams, cut to what it can hold."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tritstream.golden.fixed_point import GROUP, mantissas
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.tiles import check_tiles, pack, word_stream
from tritstream.host.errors import DeviceError
from tritstream.host.layout.folding import FOLD_WORDS, Fold, Piece, fold_tiles, pieces
from tritstream.host.protocol.records import Info

__all__ = ["FRAME_BYTES", "Part", "PreparedMatrix", "Tiles", "cuts", "prepare", "tiles_of"]

#: A matrix as a packed checkpoint stores it: tiles, table, depth, shape (N, K).
Tiles = tuple[np.ndarray, np.ndarray, int, tuple[int, int]]


@dataclass(frozen=True)
class Part:
    """A range of columns, whole groups of one matrix, in all row blocks or in some.

    Members
    -------
    first_group : int
        Where the range starts, in groups.
    stream : numpy.ndarray
        uint8 (blocks, groups, 16d+3, lanes), C-contiguous: the words in order.
    fold : Fold or None
        How the row blocks are folded; None for those from row 0 on at the matrix's own depth.
    """

    first_group: int
    stream:      np.ndarray
    fold:        Fold | None = None

    @property
    def blocks(self) -> int:
        """Row blocks."""
        return self.stream.shape[0]

    @property
    def groups(self) -> int:
        """Groups of each row."""
        return self.stream.shape[1]

    @property
    def columns(self) -> slice:
        """The range, in columns."""
        return slice(GROUP * self.first_group, GROUP * (self.first_group + self.groups))

    @property
    def nbytes(self) -> int:
        """Bytes of the words."""
        return self.stream.nbytes

    def payload(self, first: int, count: int) -> memoryview:
        """Words of ``count`` row blocks from block ``first``: a view, not a copy."""
        return memoryview(self.stream[first:first + count]).cast("B")

    def cuts(self, limit: int) -> Iterator[tuple[int, int]]:
        """Pairs (first, count) of row blocks for frames of at most ``limit`` bytes.

        A frame has at least one row block, however long that is.
        """
        yield from cuts(self.blocks, self.stream.nbytes // self.blocks, limit)


@dataclass(frozen=True)
class PreparedMatrix:
    """A matrix as word streams for devices of ``lanes`` lanes.

    Members
    -------
    depth : int
        Trits of a weight.
    shape : tuple
        Rows N and columns K, without padding.
    lanes : int
        Lanes the streams are for.
    table : numpy.ndarray
        float32 (27,): scales by code, for the way back to real numbers.
    mantissas : numpy.ndarray
        int64 (27,): what the device multiplies with.
    parts : tuple of Part
        Column ranges in order, after each its folded rows; their products add up to the matrix's.
    name : str
        What errors call the matrix, if anything.
    """

    depth:     int
    shape:     tuple[int, int]
    lanes:     int
    table:     np.ndarray
    mantissas: np.ndarray
    parts:     tuple[Part, ...]
    name:      str = ""

    @property
    def max_k(self) -> int:
        """Columns of the widest part: what a device must hold."""
        return max(GROUP * part.groups for part in self.parts)

    @property
    def padded_k(self) -> int:
        """Columns, rounded up to whole groups."""
        return self.parts[-1].columns.stop

    def check_fit(self, info: Info) -> None:
        """Raise :class:`DeviceError` unless it was prepared for such a device."""
        if info.lanes != self.lanes:
            raise DeviceError(f"device has L = {info.lanes} lanes, the stream was prepared for "
                              f"L = {self.lanes}: prepare the matrix for this device")
        if self.max_k > info.max_k:
            raise DeviceError(f"device holds K = {info.max_k}, the stream was prepared for "
                              f"K = {self.max_k}: prepare the matrix for this device")


def cuts(blocks: int, size: int, limit: int) -> Iterator[tuple[int, int]]:
    """Pairs (first, count) of row blocks of ``size`` bytes, for frames of at most ``limit``."""
    step = max(1, limit // size)
    for first in range(0, blocks, step):
        yield first, min(step, blocks - first)


def tiles_of(matrix: TritMatrix | Tiles) -> Tiles:
    """A matrix as it is stored, packed if it is not yet.

    Raises :class:`ValueError` when the tiles do not fit depth and shape.
    """
    if isinstance(matrix, TritMatrix):
        matrix = (pack(matrix), matrix.table, matrix.depth, matrix.shape)
    tiles, _, depth, shape = matrix
    check_tiles(tiles, depth, shape)
    return matrix


def prepare(
    matrix: TritMatrix | Tiles, lanes: int, max_k: int, name: str = "",
    fold_words: int | None = FOLD_WORDS,
) -> PreparedMatrix:
    """Make the word streams of a matrix, once for many products.

    Parameters
    ----------
    matrix : TritMatrix or tuple
        The tuple is (tiles, table, depth, shape) as a packed checkpoint stores them.
    lanes : int
        Lanes of the device.
    max_k : int
        Columns the device can hold, at least 16; a wider matrix becomes several parts.
    name : str
        What errors call the matrix, if anything.
    fold_words : int or None
        Words that folding a last row block must save (:mod:`tritstream.host.layout.folding`); None: never fold.

    Raises :class:`ValueError` when the tiles do not fit depth and shape, or the table is no table.
    """
    if max_k < GROUP:
        raise ValueError(f"max_k must be at least {GROUP}, not {max_k!r}")
    tiles, table, depth, shape = tiles_of(matrix)
    parts = tuple(
        Part(piece.groups.start, word_stream(_tiles_of(piece, tiles, depth), lanes), piece.fold)
        for piece in pieces(*tiles.shape[:2], depth, lanes, max_k, fold_words))
    return PreparedMatrix(depth, tuple(shape), lanes, table, mantissas(table), parts, name)


def _tiles_of(piece: Piece, tiles: np.ndarray, depth: int) -> np.ndarray:
    some = tiles[piece.tiles, piece.groups]
    return fold_tiles(some, depth, piece.fold) if piece.fold else some


#: Longest payload of a GEMV frame by default, so that a damaged frame costs little.
FRAME_BYTES = 4 << 20
