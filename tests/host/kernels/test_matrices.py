"""Products on the host's processor and by torch: the same row sums as golden's."""

import os
import re
import signal
from ctypes import CFUNCTYPE, c_void_p, cast
from functools import cache
from itertools import count

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tritstream.golden.gemv import gemv
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.tiles import pack, padding_is_zero, unpack
from tritstream.host.kernels import cpu_matrix, threads, torch_matrix
from tritstream.host.kernels.cpu_matrix import CpuMatrix
from tritstream.host.kernels.numba_products import block_products
from tritstream.host.kernels.packed_words import PackedWords, from_lanes, to_lanes
from tritstream.host.kernels.threads import Sharing
from tritstream.host.kernels.torch_matrix import TorchMatrix

from support.golden_cases import integer_matrix

#: Sizes around those of groups, tiles and blocks (16, 5 and 64).
SHAPES = [(1, 1), (5, 16), (6, 17), (63, 40), (64, 31), (65, 48), (325, 100)]
DEPTHS = [1, 2, 3, 4]
TABLE = np.ones(27, np.float32)


class OnTorch:
    """A torch matrix in place of a :class:`CpuMatrix`."""

    def __init__(self, matrix):
        self._matrix = TorchMatrix(matrix, torch.device("cpu"))

    def gemv(self, x):
        return self._matrix.gemv(torch.from_numpy(x)).numpy()


@pytest.fixture(params=[CpuMatrix, OnTorch])
def kind(request):
    return request.param


def packed(kind, matrix, tiles=None):
    tiles = pack(matrix) if tiles is None else tiles
    return kind((tiles, matrix.table, matrix.depth, matrix.shape))


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).integers(-128, 128, shape, np.int8)


def assert_same(found, wanted):
    assert (found.dtype, found.shape) == (np.int64, wanted.shape)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_equal_golden(kind, shape, depth):
    matrix = integer_matrix(*shape, depth, seed=depth)
    x = vectors(5, shape[1], seed=depth)
    assert_same(packed(kind, matrix).gemv(x), gemv(matrix, x))


@given(rows=st.integers(1, 400), columns=st.integers(1, 120), depth=st.sampled_from(DEPTHS),
       count=st.integers(0, 20), seed=st.integers(0, 1 << 32), ratio=st.floats(1.01, 1e6))
@settings(max_examples=60)
def test_sums_equal_golden_for_any_size(rows, columns, depth, count, seed, ratio):
    matrix = integer_matrix(rows, columns, depth, seed, ratio)
    x = vectors(count, columns, seed=seed)
    for kind in (CpuMatrix, OnTorch):
        assert_same(packed(kind, matrix).gemv(x), gemv(matrix, x))


@pytest.mark.parametrize("depth", DEPTHS)
def test_extreme_values(kind, depth):
    half = (3**depth - 1) // 2
    signs = np.random.default_rng(3).choice([-1, 1], (6, 512))
    signs[0], signs[1] = 1, -1
    matrix = TritMatrix(depth, (6, 512), (half * signs).astype(np.int8),
                        np.zeros((6, 32), np.uint8), np.ones(27, np.float32))
    x = np.full((4, 512), -128, np.int8)
    x[1], x[2] = 127, np.where(signs[4] < 0, -128, 127)
    x[3] = np.where(signs[5] < 0, 127, -128)
    assert_same(packed(kind, matrix).gemv(x), x.astype(np.int64) @ (131071 * half * signs).T)


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_byte_and_the_values_of_the_padding(kind, depth):
    """All 256 bytes, also those that no writer uses, and trits beyond the last row and column."""
    matrix = integer_matrix(163, 250, depth)
    tiles = np.random.default_rng(1).permutation(
        np.resize(np.arange(256, dtype=np.uint8), pack(matrix).size)).reshape(pack(matrix).shape)
    x = vectors(3, 250)
    wanted = unpack(tiles, depth, matrix.shape, matrix.table)
    assert_same(packed(kind, matrix, tiles).gemv(x), gemv(wanted, x))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("number", [1, 2, 3, 31, 32, 33, 70])
