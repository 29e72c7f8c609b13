import numpy as np
import pytest

from tritstream.golden.activation import BITNET, quantize_activation, quantize_activation16
from tritstream.golden.gemv import gemv

from support.golden_cases import integer_matrix


def test_scale_is_the_largest_magnitude_over_127():
    q, scale = quantize_activation(np.array([0.5, -254.0, 100.0, 3.0]))     # scale 2
    assert q.dtype == np.int8
    assert scale.dtype == np.float64
    assert scale.shape == ()
    assert scale == 2.0
    assert q.tolist() == [0, -127, 50, 2]       # 0.25, -127, 50, 1.5


def test_halves_go_to_even():
    x = np.array([127.0, 0.5, 1.5, 2.5, 3.5, 125.5, 126.5, -0.5, -1.5, -2.5, -126.5])
    q, scale = quantize_activation(x)
    assert scale == 1.0
    assert q.tolist() == [127, 0, 2, 2, 4, 126, 126, 0, -2, -2, -126]


def test_one_scale_a_vector():
    x = np.random.default_rng(0).standard_normal((3, 2, 40)) * [[[1.0]], [[1e-3]], [[1e6]]]
    q, scale = quantize_activation(x)
    assert q.shape == (3, 2, 40)
    assert scale.shape == (3, 2)
    for place in np.ndindex(3, 2):
        alone, its_scale = quantize_activation(x[place])
        assert its_scale == scale[place] == max(abs(value) for value in x[place]) / 127
        np.testing.assert_array_equal(q[place], alone)
        assert alone.tolist() == [round(value / its_scale) for value in x[place].tolist()]
        assert np.abs(alone).max() == 127


@pytest.mark.parametrize("quantizer", [quantize_activation, quantize_activation16])
def test_zero_vector_has_scale_0(quantizer):
    x = np.array([[0.0, -0.0, 0.0], [0.0, 1.0, -1.0]])
    *parts, scale = quantizer(x)
    assert scale[0] == 0
    assert scale[1] > 0
    for q in parts:
        assert not q[0].any()
        assert q[1].any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_error_is_at_most_half_a_step(dtype):
    x = np.random.default_rng(1).standard_normal((50, 64)).astype(dtype)
    q, scale = quantize_activation(x)
    error = np.abs(x.astype(np.float64) - q * scale[:, None])
    assert (error <= 0.5 * scale[:, None] * (1 + 1e-12)).all()
    assert (error.max(axis=1) > 0.3 * scale).all()


def test_16_bit_error_is_at_most_half_of_a_256_times_finer_step():
    x = np.random.default_rng(2).standard_normal((50, 64))
    high, low, scale = quantize_activation16(x)
    assert (high.dtype, low.dtype, scale.dtype) == (np.int8, np.int8, np.float64)
    np.testing.assert_array_equal(scale, np.abs(x).max(axis=1) / 32639)
    error = np.abs(x - (256.0 * high + low) * scale[:, None])
    assert (error <= 0.5 * scale[:, None] * (1 + 1e-10)).all()
    assert (error.max(axis=1) > 0.3 * scale).all()


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e-5, 0.3, 1.0, 1e30])
def test_the_rule_of_bitnet(size):
    """Every operation in float32, one value at a time."""
    x = np.random.default_rng(3).standard_normal((20, 48)).astype(np.float32) * np.float32(size)
    x[0], x[1] = 0, -abs(x[1])
    found, scales = quantize_activation(x, BITNET)
    assert (found.dtype, scales.dtype) == (np.int8, np.float64)
    for row, levels, scale in zip(x, found.tolist(), scales.tolist(), strict=True):
        most = max([abs(value) for value in row] + [np.float32(1e-5)])
        factor = np.float32(np.float32(1) / most) * np.float32(127)
        assert levels == [min(max(round(float(value * factor)), -128), 127) for value in row]
        assert scale == 1 / float(factor)
    assert not found[0].any()
    if size > 1e-5:
        assert (abs(found[1:].astype(int)).max(axis=1) == 127).all()
    one, scale = quantize_activation(x[2], BITNET)
    assert (one == found[2]).all()
    assert scale == scales[2]


