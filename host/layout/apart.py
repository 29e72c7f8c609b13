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
    chunks: range,
) -> Iterator[tuple[Piece, np.ndarray]]:
    """Yield the pieces that a device holds with their words: uint8 (blocks, words, lanes).

    The arguments are those of :func:`.prepare`, and the ``words`` of :func:`.scale_words`.
    """
    by_tile = _tile_scales(matrix, words)
    for piece in pieces(len(by_tile), len(chunks), matrix.depth, lanes, max_k, fold_words, words,
                        chunks.start):
        yield piece, _piece_words(piece, matrix, by_tile, words, lanes)


def _piece_words(
    piece: Piece, matrix: PackedMatrix, scales: np.ndarray, words: ScaleWords, lanes: int,
) -> np.ndarray:
    first, last, depth = piece.groups.start, piece.groups.stop, matrix.depth
    size = GROUP * depth
    trits = matrix.trits[piece.tiles, size * first:size * last]
    # A group of the matrix is one or several groups of a GEMV.
    groups = GROUP * np.arange(first, last, words.length) // matrix.group
    own = scales[piece.tiles, groups]
    if piece.fold:
        trits, depth = fold_trits(trits, depth, piece.fold), piece.fold.depth
        own = np.tile(own, (piece.fold.folds, 1, 1))
    return device_words(trits, own, depth, words.columns, lanes)


def _tile_scales(matrix: PackedMatrix, words: ScaleWords) -> np.ndarray:
    """Return the scales of each row tile and group, as :func:`.device_words` takes them."""
    scales, rows = matrix.scales, matrix.shape[0]
    if isinstance(scales, CodedScales):
        return pack_codes(scales.codes)
    if words.direct:
        padded = np.zeros((ROWS * len(matrix.trits), scales.groups), np.uint16)
        padded[:rows] = scales.mantissas(slice(None))
        return padded.reshape(-1, ROWS, scales.groups).swapaxes(1, 2)
    return np.zeros((len(matrix.trits), 1, SCALE_TRITS), np.uint8)
