from fractions import Fraction

import numpy as np
import pytest

from tritstream.golden.activation import quantize_activation
from tritstream.golden.gemv import dequantize_rows, gemv
from tritstream.golden.matrix import TritMatrix, dequantize
from tritstream.golden.quantize import quantize
from tritstream.golden.tiles import pack, unpack

from support.golden_cases import integer_matrix

SHAPES = [(1, 1), (5, 16), (7, 33), (40, 250), (3, 2048)]


def integer_mantissas(table):
    """Mantissas in rational numbers, halves to even."""
    entries = [Fraction(float(entry)) for entry in table]
    return np.array([round(131071 * entry / max(entries)) for entry in entries], np.int64)


def dense(matrix):
    """Integer weights ``m * q`` as dense int64 (N, K)."""
    scales = integer_mantissas(matrix.table)[matrix.codes]
    return (matrix.q.astype(np.int64) * np.repeat(scales, 16, axis=1))[:, :matrix.columns]


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).integers(-128, 128, shape, dtype=np.int8)


def assert_equal_sums(found, wanted):
    assert found.dtype == np.int64
    assert found.shape == wanted.shape
    for place in np.argwhere(found != wanted):
        place = tuple(place)
        raise AssertionError(f"sum {place}: {found[place]}, not {wanted[place]}")


def test_hand_computed_sums():
    q, codes = np.zeros((2, 32), np.int8), np.array([[0, 2], [1, 26]], np.uint8)
    q[0, :3], q[0, 16:18], q[1, 15], q[1, 16] = (4, -3, 1), (2, -4), -1, 3
    table = np.full(27, 1.0, np.float32)
    table[[0, 1]] = 131071, 3                   # mantissas are the entries
    x = np.zeros(20, np.int8)
    x[:3], x[15:18] = (10, 20, -128), (7, 127, -128)
    # Row 0: 131071 (40 - 60 - 128) + 1 (254 + 512). Row 1: 3 (-7) + 1 (381).
    sums = gemv(TritMatrix(2, (2, 20), q, codes, table), x)
    assert sums.tolist() == [131071 * -148 + 766, 360]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_equal_a_dense_integer_product(shape, depth):
    matrix = integer_matrix(*shape, depth, seed=depth)
    for x in (vectors(shape[1]), vectors(1, shape[1]), vectors(5, shape[1])):
        assert_equal_sums(gemv(matrix, x), x.astype(np.int64) @ dense(matrix).T)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_after_tiles_equal_those_of_the_weights_before(shape, depth):
    matrix = integer_matrix(*shape, depth, seed=10 + depth)
    wanted = dense(matrix)
    back = unpack(pack(matrix), depth, shape, matrix.table)
    x = vectors(3, shape[1])
    assert_equal_sums(gemv(back, x), x.astype(np.int64) @ wanted.T)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_extreme_values(depth):
    half = (3**depth - 1) // 2
    signs = np.random.default_rng(3).choice([-1, 1], (6, 512))
    matrix = TritMatrix(depth, (6, 512), (half * signs).astype(np.int8),
                        np.zeros((6, 32), np.uint8), np.ones(27, np.float32))
    x = np.full((3, 512), -128, np.int8)
    x[1], x[2] = 127, np.where(signs[4] < 0, -128, 127)
    assert_equal_sums(gemv(matrix, x), x.astype(np.int64) @ (131071 * half * signs).T)


def test_column_of_a_batch_does_not_depend_on_the_others():
    matrix, x = integer_matrix(12, 100, 3), vectors(4, 100)
    sums = gemv(matrix, x)
    for vector, row in zip(x, sums, strict=True):
        assert_equal_sums(gemv(matrix, vector), row)


def test_empty_batch():
    assert gemv(integer_matrix(12, 100, 3), vectors(0, 100)).shape == (0, 12)


def test_zero_activations():
    assert not gemv(integer_matrix(12, 100, 3), np.zeros((2, 100), np.int8)).any()


@pytest.mark.parametrize("elements", [1, 200, 1000])
def test_chunks_do_not_matter(elements, monkeypatch):
    matrix, x = integer_matrix(37, 100, 2), vectors(3, 100)
    monkeypatch.setattr("tritstream.golden.row_chunks._ELEMENTS", elements)
    assert_equal_sums(gemv(matrix, x), x.astype(np.int64) @ dense(matrix).T)


def test_memory_order_does_not_matter():
    matrix, x = integer_matrix(37, 100, 2), vectors(3, 100)
    assert_equal_sums(gemv(matrix, np.asfortranarray(x)), gemv(matrix, x))
    assert_equal_sums(gemv(matrix, np.repeat(x, 2, axis=1)[:, ::2]), gemv(matrix, x))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_wrong_dtype(dtype):
    with pytest.raises(TypeError, match=rf"^activations must be int8, not {np.dtype(dtype)}$"):
        gemv(integer_matrix(2, 20, 1), np.zeros(20, dtype))


