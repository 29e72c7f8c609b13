"""Words of matrices whose scales are stored apart from their trits."""

from collections.abc import Iterator

import numpy as np

from tritstream.golden.device_words import device_words
from tritstream.golden.fixed_point import GROUP, ROWS, SCALE_TRITS
from tritstream.golden.packed_matrix import PackedMatrix
from tritstream.golden.scales import CodedScales
from tritstream.golden.tiles import pack_codes
from tritstream.host.layout.folding import Piece, ScaleWords, fold_trits, pieces

__all__ = ["apart_words"]


def apart_words(
    matrix: PackedMatrix, words: ScaleWords, lanes: int, max_k: int, fold_words: int | None,
) -> Iterator[tuple[Piece, np.ndarray]]:
    """Yield the pieces that a device holds with their words: uint8 (blocks, words, lanes).

    The arguments are those of :func:`.prepare`, and the ``words`` of :func:`.scale_words`.
    """
    depth, by_tile = matrix.depth, _tile_scales(matrix, words)
    groups = matrix.trits.shape[1] // (GROUP * depth)
    for piece in pieces(len(by_tile), groups, depth, lanes, max_k, fold_words, words):
        yield piece, _piece_words(piece, matrix, by_tile, words, lanes)


def _piece_words(
    piece: Piece, matrix: PackedMatrix, scales: np.ndarray, words: ScaleWords, lanes: int,
) -> np.ndarray:
    first, last, depth = piece.groups.start, piece.groups.stop, matrix.depth
    size = GROUP * depth
    trits = matrix.trits[piece.tiles, size * first:size * last]
    own = scales[piece.tiles, first // words.length:-(-last // words.length)]
    if piece.fold:
        trits, depth = fold_trits(trits, depth, piece.fold), piece.fold.depth
        own = np.tile(own, (piece.fold.folds, 1, 1))
    return device_words(trits, own, depth, words.columns, lanes)


def _tile_scales(matrix: PackedMatrix, words: ScaleWords) -> np.ndarray:
    """Return the scales of each row tile and group of a GEMV, as :func:`.device_words` takes them.
    """
    scales, (rows, columns) = matrix.scales, matrix.shape
    count = -(-columns // words.columns)
    if isinstance(scales, CodedScales):
        found = pack_codes(scales.codes)
    elif words.direct:
        padded = np.zeros((ROWS * len(matrix.trits), scales.groups), np.uint16)
        padded[:rows] = scales.mantissas(slice(None))
        found = padded.reshape(-1, ROWS, scales.groups).swapaxes(1, 2)
    else:
        found = np.zeros((len(matrix.trits), 1, SCALE_TRITS), np.uint8)
    # A group of the matrix is one or several groups of a GEMV.
    times = count if scales.groups == 1 else matrix.group // words.columns
    return np.repeat(found, times, axis=1)[:, :count]

