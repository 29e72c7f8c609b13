"""Tiles and word streams: a matrix as the bytes that the lanes of a device read.

A tile is 5 rows by one group in 16d + 3 bytes. Byte ``j*d + i`` holds digit ``i`` of weight ``j``
of the five rows (row 0 in D0). Byte ``16d + i`` holds digit ``i`` of their scale codes. Rows are
padded with zero trits and code 0 to a multiple of 5, columns with zero trits to a multiple of 16.

A matrix with other groups or direct scales has its trits apart from its scales: ``trits`` are uint8
(ceil(N/5), Kp * d), and ``digits`` of codes are uint8 (ceil(N/5), C, 3), packed in the same way.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from tritstream.golden.fixed_point import (
    GROUP,
    MAX_DEPTH,
    ROWS,
    SCALE_TRITS,
    SCALES,
    half_range,
    row_tiles,
    tiles_shape,
)
from tritstream.golden.kernels import load
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.rounding import FORM, Form
from tritstream.golden.row_chunks import row_chunks, run_in_threads
from tritstream.golden.trit import decode, encode, to_digit, to_trit

__all__ = [
    "check_tiles", "check_trits", "pack", "pack_codes", "pack_trits", "padding_is_zero",
    "row_packer", "trits_padding_is_zero", "trits_shape", "unpack", "unpack_codes", "unpack_trits",
    "word_stream",
]


def pack(matrix: TritMatrix, engine: str | None = "numpy") -> np.ndarray:
    """Return the tiles of a matrix: uint8 (ceil(N/5), ceil(K/16), 16d+3).

    All engines of :mod:`tritstream.golden.kernels` return identical bytes. None selects the
    fastest engine. Raises :class:`ValueError` for a matrix with other groups or direct scales,
    which :func:`tritstream.golden.packed_matrix.packed_matrix` packs.
    """
    if not isinstance(matrix, TritMatrix) or matrix.group != GROUP:
        kind = "coded" if isinstance(matrix, TritMatrix) else "direct"
        raise ValueError(f"tiles have groups of {GROUP} with coded scales, not groups of "
                         f"{matrix.group} with {kind} scales; packed_matrix packs such a matrix")
    tiles = np.empty(tiles_shape(matrix.shape, matrix.depth), np.uint8)
    pack_rows = row_packer(matrix.depth, engine)

    def work(chunk: slice) -> None:
        tiles[chunk.start // ROWS:row_tiles(chunk.stop)] = pack_rows(*matrix.take_rows(chunk))

    run_in_threads(work, row_chunks(matrix.rows, matrix.q.shape[1], ROWS))
    return tiles


def row_packer(
    depth: int, engine: str | None = None,
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that packs a few rows at a time, for callers that hold no matrix.

    The function takes integers int8 (rows, Kp) and codes uint8 (rows, Kp/16), Kp a multiple of 16,
    and returns tiles uint8 (ceil(rows/5), Kp/16, 16d+3).
    """
    return partial(load(engine).pack_tiles, digits=_digits_of_integers(depth),
                   code_digits=_DIGITS_OF_CODES, depth=depth)


