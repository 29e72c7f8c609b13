import numpy as np
import pytest

from tritstream.golden.device_words import device_words, direct_order
from tritstream.golden.fixed_point import (
    GROUP_SUM_BITS,
    MAX_K,
    ROW_SUM_BITS,
    half_range,
    longest_piece,
    piece_columns,
)
from tritstream.golden.gemv import gemv
from tritstream.golden.matrix import DirectMatrix
from tritstream.golden.scales import DirectScales
from tritstream.golden.tiles import pack, word_stream
from tritstream.golden.trit import decode

from support.golden_cases import integer_matrix

LANES = [1, 2, 4, 8, 16, 32, 64]


def scale_words(lanes, mantissas):
    """Ten words of lanes bytes for mantissas[lane][row], from the text of the contract.

    W = max(1, L/8). Lane l is in run l // W; unit u of a place p serves runs 3u, 3u+1, 3u+2. Its
    byte lanes a_i are the lanes of run 3u+i with (5 a) mod W == p; the lanes whose row r it scales
    are b_i, the lanes of run 3u+i with (5 b + r) mod W == p.
    """
    width = max(1, lanes // 8)
    words = [[None] * lanes for _ in range(10)]

    def put(word, lane, byte):
        assert words[word][lane] is None
        words[word][lane] = byte

    for p in range(width):
        for u in range(-(-lanes // width // 3)):
            runs = [run for run in (3 * u, 3 * u + 1, 3 * u + 2) if run < lanes // width]
            for r in range(5):
                a = [lane for run in runs for lane in range(lanes)
                     if lane // width == run and 5 * lane % width == p]
                b = [lane for run in runs for lane in range(lanes)
                     if lane // width == run and (5 * lane + r) % width == p]
                low = [mantissas[lane][r] & 255 for lane in b]
                high = [mantissas[lane][r] >> 8 for lane in b]
                assert len(a) == len(b) == len(runs)
                if len(runs) == 1:
                    put(2 * r, a[0], low[0])
                    put(2 * r + 1, a[0], high[0])
                    continue
                for i in (0, 1):
                    put(2 * r + i, a[0], low[i])
                    put(2 * r + i, a[1], high[i])
                if len(runs) == 3:
                    put(2 * r, a[2], low[2])
                    put(2 * r + 1, a[2], high[2])
    return words


def random_case(rng, tiles, columns, depth, pieces):
    trits = rng.integers(0, 256, (tiles, columns * depth), dtype=np.uint8)
    mantissas = rng.integers(0, 65536, (tiles, pieces, 5), dtype=np.uint16)
    codes = rng.integers(0, 256, (tiles, pieces, 3), dtype=np.uint8)
    return trits, mantissas, codes


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize(("tiles", "columns", "depth", "piece"), [
    (1, 16, 1, 16), (3, 64, 2, 32), (9, 80, 1, 32), (70, 48, 4, 16), (65, 32, 3, 64),
])
def test_words_in_the_order_of_the_contract(tiles, columns, depth, piece, lanes):
    pieces = -(-columns // piece)
    trits, mantissas, codes = random_case(np.random.default_rng(lanes), tiles, columns, depth,
                                          pieces)
    blocks = -(-tiles // lanes)
    direct = iter(device_words(trits, mantissas, depth, piece, lanes).tobytes())
    coded = iter(device_words(trits, codes, depth, piece, lanes).tobytes())

    def byte_of(array, tile, *index):
        return int(array[(tile, *index)]) if tile < tiles else 0

    for block in range(blocks):
        held = range(block * lanes, (block + 1) * lanes)
        for piece_number in range(pieces):
            first = piece_number * piece
            for j in range(first, min(first + piece, columns)):
                for i in range(depth):
                    for tile in held:
                        wanted = byte_of(trits, tile, j * depth + i)
                        assert next(direct) == next(coded) == wanted
            for i in range(3):
                for tile in held:
                    assert next(coded) == byte_of(codes, tile, piece_number, i)
            rows = [[byte_of(mantissas, tile, piece_number, r) for r in range(5)] for tile in held]
            for word in scale_words(lanes, rows):
                for byte in word:
                    assert next(direct) == byte
    assert next(direct, None) is next(coded, None) is None


@pytest.mark.parametrize("lanes", LANES)
def test_every_byte_of_the_mantissas_is_in_one_place(lanes):
    order = direct_order(lanes)
    assert order.shape == (10, lanes)
    assert sorted(order.ravel().tolist()) == list(range(10 * lanes))


def test_hand_written_words_of_three_lanes_that_share_a_multiplier():
    # L = 4: units of lanes 0, 1, 2 and of lane 3. Byte 2 (5 b + r): low byte of row r of lane b.
    assert direct_order(4)[:4].tolist() == [
        [0, 1, 20, 30], [10, 11, 21, 31], [2, 3, 22, 32], [12, 13, 23, 33]]
    assert direct_order(1).ravel().tolist() == list(range(10))
    assert direct_order(2)[8:].tolist() == [[8, 9], [18, 19]]
    # L = 16: W = 2, runs (0, 1), (2, 3) ... Place 0: row 0 of even lanes, row 1 of odd lanes.
    assert direct_order(16)[2:4, :6].tolist() == [
        [12, 2, 13, 3, 52, 42], [32, 22, 33, 23, 53, 43]]


@pytest.mark.parametrize("lanes", [1, 8, 64])
@pytest.mark.parametrize("depth", [1, 3])
def test_groups_of_16_with_codes_are_the_words_of_tiles(lanes, depth):
    tiles = pack(integer_matrix(43, 70, depth))
    words = device_words(tiles[..., :16 * depth].reshape(len(tiles), -1), tiles[..., 16 * depth:],
                         depth, 16, lanes)
    assert words.tobytes() == word_stream(tiles, lanes).tobytes()


@pytest.mark.parametrize(("depth", "longest"), [(1, 1008), (2, 240), (3, 64), (4, 16)])
def test_longest_piece_is_the_longest_that_fits(depth, longest):
    largest = 2 ** (GROUP_SUM_BITS - 1) - 1
    assert longest_piece(depth) == longest
    assert longest * half_range(depth) * 128 <= largest
    assert (longest + 16) * half_range(depth) * 128 > largest


@pytest.mark.parametrize(("depth", "group", "columns", "most", "piece"), [
    (1, 128, 512, None, 128), (1, 256, 512, 128, 128), (1, 2048, 4096, None, 512),
    (2, 256, 512, None, 128), (2, 240, 480, None, 240), (3, 128, 512, None, 64),
    (3, 80, 160, None, 16), (4, 256, 512, None, 16), (1, 1504, 3008, None, 752),
    # One group per row: no boundary of groups.
    (1, 512, 512, None, 512), (1, 4096, 4090, None, 1008), (2, 2560, 2560, None, 240),
    (3, 2560, 2560, None, 64), (1, 4096, 4096, 600, 592),
])
def test_pieces(depth, group, columns, most, piece):
    assert piece_columns(depth, group, columns, most) == piece


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("sign", [-1, 1])
def test_46_bits_suffice_for_the_worst_row_of_direct_scales(sign, depth):
    half = half_range(depth)
    stored = np.full((1, MAX_K // 16), 65535, np.float32)
    matrix = DirectMatrix(depth, (1, MAX_K), np.full((1, MAX_K), sign * half, np.int8),
                          DirectScales(stored, 1), 16)
    sums = gemv(matrix, np.full(MAX_K, -128, np.int8))
    assert sums.tolist() == [-sign * MAX_K * half * 128 * 65535]
    assert -2 ** (ROW_SUM_BITS - 1) <= sums[0] < 2 ** (ROW_SUM_BITS - 1)


@pytest.mark.parametrize(("change", "message"), [
    ({"lanes": 0}, "lanes must be positive, not 0"),
    ({"trits": np.zeros((2, 33), np.uint8)}, r"trits must be uint8 \(row tiles, 16 n\), "
                                             r"not uint8 \(2, 33\)"),
    ({"scales": np.zeros((2, 3, 3), np.uint8)}, r"scales must be uint8 \(2, 2, 3\) or uint16 "
                                                r"\(2, 2, 5\), not uint8 \(2, 3, 3\)"),
    ({"scales": np.zeros((2, 2, 5), np.int64)}, r"scales must be uint8 \(2, 2, 3\) or uint16 "
                                                r"\(2, 2, 5\), not int64 \(2, 2, 5\)"),
])
def test_wrong_arrays(change, message):
    arguments = {"trits": np.zeros((2, 32), np.uint8), "scales": np.zeros((2, 2, 5), np.uint16),
                 "depth": 1, "piece": 16, "lanes": 8}
    with pytest.raises(ValueError, match=f"^{message}$"):
        device_words(**arguments | change)


def test_trits_of_the_words_decode_to_the_integers():
    matrix = integer_matrix(9, 40, 2)
    tiles = pack(matrix)
    words = device_words(tiles[..., :32].reshape(2, -1), np.zeros((2, 2, 5), np.uint16), 2, 32, 2)
    digits = decode(words[0, 32 * 2 + 10:-10])          # columns 32..47: (word, lane, row)
    values = np.array([0, 1, -1])[digits].reshape(16, 2, 10)
    q = values[:, 0] + 3 * values[:, 1]
    assert q.T[:9].tolist() == matrix.q[:, 32:].tolist()
