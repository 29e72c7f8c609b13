"""Products on the host's processor and by torch: the same row sums as golden's."""

import os
import re
import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tritstream.golden.gemv import gemv
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.tiles import pack, unpack
from tritstream.host.kernels import cpu_matrix, torch_matrix
from tritstream.host.kernels.cpu_matrix import CpuMatrix
from tritstream.host.kernels.lane_words import lane_words
from tritstream.host.kernels.numba_products import quotients
from tritstream.host.kernels.torch_matrix import TorchMatrix

from support.golden_cases import integer_matrix

#: Sizes around those of groups, tiles and blocks (16, 5 and 160).
SHAPES = [(1, 1), (5, 16), (6, 17), (159, 40), (160, 31), (161, 48), (325, 100)]
DEPTHS = [1, 2, 3, 4]


class OnTorch:
    """A torch matrix in place of a :class:`CpuMatrix`."""

    def __init__(self, *arguments):
        self._matrix = TorchMatrix(arguments, torch.device("cpu"))

    def gemv(self, x):
        return self._matrix.gemv(torch.from_numpy(x)).numpy()


@pytest.fixture(params=[CpuMatrix, OnTorch])
def kind(request):
    return request.param


def packed(kind, matrix, tiles=None):
    return kind(pack(matrix) if tiles is None else tiles, matrix.table, matrix.depth, matrix.shape)


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
@settings(max_examples=60, deadline=None, derandomize=True)
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


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_shares_of_the_blocks(threads, monkeypatch):
    """Three blocks among fewer, as many, and more threads."""
    matrix, x = integer_matrix(325, 64, 3), vectors(2, 64)
    monkeypatch.setattr(cpu_matrix, "_SHARED", 0)
    monkeypatch.setattr(cpu_matrix, "_THREADS", threads)
    assert_same(packed(CpuMatrix, matrix).gemv(x), gemv(matrix, x))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_multiplies_too(monkeypatch):
    """Threads of the pool do not survive a fork."""
    matrix, x = integer_matrix(325, 64, 3), vectors(2, 64)
    monkeypatch.setattr(cpu_matrix, "_SHARED", 0)
    multiply = packed(CpuMatrix, matrix).gemv
    wanted = multiply(x)
    if not (child := os.fork()):
        signal.alarm(60)
        os._exit(0 if np.array_equal(multiply(x), wanted) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("values", [1, 5000, 40000])
def test_parts_of_a_torch_product_do_not_matter(values, monkeypatch):
    matrix, x = integer_matrix(325, 64, 3), vectors(20, 64)
    monkeypatch.setattr(torch_matrix, "_VALUES", values)
    assert_same(packed(OnTorch, matrix).gemv(x), gemv(matrix, x))


@pytest.mark.parametrize(("shape", "depth", "least", "most"), [
    ((4864, 896), 3, 5.3, 5.5), ((4864, 896), 1, 2.1, 2.2), ((160, 896), 2, 3.69, 3.71)])
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
        kind(tiles, matrix.table, 3, matrix.shape)
    with pytest.raises(ValueError, match=r"^table must be finite and positive, not -"):
        kind(tiles, -matrix.table, 2, matrix.shape)
    with pytest.raises(ValueError, match=r"^shape must be two positive integers, not \(0, 20\)$"):
        kind(tiles, matrix.table, 2, (0, 20))


def test_numbers_of_the_bytes_and_their_quotients():
    """Words of one tile, by hand; and the quotients of every number of five digits."""
    matrix = TritMatrix(1, (5, 16), np.zeros((5, 16), np.int8), np.zeros((5, 1), np.uint8),
                        np.ones(27, np.float32))
    matrix.q[:, 2], matrix.codes[:, 0] = (1, -1, 0, 1, -1), (0, 26, 3, 7, 1)
    words = lane_words(pack(matrix), 1, (5, 16))
    # Trits plus one are 2, 0, 1, 2, 0; five trits of zero are 121.
    assert words.numbers[0, 0, :, 0].tolist() == [121] * 2 + [2 + 9 + 2 * 27] + [121] * 13
    assert words.numbers[0, 0, :, 1].tolist() == [121] * 16
    assert words.codes[0, 0].reshape(5, 32)[:, 0].tolist() == [0, 26, 3, 7, 1]
    for number in range(243):
        assert quotients.py_func(number) == tuple(number // 3 ** r for r in range(5))
