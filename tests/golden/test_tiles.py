import re

import numpy as np
import pytest

from tritstream.golden.fixed_point import ROWS, row_blocks, row_tiles, tile_bytes, tiles_shape
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.tiles import pack, padding_is_zero, unpack, word_stream
from tritstream.golden.trit import decode, encode

from support.golden_cases import integer_matrix

TABLE = np.arange(1, 28, dtype=np.float32)
SHAPES = [(1, 1), (5, 16), (6, 17), (13, 40), (20, 48)]


def matrix_of(depth, shape, weights, codes):
    """A matrix of zeros but for ``{(row, column): q}`` and ``{(row, group): code}``."""
    groups = -(-shape[1] // 16)
    q, k = np.zeros((shape[0], 16 * groups), np.int8), np.zeros((shape[0], groups), np.uint8)
    for place, value in weights.items():
        q[place] = value
    for place, value in codes.items():
        k[place] = value
    return TritMatrix(depth, shape, q, k, TABLE)


def assert_equal_matrices(a, b):
    assert (a.depth, a.shape) == (b.depth, b.shape)
    for name in ("q", "codes", "table"):
        assert getattr(a, name).dtype == getattr(b, name).dtype
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


# A trit block without any 2 at D2 and with D3, D4 not both 2 holds D0 in bits 1:0, D1 in 3:2,
# D2 in 4, D3 in 6:5 and D4 in 7; a weight -1 is digit 2. The hand-made cases need no other form
# but 0x7e, all five digits 2.

def test_hand_written_tiles_of_depth_1():
    matrix = matrix_of(1, (6, 17), {
        (0, 0): 1, (4, 0): 1,                   # D0 = D4 = 1
        (1, 1): -1,                             # D1 = 2
        (2, 2): 1,                              # D2 = 1
        (0, 3): -1, (1, 3): -1, (2, 3): -1, (3, 3): -1, (4, 3): -1,
        (3, 15): -1,                            # D3 = 2
        (1, 16): 1,                             # group 1: D1 = 1
        (5, 4): -1, (5, 16): 1,                 # tile 1, its row 0: D0
    }, {
        (0, 0): 5, (1, 0): 26,                  # 2 + 3 * 1 and 2 + 3 * 2 + 9 * 2
        (3, 1): 9,                              # third digit 1: D3
        (5, 0): 3,                              # second digit 1: D0
    })
    tiles = pack(matrix)
    assert tiles.dtype == np.uint8
    assert tiles.shape == (2, 2, 19)
    assert tiles[0, 0].tobytes().hex(" ") == (
        "81 08 10 7e 00 00 00 00 00 00 00 00 00 00 00 40 0a 09 08")
    assert tiles[0, 1].tobytes().hex(" ") == (
        "04 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 20")
    assert tiles[1, 0].tobytes().hex(" ") == (
        "00 00 00 00 02 00 00 00 00 00 00 00 00 00 00 00 00 01 00")
    assert tiles[1, 1].tobytes().hex(" ") == (
        "01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00")
    assert_equal_matrices(unpack(tiles, 1, (6, 17), TABLE), matrix)


def test_hand_written_tiles_of_depth_2():
    matrix = matrix_of(2, (5, 16), {
        (0, 0): 3,                              # 0 + 3 * 1: byte 0 nothing, byte 1 D0 = 1
        # 2 = -1 + 3, -4 = -1 - 3, 3 = 0 + 3, 1: byte 10 is (2, 2, 0, 0, 1), byte 11 is
        # (1, 2, 1, 0, 0) = 1 + (2 << 2) + (1 << 4)
        (0, 5): 2, (1, 5): -4, (2, 5): 3, (4, 5): 1,
        (3, 15): -2,                            # 1 - 3: byte 30 D3 = 1, byte 31 D3 = 2
    }, {(0, 0): 1, (1, 0): 6, (4, 0): 9})       # bytes 32, 33, 34: D0 = 1, D1 = 2, D4 = 1
    tiles = pack(matrix)
    assert tiles.shape == (1, 1, 35)
    assert tiles[0, 0].tobytes().hex(" ") == (
        "00 01 00 00 00 00 00 00 00 00 8a 19 00 00 00 00 "
        "00 00 00 00 00 00 00 00 00 00 00 00 00 00 20 40 01 08 80")
    assert_equal_matrices(unpack(tiles, 2, (5, 16), TABLE), matrix)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_digit_of_a_tile(shape, depth):
    matrix = integer_matrix(*shape, depth)
    tiles = pack(matrix)
    digits = decode(tiles).astype(int)
    for r, g in np.ndindex(tiles.shape[:2]):
        for row in range(5):
            n = 5 * r + row
            for j in range(16):
                trits = [(0, 1, -1)[digits[r, g, j * depth + i, row]] for i in range(depth)]
                wanted = matrix.q[n, 16 * g + j] if n < shape[0] else 0
                assert sum(t * 3**i for i, t in enumerate(trits)) == wanted, (r, g, j, row)
            code = sum(3**i * digits[r, g, 16 * depth + i, row] for i in range(3))
            assert code == (matrix.codes[n, g] if n < shape[0] else 0), (r, g, row)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_unpack_reverses_pack(shape, depth):
    matrix = integer_matrix(*shape, depth)
    tiles = pack(matrix)
    assert_equal_matrices(unpack(tiles, depth, shape, matrix.table), matrix)
    assert padding_is_zero(tiles, depth, shape)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_every_weight_and_every_code(depth):
    half = (3**depth - 1) // 2
    values = np.arange(-half, half + 1)
    q = np.resize(values, (27, 96)).astype(np.int8)
    codes = np.resize(np.arange(27), (27, 6)).astype(np.uint8)
    matrix = TritMatrix(depth, (27, 96), q, codes, TABLE)
    assert set(values) == set(q.ravel().tolist())
    assert set(range(27)) == set(codes.ravel().tolist())
    assert_equal_matrices(unpack(pack(matrix), depth, (27, 96), TABLE), matrix)


@pytest.mark.parametrize("elements", [1, 600, 2000])
def test_chunks_do_not_matter(elements, monkeypatch):
    matrix = integer_matrix(38, 40, 3)
    tiles = pack(matrix)
    monkeypatch.setattr("tritstream.golden.row_chunks._ELEMENTS", elements)
    np.testing.assert_array_equal(pack(matrix), tiles)
    assert_equal_matrices(unpack(tiles, 3, (38, 40), matrix.table), matrix)


def test_unpack_takes_second_codes():
    matrix = matrix_of(1, (5, 16), {(row, 7): -1 for row in range(5)}, {})
    tiles = pack(matrix)
    assert tiles[0, 0, 7] == 0x7e
    tiles[0, 0, 7] = 0xfe
    assert_equal_matrices(unpack(tiles, 1, (5, 16), TABLE), matrix)


def test_unpack_drops_padding():
    matrix = integer_matrix(6, 20, 3)
    tiles = pack(matrix)
    tiles[1, :, :] = encode(np.r_[0, 2, 2, 2, 2]) | 1   # rows 6..9, and digits 1 for row 5
    tiles[:, 1, 4 * 3:16 * 3] = 0x01                    # columns 20..31
    dropped = unpack(tiles, 3, (6, 20), matrix.table)
    assert dropped.q.shape == (6, 32)
    assert not dropped.q[:, 20:].any()
    np.testing.assert_array_equal(dropped.q[:5], matrix.q[:5])
    np.testing.assert_array_equal(dropped.q[5, :20], 13)
    np.testing.assert_array_equal(dropped.codes[5], 13)


@pytest.mark.parametrize(("tiles", "depth", "message"), [
    (np.zeros((2, 2, 51), np.uint8), 2,
     r"^tiles of a 6 x 17 matrix of depth 2 must be uint8 \(2, 2, 35\), "
     r"not uint8 \(2, 2, 51\)$"),
    (np.zeros((1, 2, 35), np.uint8), 2,
     r"^tiles of a 6 x 17 matrix of depth 2 must be uint8 \(2, 2, 35\), "
     r"not uint8 \(1, 2, 35\)$"),
    (np.zeros((2, 1, 35), np.uint8), 2,
     r"^tiles of a 6 x 17 matrix of depth 2 must be uint8 \(2, 2, 35\), "
     r"not uint8 \(2, 1, 35\)$"),
    (np.zeros((2, 2, 35), np.int8), 2,
     r"^tiles of a 6 x 17 matrix of depth 2 must be uint8 \(2, 2, 35\), "
     r"not int8 \(2, 2, 35\)$"),
    (np.zeros(140, np.uint8), 2,
     r"^tiles of a 6 x 17 matrix of depth 2 must be uint8 \(2, 2, 35\), not uint8 \(140,\)$"),
    (np.zeros((2, 2, 83), np.uint8), 5, r"^depth must be 1\.\.4, not 5$"),
])
def test_wrong_tiles(tiles, depth, message):
    for action in (
        lambda: unpack(tiles, depth, (6, 17), TABLE),
        lambda: padding_is_zero(tiles, depth, (6, 17)),
    ):
        with pytest.raises(ValueError, match=message):
            action()


@pytest.mark.parametrize(("table", "message"), [
    (TABLE[:26], r"^table must be float32 \(27,\), not float32 \(26,\)$"),
    (TABLE.astype(np.float64), r"^table must be float32 \(27,\), not float64 \(27,\)$"),
    (-TABLE, r"^table must be finite and positive, not -1\.0 at code 0$"),
])
def test_unpack_wrong_table(table, message):
    with pytest.raises(ValueError, match=message):
        unpack(np.zeros((2, 2, 35), np.uint8), 2, (6, 17), table)


# A 13 x 40 matrix: rows 13 and 14 are padding (D3 and D4 of tile 2), so are columns 40..47
# (bytes 8 d and up of group 2, below those of the codes).
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(("tile", "group", "byte", "digit"), [
    pytest.param(2, 0, lambda d: 0, 3, id="weight of the first padding row"),
    pytest.param(2, 1, lambda d: 16 * d - 1, 4, id="weight of the last padding row"),
    pytest.param(2, 1, lambda d: 16 * d, 3, id="code of a padding row"),
    pytest.param(2, 0, lambda d: 16 * d + 2, 4, id="last digit of the code of a padding row"),
    pytest.param(0, 2, lambda d: 8 * d, 0, id="first padding column"),
    pytest.param(1, 2, lambda d: 16 * d - 1, 4, id="last padding column"),
])
def test_padding_is_not_zero(tile, group, byte, digit, depth):
    tiles = pack(integer_matrix(13, 40, depth))
    assert padding_is_zero(tiles, depth, (13, 40))
    for value in (1, 2):
        digits = decode(tiles[tile, group, byte(depth)])
        assert digits[digit] == 0
        digits[digit] = value
        damaged = tiles.copy()
        damaged[tile, group, byte(depth)] = encode(digits)
        assert not padding_is_zero(damaged, depth, (13, 40))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_only_padding_is_checked(depth):
    tiles = np.full((2, 2, 16 * depth + 3), 0x7e, np.uint8)
    assert padding_is_zero(tiles, depth, (10, 32))
    assert not padding_is_zero(tiles, depth, (9, 32))
    assert not padding_is_zero(tiles, depth, (10, 31))


@pytest.mark.parametrize("lanes", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("depth", [1, 4])
def test_word_stream_order(lanes, depth):
    tiles = pack(integer_matrix(43, 48, depth))     # 9 tiles
    stream = word_stream(tiles, lanes)
    blocks = row_blocks(43, lanes)
    assert stream.dtype == np.uint8
    assert stream.flags.c_contiguous
    assert stream.shape == (blocks, 3, 16 * depth + 3, lanes)
    flat = iter(stream.tobytes())
    for b in range(blocks):
        for g in range(3):
            for byte in range(16 * depth + 3):
                for lane in range(lanes):
                    tile = b * lanes + lane
                    wanted = tiles[tile, g, byte] if tile < 9 else 0
                    assert next(flat) == wanted, f"block {b} group {g} byte {byte} lane {lane}"


def test_word_stream_does_not_keep_the_tiles():
    tiles = pack(integer_matrix(10, 16, 1))
    stream = word_stream(tiles, 1)
    assert not np.shares_memory(stream, tiles)


def test_sizes():
    assert ROWS == 5
    assert [tile_bytes(depth) for depth in (1, 2, 3, 4)] == [19, 35, 51, 67]
    assert [row_tiles(rows) for rows in (1, 4, 5, 6, 10, 11)] == [1, 1, 1, 2, 2, 3]
    assert [row_blocks(rows, 8) for rows in (1, 40, 41, 80, 81)] == [1, 1, 2, 2, 3]
    assert tiles_shape((896, 4864), 2) == (180, 304, 35)
    assert tiles_shape((1, 17), 4) == (1, 2, 67)


@pytest.mark.parametrize("depth", [0, 5, -1])
def test_wrong_depth(depth):
    with pytest.raises(ValueError, match=rf"^depth must be 1\.\.4, not {depth}$"):
        tile_bytes(depth)


@pytest.mark.parametrize("shape", [(0, 17), (6, 0), (6,), (6, 17, 1)])
def test_wrong_shape(shape):
    message = rf"^shape must be two positive integers, not {re.escape(repr(shape))}$"
    tiles = np.zeros((2, 2, 35), np.uint8)
    with pytest.raises(ValueError, match=message):
        unpack(tiles, 2, shape, TABLE)
    with pytest.raises(ValueError, match=message):
        padding_is_zero(tiles, 2, shape)


@pytest.mark.parametrize("lanes", [0, -8])
def test_word_stream_wrong_lanes(lanes):
    with pytest.raises(ValueError, match=rf"^lanes must be positive, not {lanes}$"):
        word_stream(np.zeros((2, 2, 35), np.uint8), lanes)
