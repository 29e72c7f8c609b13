"""Words of a matrix with groups of any length, as the lanes of a device read them.

A row block is ``L`` row tiles of five rows, one per lane. For each piece of its rows
(:func:`.piece_columns`) come the trits of all columns, ``d`` words per column, and then the scales:
three words of codes, or ten words of direct mantissas, 16 bits per row.
"""

import numpy as np

from tritstream.golden.fixed_point import DIRECT_BYTES, GROUP, ROWS

__all__ = ["device_words", "direct_order", "places_of"]

#: Lanes that share a multiplier, each in a run of its own.
_MEMBERS = 3
_NONE = -1


def device_words(
    trits: np.ndarray, scales: np.ndarray, depth: int, piece: int, lanes: int,
) -> np.ndarray:
    """Return words in the order a device reads them: uint8 (blocks, words per block, lanes).

    A word has one byte per lane. Lane ``l`` of row block ``b`` reads row tile ``b * lanes + l``.
    Row tiles beyond the last one are zeros.

    Parameters
    ----------
    trits : numpy.ndarray
        Trits of five rows per byte: uint8 (row tiles, Kp * d), Kp a multiple of 16. Byte
        ``j * d + i`` holds digit ``i`` of column ``j``.
    scales : numpy.ndarray
        For each row tile and piece either digits of codes, uint8 (row tiles, P, 3), or a mantissa
        per row, uint16 (row tiles, P, 5).
    depth : int
        Trits per weight.
    piece : int
        Columns of a piece, a multiple of 16; the last piece of a row may be shorter.
    lanes : int
        Bytes per word.

    Raises :class:`ValueError` for arrays that do not go together.
    """
    _check(trits, scales, depth, piece, lanes)
    blocks = -(-len(trits) // lanes)
    scale_words = _code_words if scales.dtype == np.uint8 else _mantissa_words
    tails = scale_words(_filled(scales, blocks, lanes))
    digits = _filled(trits, blocks, lanes).transpose(0, 2, 1)
    width, size = piece * depth, tails.shape[2]
    words = np.empty((blocks, digits.shape[1] + tails.shape[1] * size, lanes), np.uint8)
    full = digits.shape[1] // width
    body = words[:, :full * (width + size)].reshape(blocks, full, width + size, lanes)
    body[:, :, :width] = digits[:, :full * width].reshape(blocks, full, width, lanes)
    body[:, :, width:] = tails[:, :full]
    if full < tails.shape[1]:
        last = words[:, full * (width + size):]
        last[:, :-size], last[:, -size:] = digits[:, full * width:], tails[:, full]
    return words


def places_of(lanes: int) -> int:
    """Return the row sums per word of a result, ``W``: lanes ``W`` apart share a multiplier."""
    return max(1, lanes // 8)


def direct_order(lanes: int) -> np.ndarray:
    """Return the byte of the mantissas that each byte of ten scale words holds: int (10, lanes).

    Byte ``2 * (5 * b + r)`` is the low byte of row ``r`` of lane ``b``, the next one its high byte.

    A multiplier serves up to three runs of ``W`` neighbouring lanes (:func:`places_of`), at one
    place of the words of results. Its *byte lanes* are the lanes of these runs whose row 0 is at
    the place. Words ``2r`` and ``2r + 1`` hold the mantissas ``M0, M1, M2`` of the lanes of these
    runs whose row ``r`` is at the place::

        members  word 2r, by byte lane          word 2r + 1
        1        low M0                         high M0
        2        low M0, high M0                low M1, high M1
        3        low M0, high M0, low M2        low M1, high M1, high M2
    """
    places = places_of(lanes)
    runs = lanes // places
    order = np.full((DIRECT_BYTES, lanes), _NONE)
    for place in range(places):
        for first in range(0, runs, _MEMBERS):
            members = range(first, min(first + _MEMBERS, runs))
            byte_lanes = [_lane(run, 0, place, places) for run in members]
            for row in range(ROWS):
                low = [2 * (ROWS * _lane(run, row, place, places) + row) for run in members]
                high = [byte + 1 for byte in low]
                order[2 * row:2 * row + 2, byte_lanes] = _two_words(low, high)
    return order


def _two_words(low: list[int], high: list[int]) -> np.ndarray:
    """Return the bytes of the mantissas of a row, by word and byte lane."""
    if len(low) == 1:
        return np.array([low, high])
    return np.array([[low[0], high[0], *low[2:]], [low[1], high[1], *high[2:]]])


def _lane(run: int, row: int, place: int, places: int) -> int:
    """Return the lane of a run whose sum of ``row`` is at a place of the words of results."""
    lanes = range(run * places, (run + 1) * places)
    return next(lane for lane in lanes if (ROWS * lane + row) % places == place)


def _mantissa_words(scales: np.ndarray) -> np.ndarray:
    """Return uint8 (blocks, P, 10, lanes) of mantissas uint16 (blocks, lanes, P, 5)."""
    blocks, lanes, pieces, _ = scales.shape
    by_piece = np.ascontiguousarray(scales.transpose(0, 2, 1, 3), np.dtype("<u2"))
    return by_piece.view(np.uint8).reshape(blocks, pieces, -1)[..., direct_order(lanes)]


def _code_words(scales: np.ndarray) -> np.ndarray:
    """Return uint8 (blocks, P, 3, lanes) of digits of codes uint8 (blocks, lanes, P, 3)."""
    return scales.transpose(0, 2, 3, 1)


def _filled(tiles: np.ndarray, blocks: int, lanes: int) -> np.ndarray:
    """Return row tiles by block and lane, filled up with zeros."""
    filled = np.zeros((blocks * lanes, *tiles.shape[1:]), tiles.dtype)
    filled[:len(tiles)] = tiles
    return filled.reshape(blocks, lanes, *tiles.shape[1:])


def _check(
    trits: np.ndarray, scales: np.ndarray, depth: int, piece: int, lanes: int,
) -> None:
    if lanes < 1:
        raise ValueError(f"lanes must be positive, not {lanes!r}")
    if trits.dtype != np.uint8 or trits.ndim != 2 or trits.shape[1] % (GROUP * depth):
        raise ValueError(f"trits must be uint8 (row tiles, {GROUP * depth} n), "
                         f"not {trits.dtype} {trits.shape}")
    pieces = -(-trits.shape[1] // (piece * depth))
    kinds = {np.dtype(np.uint8): 3, np.dtype(np.uint16): ROWS}
    if scales.shape != (len(trits), pieces, kinds.get(scales.dtype)):
        raise ValueError(f"scales must be uint8 ({len(trits)}, {pieces}, 3) or uint16 "
                         f"({len(trits)}, {pieces}, {ROWS}), not {scales.dtype} {scales.shape}")
