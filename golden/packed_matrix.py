"""A matrix as a file of version 5 stores it: trits of five rows per byte, apart from the scales."""

import math
from dataclasses import dataclass, replace

import numpy as np

from tritstream.golden.fixed_point import (
    ROWS,
    SCALE_TRITS,
    check_group,
    group_count,
    information_bits,
)
from tritstream.golden.matrix import DirectMatrix, ScaledMatrix, TritMatrix
from tritstream.golden.rounding import FORM, Form
from tritstream.golden.scales import CodedScales, DirectScales
from tritstream.golden.tiles import pack_trits, unpack_trits

__all__ = ["PackedMatrix", "StoredMatrix", "Tiles", "packed_matrix"]

#: A matrix as tiles: tiles, table, depth, shape (N, K).
Tiles = tuple[np.ndarray, np.ndarray, int, tuple[int, int]]


@dataclass(frozen=True, eq=False)
class PackedMatrix:
    """Trits and scales of a matrix.

    Members
    -------
    depth, shape, group, form
        As in :class:`.TritMatrix`.
    trits : numpy.ndarray
        Digits of the integers, five rows per byte: uint8 (ceil(N/5), Kp * d).
    scales : CodedScales or DirectScales
        Scales of the groups.

    Raises :class:`ValueError` for scales of another number of rows or groups.
    """

    depth:  int
    shape:  tuple[int, int]
    trits:  np.ndarray
    scales: CodedScales | DirectScales
    group:  int
    form:   Form = FORM

    def __post_init__(self) -> None:
        check_group(self.group, self.shape[1])
        groups = group_count(self.shape[1], self.group)
        if (self.scales.rows, self.scales.groups) != (self.shape[0], groups):
            raise ValueError(f"scales must be of {self.shape[0]} rows with {groups} groups, "
                             f"not {self.scales.rows} with {self.scales.groups}")

    @property
    def stored_bits(self) -> float:
        """Stored bits per weight, padding included, table not."""
        return 8 * (self.trits.nbytes + self._scale_bytes) / math.prod(self.shape)

    @property
    def information_bits(self) -> float:
        """Information content in bits per weight, scales included."""
        if isinstance(self.scales, CodedScales):
            return information_bits(self.depth, self.group)
        return math.log2(3) * self.depth + 8 * self._scale_bytes / math.prod(self.shape)

    @property
    def _scale_bytes(self) -> int:
        if isinstance(self.scales, CodedScales):
            return SCALE_TRITS * len(self.trits) * self.scales.groups
        return self.scales.stored.nbytes

    def take_tiles(self, tiles: slice) -> "PackedMatrix":
        """Return the rows of some row tiles as a matrix of their own."""
        rows = slice(ROWS * tiles.start, min(ROWS * tiles.stop, self.shape[0]))
        count = rows.stop - rows.start
        return replace(self, shape=(count, self.shape[1]), trits=self.trits[tiles],
                       scales=self.scales.take(rows))

    def unpack(self) -> TritMatrix | DirectMatrix:
        """Return the matrix with its integers; padding is ignored.

        Raises :class:`ValueError` for trits of another shape.
        """
        q = unpack_trits(self.trits, self.depth, self.shape)
        if isinstance(self.scales, CodedScales):
            return TritMatrix(self.depth, self.shape, q, self.scales.codes, self.scales.table,
                              self.form, self.group)
        return DirectMatrix(self.depth, self.shape, q, self.scales, self.group, self.form)


#: A matrix as a packed checkpoint stores it.
StoredMatrix = Tiles | PackedMatrix


def packed_matrix(matrix: ScaledMatrix, engine: str | None = "numpy") -> PackedMatrix:
    """Return a matrix with its integers packed."""
    trits = pack_trits(matrix.q, matrix.depth, engine)
    return PackedMatrix(matrix.depth, matrix.shape, trits, matrix.scales, matrix.group,
                        matrix.form)
