"""Products on the host's processor of matrices with other groups and scales: golden's row sums."""

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tritstream.golden.activation import BITNET, SYMMETRIC, quantize_activation
from tritstream.golden.gemv import gemv, results
from tritstream.golden.matrix import DirectMatrix, TritMatrix
from tritstream.golden.packed_matrix import packed_matrix
from tritstream.golden.scales import DirectScales
from tritstream.host.kernels import cpu_matrix
from tritstream.host.kernels.cpu_matrix import CpuMatrix
from tritstream.host.kernels.numba_products import block_products
from tritstream.host.kernels.threads import Sharing
from tritstream.host.kernels.torch_matrix import TorchMatrix

from support.golden_cases import direct_matrix, integer_matrix

DEPTHS = [1, 2, 3, 4]
HALF = {1: 1, 2: 4, 3: 13, 4: 40}
#: Matrices of 130 x 200 by kind: groups that divide rows and others, and scales of every kind.
KINDS = {
    "coded, 32": lambda d: integer_matrix(130, 200, d, group=32),
    "coded, row": lambda d: integer_matrix(130, 200, d, group=208),
    "direct, 16": lambda d: direct_matrix(130, 200, d, 16, seed=d),
    "direct, 48": lambda d: direct_matrix(130, 200, d, 48, ml_dtypes.bfloat16, seed=d),
    "direct, 64, float32": lambda d: direct_matrix(130, 200, d, 64, np.float32, seed=d),
    "inverse, 64": lambda d: direct_matrix(130, 200, d, 64, seed=d, inverse=True),
    "direct, row": lambda d: direct_matrix(130, 200, d, 208, seed=d),
    "inverse, matrix": lambda d: direct_matrix(130, 200, d, 208, seed=d, inverse=True,
                                               single=True),
}


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).integers(-128, 128, shape, np.int8)


def assert_same(matrix, x):
    found, wanted = CpuMatrix(packed_matrix(matrix)).gemv(x), gemv(matrix, x)
    assert (found.dtype, found.shape) == (np.int64, wanted.shape)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_sums_equal_golden(kind, depth):
    matrix = KINDS[kind](depth)
    for count in (0, 1, 2, 3, 33):
        assert_same(matrix, vectors(count, 200, seed=count))
    assert_same(matrix, vectors(200))


@given(rows=st.integers(1, 300), columns=st.integers(1, 200), depth=st.sampled_from(DEPTHS),
       units=st.integers(1, 13), coded=st.booleans(), seed=st.integers(0, 1 << 32))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_sums_equal_golden_for_any_size(rows, columns, depth, units, coded, seed):
    group = 16 * min(units, -(-columns // 16))
    matrix = (integer_matrix(rows, columns, depth, seed, group=group) if coded else
              direct_matrix(rows, columns, depth, group, seed=seed))
    assert_same(matrix, vectors(2, columns, seed=seed))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("columns", [16384, 16416, 40000])
@pytest.mark.parametrize("coded", [True, False])
def test_the_largest_sums_of_long_groups(columns, depth, coded):
    """Sums of a group that 32 bits would not hold with their mantissa, nor at 40000 for long."""
    signs = np.ones((3, columns), np.int8)
    signs[1], signs[2, ::2] = -1, -1
    q = HALF[depth] * signs
    if coded:
        matrix = TritMatrix(depth, q.shape, q, np.zeros((3, 1), np.uint8), np.ones(27, np.float32),
                            group=columns)
    else:
        scales = np.array([[65504, 1], [1, 65504], [65504, 65504]], np.float16)
        matrix = DirectMatrix(depth, q.shape, q, DirectScales(scales, 3), columns // 2)
    x = np.full((3, columns), -128, np.int8)
    x[1], x[2] = 127, np.where(signs[2] < 0, 127, -128)
    assert_same(matrix, x)


@pytest.mark.parametrize("rule", [SYMMETRIC, BITNET])
@pytest.mark.parametrize("kind", KINDS)
def test_results_equal_golden(kind, rule):
    matrix = KINDS[kind](2)
    x = np.random.default_rng(1).standard_normal((5, 200)).astype(np.float32)
    levels, scales = quantize_activation(x, rule)
    wanted = results(gemv(matrix, levels), matrix.scales.units, 2, scales)
    assert CpuMatrix(packed_matrix(matrix)).linear(x, 8, rule).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_results_with_16_bits_equal_those_of_torch(kind):
    stored = packed_matrix(KINDS[kind](3))
    x = np.random.default_rng(1).standard_normal((5, 200)).astype(np.float32)
    wanted = TorchMatrix(stored, torch.device("cpu")).linear(torch.from_numpy(x), 16).numpy()
    assert CpuMatrix(stored).linear(x, 16).tobytes() == wanted.tobytes()


def test_shares_of_the_blocks(monkeypatch):
    sharing = Sharing(block_products().address, least=0)
    sharing._seconds = 1e6      # no wait is too long
    monkeypatch.setattr(cpu_matrix, "_sharing", lambda: sharing)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for kind in ("coded, 32", "direct, 48", "direct, row"):
        for _ in range(5):
            assert_same(KINDS[kind](4), vectors(2, 200))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_trits_are_made_again(kind, depth):
    stored = packed_matrix(KINDS[kind](depth))
    np.testing.assert_array_equal(CpuMatrix(stored).tiles(), stored.trits)


def test_every_byte_and_the_values_of_the_padding():
    """All 256 bytes, also those that no writer uses, and trits beyond the last row and column."""
    stored = packed_matrix(direct_matrix(163, 250, 2, 64))
    stored.trits[:] = np.random.default_rng(1).permutation(
        np.resize(np.arange(256, dtype=np.uint8), stored.trits.size)).reshape(stored.trits.shape)
    x = vectors(3, 250)
    np.testing.assert_array_equal(CpuMatrix(stored).gemv(x), gemv(stored.unpack(), x))


@pytest.mark.parametrize(("kind", "bits"), [
    ("direct, 64, float32", 2 + 16 / 64), ("coded, 32", 2 + 8 / 32), ("direct, row", 2 + 16 / 640)])
def test_memory_is_that_of_packed_weights(kind, bits):
    matrix = (integer_matrix(640, 640, 1, group=32) if kind == "coded, 32" else
              direct_matrix(640, 640, 1, 640 if "row" in kind else 64))
    assert 8 * CpuMatrix(packed_matrix(matrix)).nbytes / 640 ** 2 == pytest.approx(bits)


def test_wrong_trits():
    stored = packed_matrix(direct_matrix(11, 100, 1, 32))
    object.__setattr__(stored, "trits", stored.trits[:, :96])
    with pytest.raises(ValueError, match=r"^trits of a 11 x 100 matrix of depth 1 must be uint8 "
                                         r"\(3, 112\), not uint8 \(3, 96\)$"):
        CpuMatrix(stored)