@pytest.mark.parametrize(("shape", "text"), [
    ((), r"\(\)"), ((19,), r"\(19,\)"), ((32,), r"\(32,\)"), ((20, 1), r"\(20, 1\)"),
    ((1, 1, 20), r"\(1, 1, 20\)"),
])
def test_wrong_shape(shape, text):
    with pytest.raises(ValueError, match=r"^activations must have shape \(20,\) or \(B, 20\), "
                                         rf"not {text}$"):
        gemv(integer_matrix(2, 20, 1), np.zeros(shape, np.int8))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_dequantized_rows_equal_the_formula(depth):
    rng = np.random.default_rng(depth)
    sums = rng.integers(-2**44, 2**44, (3, 50))
    table = rng.uniform(0.01, 0.2, 27).astype(np.float32)
    x_scale = rng.uniform(0.001, 0.1, 3)
    rows = dequantize_rows(sums, table, depth, x_scale)
    assert rows.dtype == np.float32
    largest, half = float(table.max()), (1, 4, 13, 40)[depth - 1]
    for b in range(3):
        scale = float(x_scale[b])
        wanted = [np.float32(float(a) * (largest / 131071 / half * scale)) for a in sums[b]]
        assert rows[b].tolist() == wanted
        alone = dequantize_rows(sums[b], table, depth, scale)
        assert (alone.dtype, alone.tolist()) == (np.float32, wanted)


def test_zero_scale_gives_zero_rows():
    rows = dequantize_rows(np.array([[3, -4], [5, 6]]), np.ones(27, np.float32), 1,
                           np.array([0.0, 131071.0]))
    assert rows.tolist() == [[0, 0], [5, 6]]


def float_error_and_bound(matrix, x, x_scale):
    """Errors of ``c A`` against the float64 product of dequantized weights, and their bounds.

    A weight is ``table q / h``, and the product computes with ``largest / M * m q / h`` for it,
    M being 2**17 - 1. Since ``m`` is ``table / largest * M`` to half a unit, the two differ by at
    most ``largest / M / 2 * |q| / h``. The float64 rounding of that quotient and product moves m
    by less than M * 2**-51; the float32 weights are off by two roundings, each at most a part in
    2**24; float64 sums of K terms by K parts in 2**52 of the sum of their magnitudes.
    """
    largest, h, columns = float(matrix.table.max()), matrix.half_range, matrix.columns
    q = np.abs(matrix.q[:, :columns].astype(np.float64))
    inputs = np.abs(x * x_scale)
    weights = dequantize(matrix).astype(np.float64)
    magnitudes = np.abs(weights) @ inputs
    bound = (largest / 131071 * (0.5 + 131071 * 2**-51) / h * (q @ inputs)
             + magnitudes * (2.001 * 2**-24 + columns * 2.0**-51))
    rows = gemv(matrix, x) * (largest / 131071 / h * x_scale)
    return np.abs(rows - weights @ (x * x_scale)), bound


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("ratio", [1.5, 330.0, 1e5])
def test_error_of_mantissas_is_within_its_bound(ratio, depth):
    matrix = integer_matrix(60, 500, depth, seed=depth, ratio=ratio)
    error, bound = float_error_and_bound(matrix, vectors(500), 0.013)
    assert (error <= bound).all()
    assert error.max() > 0


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_bound_of_mantissas_is_tight(depth):
    # An entry half a unit off its mantissa, and every term of the same sign.
    table = np.full(27, 262142, np.float32)
    table[5] = 3                                # 1.5 units: mantissa 2
    half = (3**depth - 1) // 2
    matrix = TritMatrix(depth, (1, 160), np.full((1, 160), half, np.int8),
                        np.full((1, 10), 5, np.uint8), table)
    error, bound = float_error_and_bound(matrix, np.full(160, 127, np.int8), 0.5)
    assert 0.999 * bound[0] < error[0] <= bound[0]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_error_of_a_product_against_float_activations(depth):
    rng = np.random.default_rng(20 + depth)
    matrix = quantize(rng.standard_normal((60, 500)).astype(np.float32), depth)
    x = rng.standard_normal(500)
    x_int, x_scale = quantize_activation(x)
    rows = dequantize_rows(gemv(matrix, x_int), matrix.table, depth, x_scale)
    weights = dequantize(matrix).astype(np.float64)
    _, bound = float_error_and_bound(matrix, x_int, x_scale)
    exact = weights @ x
    # Half a step of each activation, the mantissas, and the rounding to float32.
    bound += np.abs(weights).sum(axis=1) * x_scale * 0.5 * (1 + 1e-12) + np.abs(rows) * 2.0**-24
    error = np.abs(rows - exact)
    assert (error <= bound).all()
    # What int8 activations cost: their errors are independent, so far less than the bound.
    assert np.median(error / (np.linalg.norm(weights, axis=1) * np.sqrt(np.mean(x**2)))) < 0.01
