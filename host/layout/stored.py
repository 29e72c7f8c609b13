"""Forms of a matrix that a host streams to a device."""

from zlib import crc32

import numpy as np

from tritstream.golden.fixed_point import GROUP, ROWS, piece_columns
from tritstream.golden.matrix import DirectMatrix, TritMatrix
from tritstream.golden.packed_matrix import PackedMatrix, StoredMatrix, Tiles, packed_matrix
from tritstream.golden.scales import CodedScales
from tritstream.golden.tiles import check_tiles, pack, pack_codes
from tritstream.host.layout.folding import CODES, ScaleWords

__all__ = ["AnyMatrix", "chunk_count", "fingerprint", "scale_words", "stored_of", "take_tiles",
           "tile_count", "tiles_of"]

#: A matrix as a packed checkpoint stores it, or with its integers.
AnyMatrix = StoredMatrix | TritMatrix | DirectMatrix


def tiles_of(matrix: TritMatrix | Tiles) -> Tiles:
    """Return a matrix in groups of 16 as tiles; a :class:`.TritMatrix` is packed.

    Raises :class:`ValueError` when the tiles do not fit depth and shape.
    """
    if isinstance(matrix, TritMatrix):
        matrix = (pack(matrix), matrix.table, matrix.depth, matrix.shape)
    tiles, _, depth, shape = matrix
    check_tiles(tiles, depth, shape)
    return matrix


def stored_of(matrix: AnyMatrix) -> StoredMatrix:
    """Return a matrix as packed checkpoints store it; a matrix with integers is packed.

    Raises :class:`ValueError` when tiles do not fit depth and shape.
    """
    if isinstance(matrix, PackedMatrix):
        return matrix
    if isinstance(matrix, DirectMatrix) or (
            isinstance(matrix, TritMatrix) and matrix.group != GROUP):
        return packed_matrix(matrix)
    return tiles_of(matrix)


def fingerprint(matrix: StoredMatrix) -> int:
    """Return the CRC-32 of the bytes that determine the products of a matrix."""
    if not isinstance(matrix, PackedMatrix):
        return _crc(matrix[0], matrix[1])
    if isinstance(matrix.scales, CodedScales):
        return _crc(matrix.trits, matrix.scales.table, pack_codes(matrix.scales.codes))
    stored, inverse = matrix.scales.stored, matrix.scales.inverse
    return _crc(matrix.trits, stored.view(np.uint8), np.array([matrix.group, inverse], "<u4"))


def _crc(*arrays: np.ndarray) -> int:
    found = 0
    for array in arrays:
        found = crc32(np.ascontiguousarray(array).data.cast("B"), found)
    return found


def scale_words(matrix: StoredMatrix, max_k: int) -> ScaleWords:
    """Return the groups of the GEMVs of a matrix, and the kind of their scales.

    A device multiplies by nothing if each row has one direct scale. The words have codes then.
    """
    if not isinstance(matrix, PackedMatrix):
        return CODES
    direct = not isinstance(matrix.scales, CodedScales) and matrix.scales.groups > 1
    return ScaleWords(piece_columns(matrix.depth, matrix.group, matrix.shape[1], max_k), direct)


def tile_count(matrix: StoredMatrix) -> int:
    """Return the number of row tiles."""
    return len(matrix.trits if isinstance(matrix, PackedMatrix) else matrix[0])


def chunk_count(matrix: StoredMatrix) -> int:
    """Return the number of chunks of 16 columns."""
    columns = matrix.shape[1] if isinstance(matrix, PackedMatrix) else matrix[3][1]
    return -(-columns // GROUP)


def take_tiles(matrix: StoredMatrix, chosen: slice) -> StoredMatrix:
    """Return the rows of some row tiles as a matrix of their own."""
    if isinstance(matrix, PackedMatrix):
        return matrix.take_tiles(chosen)
    tiles, table, depth, (rows, columns) = matrix
    count = min(ROWS * chosen.stop, rows) - ROWS * chosen.start
    return tiles[chosen], table, depth, (count, columns)