def bitnet(x):
    return quantize_activation(x, BITNET)


def test_values_beyond_float32_have_no_level_of_bitnet():
    with pytest.raises(ValueError, match=r"^activations must be finite, not inf at \(1,\)$"):
        bitnet(np.array([1.0, 1e300]))


# At scale 1, x = 256 high + low with both in -128..127.
@pytest.mark.parametrize(("x", "high", "low"), [
    (32639, 127, 127), (-32639, -127, -127), (127, 0, 127), (128, 1, -128), (-128, 0, -128),
    (-129, -1, 127), (255, 1, -1), (256, 1, 0), (0.5, 0, 0), (1.5, 0, 2), (-32513, -127, -1),
    (32511, 127, -1), (32512, 127, 0),
])
def test_hand_computed_columns(x, high, low):
    found_high, found_low, scale = quantize_activation16(np.array([x, 32639.0]))
    assert scale == 1.0
    assert (found_high[0], found_low[0]) == (high, low)


def test_every_16_bit_activation_is_two_columns():
    x = np.arange(-32639, 32640)
    high, low, scale = quantize_activation16(x)
    assert scale == 1.0
    np.testing.assert_array_equal(256 * high.astype(int) + low, x)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_row_sums_of_two_columns_combine(depth):
    matrix = integer_matrix(23, 100, depth, seed=depth)
    x = np.random.default_rng(depth).standard_normal((3, 100))
    high, low, scale = quantize_activation16(x)
    wide = 256 * high.astype(object) + low
    both = 256 * gemv(matrix, high) + gemv(matrix, low)
    table = matrix.table.astype(np.float64)
    m = np.rint(table / table.max() * 131071).astype(np.int64)
    weights = matrix.q[:, :100].astype(object) * np.repeat(m[matrix.codes], 16, 1)[:, :100]
    assert (both == (wide @ weights.T)).all()
    assert (np.rint(x / scale[:, None]) == wide).all()


def test_scale_that_rounds_down_far_clips():
    # In units of the smallest float64: 190 / 127 rounds to 1, and so would 190 to a level.
    q, scale = quantize_activation(np.array([190, -190, 60, 0]) * 5e-324)
    assert scale == 5e-324
    assert q.tolist() == [127, -127, 60, 0]


@pytest.mark.parametrize("x", [5e-324, 1e-320, 1e-310, 1.7e308, -1.7e308])
def test_extreme_magnitudes_stay_in_range(x):
    q, scale = quantize_activation(np.array([x, -x, 0.0]))
    assert q[2] == 0
    assert -127 <= q[0] == -q[1] <= 127
    if abs(x) > 1e-300:
        assert abs(q[0]) == 127
        assert scale == abs(x) / 127


@pytest.mark.parametrize("quantizer", [quantize_activation, quantize_activation16, bitnet])
@pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_wrong_values(quantizer, value, text):
    x = np.ones((3, 4), np.float32)
    x[1, 2] = value
    with pytest.raises(ValueError,
                       match=rf"^activations must be finite, not {text} at \(1, 2\)$"):
        quantizer(x)
    with pytest.raises(ValueError, match=rf"^activations must be finite, not {text} at \(2,\)$"):
        quantizer(x[1])


@pytest.mark.parametrize("quantizer", [quantize_activation, quantize_activation16, bitnet])
@pytest.mark.parametrize(("shape", "text"), [
    ((), r"\(\)"), ((0,), r"\(0,\)"), ((2, 0), r"\(2, 0\)"),
])
def test_wrong_shape(quantizer, shape, text):
    with pytest.raises(ValueError,
                       match=rf"^activations must have shape \(\.\.\., K\), not {text}$"):
        quantizer(np.zeros(shape))