def unpack(
    tiles: np.ndarray, depth: int, shape: tuple[int, int], table: np.ndarray, form: Form = FORM,
) -> TritMatrix:
    """Return the matrix (N, K) of tiles: the reverse of :func:`pack`.

    Every byte value is accepted. Values in the padding are ignored. Raises :class:`ValueError`
    when the tiles do not have the dtype and shape that ``shape`` and ``depth`` require.
    """
    check_tiles(tiles, depth, shape)
    rows, groups = shape[0], tiles.shape[1]
    q = np.empty((rows, GROUP * groups), np.int8)
    codes = np.empty((rows, groups), np.uint8)

    def work(chunk: slice) -> None:
        taken, count = tiles[chunk.start // ROWS:row_tiles(chunk.stop)], chunk.stop - chunk.start
        weights = taken[..., :GROUP * depth].reshape(len(taken), GROUP * groups, depth)
        q[chunk] = _unpacked(weights, _TRIT_VALUES, count) - np.uint8(half_range(depth))
        codes[chunk] = unpack_codes(taken[..., GROUP * depth:], count)

    run_in_threads(work, row_chunks(rows, q.shape[1], ROWS))
    q[:, shape[1]:] = 0
    return TritMatrix(depth, (shape[0], shape[1]), q, codes, table, form)


def trits_shape(shape: tuple[int, int], depth: int) -> tuple[int, int]:
    """Return the shape of the trits of an N x K matrix: (row tiles, Kp * d)."""
    tiles, groups, _ = tiles_shape(shape, depth)
    return tiles, groups * GROUP * depth


def pack_trits(q: np.ndarray, depth: int, engine: str | None = "numpy") -> np.ndarray:
    """Return the trits of some rows: int8 (rows, Kp) to uint8 (ceil(rows/5), Kp * d)."""
    no_codes = np.zeros((len(q), q.shape[1] // GROUP), np.uint8)
    tiles = row_packer(depth, engine)(q, no_codes)[..., :GROUP * depth]
    return tiles.reshape(len(tiles), -1)


def unpack_trits(trits: np.ndarray, depth: int, shape: tuple[int, int]) -> np.ndarray:
    """Return the integers of trits: uint8 (ceil(N/5), Kp * d) to int8 (N, Kp).

    Values in the padding are ignored. Raises :class:`ValueError` for another dtype or shape.
    """
    check_trits(trits, depth, shape)
    q = np.empty((shape[0], trits.shape[1] // depth), np.int8)

    def work(chunk: slice) -> None:
        taken = trits[chunk.start // ROWS:row_tiles(chunk.stop)]
        weights = taken.reshape(len(taken), -1, depth)
        q[chunk] = (_unpacked(weights, _TRIT_VALUES, chunk.stop - chunk.start)
                    - np.uint8(half_range(depth)))

    run_in_threads(work, row_chunks(len(q), q.shape[1], ROWS))
    q[:, shape[1]:] = 0
    return q


def pack_codes(codes: np.ndarray) -> np.ndarray:
    """Return the digits of scale codes, five rows per byte: uint8 (N, C) to (ceil(N/5), C, 3)."""
    filled = np.zeros((ROWS * row_tiles(len(codes)), codes.shape[1]), np.uint8)
    filled[:len(codes)] = codes
    digits = filled[..., None] // _POWERS[:SCALE_TRITS] % 3
    return encode(np.moveaxis(digits.reshape(-1, ROWS, *digits.shape[1:]), 1, -1))


def unpack_codes(digits: np.ndarray, rows: int) -> np.ndarray:
    """Return scale codes from their digits: uint8 (ceil(N/5), C, 3) to (N, C)."""
    return _unpacked(digits, _CODE_VALUES, rows)


def padding_is_zero(tiles: np.ndarray, depth: int, shape: tuple[int, int]) -> bool:
    """Return whether the padding rows and columns hold zero trits and code 0."""
    check_tiles(tiles, depth, shape)
    columns = -shape[1] % GROUP
    last_columns = tiles[:, -1, (GROUP - columns) * depth:GROUP * depth]
    return _no_digits(tiles[-1], -shape[0] % ROWS) and _no_digits(last_columns, ROWS)


def trits_padding_is_zero(trits: np.ndarray, depth: int, shape: tuple[int, int]) -> bool:
    """Return whether the padding rows and columns of trits are zeros."""
    check_trits(trits, depth, shape)
    return _no_digits(trits[-1], -shape[0] % ROWS) and _no_digits(trits[:, shape[1] * depth:], ROWS)


def _no_digits(packed: np.ndarray, rows: int) -> bool:
    """Return whether the last ``rows`` digits of all bytes are zeros."""
    return not decode(packed)[..., ROWS - rows:].any()


def word_stream(tiles: np.ndarray, lanes: int) -> np.ndarray:
    """Return words in the order a device reads them: uint8 (blocks, groups, 16d+3, lanes).

    A word has one byte per lane. Lane ``l`` of row block ``b`` reads row tile ``b * lanes + l``.
    Tiles beyond the last row tile are zeros. Raises :class:`ValueError` for ``lanes`` below 1.
    """
    if lanes < 1:
        raise ValueError(f"lanes must be positive, not {lanes!r}")
    count, groups, size = tiles.shape
    blocks = -(-count // lanes)
    padded = np.zeros((blocks * lanes, groups, size), np.uint8)
    padded[:count] = tiles
    words = padded.reshape(blocks, lanes, groups, size).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(words)


def check_tiles(tiles: np.ndarray, depth: int, shape: tuple[int, int]) -> None:
    """Raise ValueError unless ``tiles`` have the dtype and shape for an N x K matrix."""
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be two positive integers, not {shape!r}")
    expected = tiles_shape(shape, depth)
    if tiles.dtype != np.uint8 or tiles.shape != expected:
        raise ValueError(f"tiles of a {shape[0]} x {shape[1]} matrix of depth {depth} must be "
                         f"uint8 {expected}, not {tiles.dtype} {tiles.shape}")


def check_trits(trits: np.ndarray, depth: int, shape: tuple[int, int]) -> None:
    """Raise ValueError unless ``trits`` have the dtype and shape for an N x K matrix."""
    expected = trits_shape(shape, depth)
    if trits.dtype != np.uint8 or trits.shape != expected:
        raise ValueError(f"trits of a {shape[0]} x {shape[1]} matrix of depth {depth} must be "
                         f"uint8 {expected}, not {trits.dtype} {trits.shape}")


def _unpacked(packed: np.ndarray, values: np.ndarray, rows: int) -> np.ndarray:
    """Return integers of packed digits: uint8 (row tiles, n, count) to uint8 (rows, n).

    ``values`` is a table of this module, uint64 (count, 256): the contribution of a byte that
    holds digit ``i``, for five rows at once. The additions of a table never carry into the next
    row, because no row's sum exceeds 80.
    """
    sums = values[0].take(packed[..., 0])
    for i in range(1, packed.shape[-1]):
        sums += values[i].take(packed[..., i])
    by_row = np.moveaxis(sums[..., None].view(np.uint8)[..., :ROWS], -1, 1)
    return by_row.reshape(-1, packed.shape[1])[:rows]


def _join_bytes(values: np.ndarray, size: int) -> np.ndarray:
    """Return little-endian integers of ``size`` bytes made of ``values`` (..., n), n <= size."""
    wide = np.zeros((*values.shape[:-1], size), np.uint8)
    wide[..., :values.shape[-1]] = values
    return wide.view(np.dtype(f"<u{size}"))[..., 0]


def _digits_of_integers(depth: int) -> np.ndarray:
    """Return the digits of -h..h, indexed by the integer's low byte: uint32 (256,).

    Byte ``i`` of an entry is digit ``i``. At depth 2, -2 = 1 - 3 has trits +1, -1 and so digits
    1, 2: entry 0xfe is 0x0201.
    """
    half = half_range(depth)
    values = np.arange(2 * half + 1)
    digits = np.zeros(256, np.uint32)
    digits[values - half] = _join_bytes(to_digit(values[:, None] // _POWERS[:depth] % 3 - 1), 4)
    return digits


_POWERS = 3 ** np.arange(ROWS)
#: Digits of scale codes, indexed by code: uint32 (27,), digit ``i`` in byte ``i``.
_DIGITS_OF_CODES = _join_bytes(np.arange(SCALES)[:, None] // _POWERS[:SCALE_TRITS] % 3, 4)

# A byte of a tile holds the digit number i of five rows. These tables give, by i and byte, the
# contribution 3^i * digit of all five rows, as the five low bytes of one uint64 (row 0 lowest), so
# that one look-up and one addition unpack five rows. For example, byte 0x06 has digits
# 2, 1, 0, 0, 0. As digit 1 of scale codes it contributes 6 to row 0 and 3 to row 1: the entry is
# 0x0306.
_PLACE_VALUES = _POWERS[:MAX_DEPTH, None, None]                                 # (i, byte, row)
_ALL_DIGITS = decode(np.arange(256, dtype=np.uint8))                            # (byte, row)
_CODE_VALUES = _join_bytes(_PLACE_VALUES * _ALL_DIGITS, 8)                      # (i, byte)
#: As above, of trit + 1 (0..2) in place of the digit, so that no row is negative. The sum is q + h.
_TRIT_VALUES = _join_bytes(_PLACE_VALUES * (to_trit(_ALL_DIGITS) + 1), 8)
