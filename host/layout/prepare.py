"""Word streams of matrices, cut to what a device can hold."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from tritstream.golden.fixed_point import GROUP, SCALES, mantissas, table_unit
from tritstream.golden.packed_matrix import PackedMatrix, StoredMatrix, Tiles
from tritstream.golden.scales import CodedScales
from tritstream.golden.tiles import word_stream
from tritstream.host.errors import DeviceError
from tritstream.host.layout.apart import apart_words
from tritstream.host.layout.folding import CODES, Fold, Piece, ScaleWords, fold_tiles, pieces
from tritstream.host.layout.stored import (
    AnyMatrix,
    chunk_count,
    scale_words,
    stored_of,
    tiles_of,
)
from tritstream.host.protocol.frames import payload_crc
from tritstream.host.protocol.operands import mantissa_bytes
from tritstream.host.protocol.records import Info
from tritstream.host.transports.base import FOLD_WORDS, Stored

__all__ = ["FRAME_BYTES", "MatrixPart", "Part", "PreparedMatrix", "Tiles", "cuts", "prepare",
           "tiles_of", "without_words"]

#: Default limit of a GEMV frame's payload, so that a damaged frame costs little.
FRAME_BYTES = 4 << 20

#: First protocol version with groups of other lengths and direct scales.
_GROUPS_VERSION = 2


class MatrixPart(Protocol):
    """A range of columns in some row blocks of a matrix; its words are here or on a board.

    :class:`.Part` and :class:`.StoredPart` are the two kinds, and describe the members.
    """

    @property
    def first_group(self) -> int: ...

    @property
    def groups(self) -> int: ...

    @property
    def blocks(self) -> int: ...

    @property
    def fold(self) -> Fold | None: ...

    @property
    def columns(self) -> slice: ...

    @property
    def nbytes(self) -> int: ...

    def payload(self, first: int, count: int) -> memoryview | Stored: ...

    def payload_crc(self, first: int, count: int) -> int: ...

    def cuts(self, limit: int) -> Iterator[tuple[int, int]]: ...


@dataclass(frozen=True)
class Part:
    """A range of columns in all or some row blocks of a matrix, with its words.

    Members
    -------
    first_group : int
        Index of the first unit of 16 columns of the range.
    groups : int
        Units of 16 columns per row.
    stream : numpy.ndarray
        Words in order: uint8 (blocks, groups, 16d+3, lanes) of tiles, (blocks, words, lanes) of a
        matrix whose scales are stored apart; C-contiguous.
    fold : Fold or None
        How the row blocks are folded. None: they start at row 0 and have the matrix's own depth.
    """

    first_group: int
    groups:      int
    stream:      np.ndarray
    fold:        Fold | None = None
    #: CRC-32 by (first, count) of the payloads that were sent so far.
    _crcs:       dict[tuple[int, int], int] = field(
        default_factory=dict, init=False, repr=False, compare=False)

    @property
    def blocks(self) -> int:
        """Number of row blocks."""
        return self.stream.shape[0]

    @property
    def columns(self) -> slice:
        """Range of columns."""
        return slice(GROUP * self.first_group, GROUP * (self.first_group + self.groups))

    @property
    def nbytes(self) -> int:
        """Size of the words in bytes."""
        return self.stream.nbytes

    def payload(self, first: int, count: int) -> memoryview:
        """Return a view of the words of ``count`` row blocks from block ``first`` on."""
        return self.stream[first:first + count].data.cast("B")

    def payload_crc(self, first: int, count: int) -> int:
        """Return the CRC-32 of a payload with its padding. It is computed once.

        So words that change in memory afterwards are refused by the device, like damaged ones.
        """
        if (first, count) not in self._crcs:
            self._crcs[first, count] = payload_crc(self.payload(first, count))
        return self._crcs[first, count]

    def cuts(self, limit: int) -> Iterator[tuple[int, int]]:
        """Yield pairs (first, count) of row blocks for frames of at most ``limit`` bytes.

        A frame has at least one row block, however long the block is.
        """
        yield from cuts(self.blocks, self.stream.nbytes // self.blocks, limit)


@dataclass(frozen=True)
class PreparedMatrix:
    """A matrix as word streams for devices of ``lanes`` lanes.

    Members
    -------
    depth : int
        Trits per weight.
    shape : tuple
        Rows N and columns K, without padding.
    lanes : int
        Lanes of the devices that can take the streams.
    units : numpy.ndarray
        Values of 1 in a row sum times h, float64 () or (N,), which turn row sums into real numbers:
        :attr:`.Scales.units`.
    mantissas : numpy.ndarray
        Integer scales by code, int64 (27,), with which the device multiplies. Not used if the
        words have direct scales.
    parts : tuple of MatrixPart
        Column ranges in order, each followed by its folded rows. The products of all parts add up
        to the product of the columns that were prepared: by default, of all columns.
    name : str
        Name of the matrix in error messages; may be empty.
    scales : ScaleWords
        Groups of the GEMVs, and kind of their scales.
    """

    depth:     int
    shape:     tuple[int, int]
    lanes:     int
    units:     np.ndarray
    mantissas: np.ndarray
    parts:     tuple[MatrixPart, ...]
    name:      str = ""
    scales:    ScaleWords = CODES

    @cached_property
    def scale_bytes(self) -> bytes:
        """Payload of the SCALES request of the mantissas."""
        return mantissa_bytes(self.mantissas)

    @cached_property
    def max_k(self) -> int:
        """Columns of the widest part, which a device must be able to hold."""
        return max(GROUP * part.groups for part in self.parts)

    def check_fit(self, info: Info) -> None:
        """Raise :class:`DeviceError` unless the matrix was prepared for such a device."""
        if info.lanes != self.lanes:
            raise DeviceError(f"device has L = {info.lanes} lanes, the stream was prepared for "
                              f"L = {self.lanes}: prepare the matrix for this device")
        if self.max_k > info.max_k:
            raise DeviceError(f"device holds K = {info.max_k}, the stream was prepared for "
                              f"K = {self.max_k}: prepare the matrix for this device")
        if info.version < _GROUPS_VERSION and self.scales != CODES:
            kind = "direct" if self.scales.direct else "coded"
            raise DeviceError(f"device speaks protocol version {info.version}, which has coded "
                              f"scales of {GROUP} columns only, not {kind} scales of "
                              f"{self.scales.columns}: load gateware of this release")


def cuts(blocks: int, size: int, limit: int) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of row blocks of ``size`` bytes, for frames of at most ``limit``."""
    step = max(1, limit // size)
    for first in range(0, blocks, step):
        yield first, min(step, blocks - first)


def without_words(
    matrix: StoredMatrix, lanes: int, parts: tuple[MatrixPart, ...], name: str, max_k: int,
) -> PreparedMatrix:
    """Return a matrix for devices whose words are made already: in ``parts``.

    Raises :class:`ValueError` if the table is invalid.
    """
    words = scale_words(matrix, max_k)
    if not isinstance(matrix, PackedMatrix):
        _, table, depth, (rows, columns) = matrix
        return PreparedMatrix(depth, (rows, columns), lanes, np.asarray(table_unit(table)),
                              mantissas(table), parts, name)
    scales = matrix.scales
    by_code = (mantissas(scales.table) if isinstance(scales, CodedScales)
               else np.ones(SCALES, np.int64))
    return PreparedMatrix(matrix.depth, matrix.shape, lanes, scales.units, by_code, parts, name,
                          words)


def prepare(
    matrix: AnyMatrix, lanes: int, max_k: int, name: str = "",
    fold_words: int | None = FOLD_WORDS, chunks: range | None = None,
) -> PreparedMatrix:
    """Make the word streams of a matrix, which serve any number of products.

    Parameters
    ----------
    matrix : TritMatrix, DirectMatrix, PackedMatrix or tuple
        The tuple is (tiles, table, depth, shape) as a packed checkpoint stores them.
    lanes : int
        Lanes of the device.
    max_k : int
        Columns the device can hold, at least 16. A wider matrix becomes several parts.
    name : str
        Name of the matrix in error messages; may be empty.
    fold_words : int or None
        Words that folding a last row block must save (:mod:`tritstream.host.layout.folding`).
        None means never fold.
    chunks : range, optional
        Chunks of 16 columns to prepare. The first of them begins a group of the matrix. Others
        count as zeros in the products.

    Raises :class:`ValueError` when the tiles do not fit depth and shape, or the table is invalid.
    """
    if max_k < GROUP:
        raise ValueError(f"max_k must be at least {GROUP}, not {max_k!r}")
    stored = stored_of(matrix)
    words = scale_words(stored, max_k)
    chunks = range(chunk_count(stored)) if chunks is None else chunks
    if isinstance(stored, PackedMatrix):
        streams = apart_words(stored, words, lanes, max_k, fold_words, chunks)
        parts = tuple(
            Part(piece.groups.start, piece.groups.stop - piece.groups.start, stream, piece.fold)
            for piece, stream in streams)
    else:
        tiles, _, depth, _ = stored
        parts = tuple(_part(piece, tiles, depth, lanes) for piece in pieces(
            len(tiles), len(chunks), depth, lanes, max_k, fold_words, first=chunks.start))
    return without_words(stored, lanes, parts, name, max_k)


def _part(piece: Piece, tiles: np.ndarray, depth: int, lanes: int) -> Part:
    chosen = tiles[piece.tiles, piece.groups]
    if piece.fold:
        chosen = fold_tiles(chosen, depth, piece.fold)
    return Part(piece.groups.start, chosen.shape[1], word_stream(chosen, lanes), piece.fold)