def test_any_number_of_vectors(depth, number):
    """Sums of few and of many vectors are computed in different ways, and 32 at a time."""
    matrix, x = integer_matrix(70, 50, depth), vectors(number, 50)
    assert_same(packed(CpuMatrix, matrix).gemv(x), gemv(matrix, x))


def test_one_vector_and_none():
    matrix, x = integer_matrix(12, 100, 3), vectors(100)
    assert_same(packed(CpuMatrix, matrix).gemv(x), gemv(matrix, x))
    for kind in (CpuMatrix, OnTorch):
        assert_same(packed(kind, matrix).gemv(vectors(0, 100)), gemv(matrix, vectors(0, 100)))


def test_memory_order_does_not_matter(kind):
    matrix, x = integer_matrix(37, 100, 2), vectors(3, 100)
    multiply = packed(kind, matrix).gemv
    assert_same(multiply(np.asfortranarray(x)), gemv(matrix, x))
    assert_same(multiply(np.repeat(x, 2, axis=1)[:, ::2]), gemv(matrix, x))


@pytest.fixture(params=["threads of torch", "other threads"])
def in_threads(request, monkeypatch):
    """Threads multiply matrices of any size: those of OpenMP, if torch has them, or of a pool."""
    sharing = Sharing(block_products().address, least=0)
    sharing._seconds = 1e6      # no wait is too long
    monkeypatch.setattr(cpu_matrix, "_sharing", lambda: sharing)
    if request.param == "other threads":
        monkeypatch.setattr(threads, "_openmp", cache(lambda: None))
    elif not threads._openmp():
        pytest.skip("torch has no OpenMP with GOMP_parallel")


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_shares_of_the_blocks(in_threads, number, monkeypatch):
    """Six blocks among fewer, and more threads."""
    matrix, x = integer_matrix(325, 64, 3), vectors(2, 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: number)
    multiply = packed(CpuMatrix, matrix).gemv
    for _ in range(20):
        assert_same(multiply(x), gemv(matrix, x))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_multiplies_too(in_threads, monkeypatch):
    """Threads do not survive a fork."""
    matrix, x = integer_matrix(325, 64, 3), vectors(2, 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    multiply = packed(CpuMatrix, matrix).gemv
    wanted = multiply(x)
    if not (child := os.fork()):
        signal.alarm(60)
        os._exit(0 if np.array_equal(multiply(x), wanted) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_work_is_shared_as_long_as_no_thread_waits(monkeypatch):
    """The first call and small ones are alone. After a late one, so are the next 256."""
    clock, calls = iter(count(0, 0.001)), []
    late = 0.0

    def perf_counter():
        return next(clock) + late

    def parallel(function, argument, threads, flags):
        nonlocal late
        calls.append((argument, threads, flags))
        late += waits.pop()

    monkeypatch.setattr(threads, "perf_counter", perf_counter)
    monkeypatch.setattr(threads, "_openmp", lambda: parallel)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    alone = []
    function = CFUNCTYPE(None, c_void_p)(lambda argument: alone.append(argument))
    sharing = Sharing(cast(function, c_void_p).value, least=10)
    waits = [0.0, 0.0, 0.005, 0.0015]
    sharing.run(1, 10)                      # takes a millisecond
    assert (alone, calls) == ([1], [])
    sharing.run(2, 9)
    assert (alone, calls) == ([1, 2], [])
    sharing.run(3, 10)
    sharing.run(4, 10)                      # 6 milliseconds, more than 1 + 2 * 1
    assert (alone, calls) == ([1, 2], [(3, 4, 0), (4, 4, 0)])
    for _ in range(256):
        sharing.run(5, 10)
    assert len(alone) == 258 and len(calls) == 2
    sharing.run(6, 10)
    assert len(alone) == 258 and calls[2:] == [(6, 4, 0)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    sharing.run(7, 10)
    assert len(alone) == 259 and len(calls) == 3


@pytest.mark.parametrize("values", [1, 5000, 40000])
def test_parts_of_a_torch_product_do_not_matter(values, monkeypatch):
    matrix, x = integer_matrix(325, 64, 3), vectors(20, 64)
    monkeypatch.setattr(torch_matrix, "_VALUES", values)
    assert_same(packed(OnTorch, matrix).gemv(x), gemv(matrix, x))


@pytest.mark.parametrize(("shape", "depth", "least", "most"), [
    ((640, 896), 1, 2.49, 2.51), ((640, 896), 2, 4.49, 4.51), ((640, 896), 3, 5.49, 5.51),
    ((640, 896), 4, 7.49, 7.51), ((577, 897), 3, 6.2, 6.21)])
def test_memory_is_that_of_packed_weights(shape, depth, least, most):
    matrix = packed(CpuMatrix, integer_matrix(*shape, depth))
    assert least < 8 * matrix.nbytes / (shape[0] * shape[1]) < most


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_wrong_dtype(dtype):
    with pytest.raises(TypeError, match=rf"^activations must be int8, not {np.dtype(dtype)}$"):
        packed(CpuMatrix, integer_matrix(2, 20, 1)).gemv(np.zeros(20, dtype))


@pytest.mark.parametrize("shape", [(), (19,), (32,), (20, 1), (1, 1, 20)])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match=re.escape(
            f"activations must have shape (20,) or (B, 20), not {shape}")):
        packed(CpuMatrix, integer_matrix(2, 20, 1)).gemv(np.zeros(shape, np.int8))


def test_wrong_tiles_and_tables(kind):
    matrix = integer_matrix(6, 20, 2)
    tiles = pack(matrix)
    with pytest.raises(ValueError, match=r"^tiles of a 6 x 20 matrix of depth 3 must be uint8 "
                                         r"\(2, 2, 51\), not uint8 \(2, 2, 35\)$"):
        kind((tiles, matrix.table, 3, matrix.shape))
    with pytest.raises(ValueError, match=r"^table must be finite and positive, not -"):
        kind((tiles, -matrix.table, 2, matrix.shape))
    with pytest.raises(ValueError, match=r"^shape must be two positive integers, not \(0, 20\)$"):
        kind((tiles, matrix.table, 2, (0, 20)))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", [*SHAPES, (700, 1200)])
def test_tiles_are_made_again(shape, depth):
    tiles = pack(integer_matrix(*shape, depth))
    np.testing.assert_array_equal(CpuMatrix((tiles, TABLE, depth, shape)).tiles(), tiles)


def test_tiles_made_again_have_zeros_as_padding():
    tiles = pack(integer_matrix(6, 17, 2))
    other = tiles.copy()
    other[1, :, 0], other[:, 1, 10] = 200, 7
    again = CpuMatrix((other, TABLE, 2, (6, 17))).tiles()
    np.testing.assert_array_equal(again[:, 1, 2:], tiles[:, 1, 2:])
    assert padding_is_zero(again, 2, (6, 17))
    assert not padding_is_zero(other, 2, (6, 17))


def test_words_by_hand():
    """A word is ``ceil(2^16 v / 3^10)`` for its ten trits plus one, v, highest first."""
    matrix = TritMatrix(3, (2, 16), np.zeros((2, 16), np.int8), np.zeros((2, 1), np.uint8),
                        np.ones(27, np.float32))
    matrix.q[1], matrix.codes[1] = np.arange(-7, 9), 26
    words = PackedWords(pack(matrix)[..., :48], 3, (2, 16))
    assert words.numbers.shape == (1, 1, 5, 64)
    codes = to_lanes(matrix.codes)
    assert codes.shape == (1, 1, 64) and codes[0, 0, :3].tolist() == [0, 26, 0]
    assert from_lanes(codes, 2).tolist() == [[0], [26]]
    # Weights plus 13 are 6 to 21, and the trits plus one of the last are 0, 1, 2.
    values = [((6 + 3 * word) * 27 + 7 + 3 * word) * 27 + 8 + 3 * word for word in range(5)]
    values = [3 * value + last for value, last in zip(values, (0, 1, 2, 0, 0), strict=True)]
    assert words.numbers[0, 0, :, 1].tolist() == [-(-(value << 16) // 3**10) for value in values]


def test_every_word_and_its_quotients():
    """The first c trits of each number of ten trits are the high half of a product."""
    values = np.arange(3**10, dtype=np.uint64)
    fractions = -(-(values << 16).astype(np.int64) // 3**10)
    assert fractions.max() < 1 << 16
    for c in range(11):
        np.testing.assert_array_equal(fractions * 3**c >> 16, values // 3**(10 - c))
