from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from tritstream.golden.gemv import gemv, results
from tritstream.golden.matrix import DirectMatrix, TritMatrix, dequantize
from tritstream.golden.scales import DirectScales, Exactness, direct_mantissas

from support.golden_cases import direct_matrix, integer_matrix

BFLOAT16 = ml_dtypes.bfloat16
CASES = [       # rows, columns, depth, group
    (1, 16, 1, 16), (7, 100, 1, 32), (6, 300, 2, 128), (5, 96, 3, 96), (11, 260, 4, 64),
    (4, 300, 1, 304),
]


def power_of(scales):
    """Exponent of a row in rational numbers: the least power of two for 16-bit mantissas."""
    largest = max(scales)
    if not largest:
        return 0
    exponent = -200
    while round(largest / Fraction(2) ** exponent) > 65535:
        exponent += 1
    return exponent


def sums_by_hand(q, scales, group, x):
    """Row sums and units of direct scales, in rational numbers and Python integers."""
    sums, units = [], []
    for row, own in zip(q.tolist(), scales, strict=True):
        own = [Fraction(float(scale)) for scale in own]
        if len(own) == 1:
            mantissas, unit = [1], own[0]
        else:
            unit = Fraction(2) ** power_of(own)
            mantissas = [round(scale / unit) for scale in own]      # halves to even
        total = 0
        for j, value in enumerate(x.tolist()):
            total += mantissas[j // group] * row[j] * value
        sums.append(total)
        units.append(unit)
    return sums, units


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32])
@pytest.mark.parametrize(("rows", "columns", "depth", "group"), CASES)
def test_sums_and_results_equal_those_computed_by_hand(rows, columns, depth, group, dtype):
    matrix = direct_matrix(rows, columns, depth, group, dtype, seed=depth)
    x = np.random.default_rng(5).integers(-128, 128, (3, columns), dtype=np.int8)
    scales = matrix.scales.stored.astype(np.float32)
    found, half = gemv(matrix, x), (3**depth - 1) // 2
    x_scale = np.array([0.5, 0.013, 0.0])
    got = results(found, matrix.scales.units, depth, x_scale)
    assert (got.dtype, got.shape) == (np.float32, (3, rows))
    for b in range(3):
        sums, units = sums_by_hand(matrix.q, scales, group, x[b])
        assert found[b].tolist() == sums
        assert got[b].tolist() == [np.float32(float(a) * (float(unit) / half * x_scale[b]))
                                   for a, unit in zip(sums, units, strict=True)]


@pytest.mark.parametrize("inverse", [False, True])
def test_one_scale_of_a_matrix(inverse):
    matrix = direct_matrix(7, 50, 1, 64, BFLOAT16, inverse=inverse, single=True)
    x = np.random.default_rng(1).integers(-128, 128, 50, dtype=np.int8)
    scale = np.float32(matrix.scales.stored[0, 0])
    scale = np.float32(1) / scale if inverse else scale
    sums = gemv(matrix, x)
    assert sums.tolist() == (matrix.q[:, :50].astype(int) @ x.astype(int)).tolist()
    assert matrix.scales.units == float(scale)
    wanted = [np.float32(float(a) * (float(scale) * 0.25)) for a in sums]
    assert results(sums, matrix.scales.units, 1, 0.25).tolist() == wanted
    assert (dequantize(matrix) == matrix.q[:, :50].astype(np.float32) * scale).all()
    assert matrix.scales.exactness == Exactness(0, 0, 0.0)


@pytest.mark.parametrize(("rows", "columns", "depth", "group"), CASES)
def test_weights_are_scale_times_integer_by_h(rows, columns, depth, group):
    matrix, half = direct_matrix(rows, columns, depth, group), (3**depth - 1) // 2
    weights = dequantize(matrix)
    for n, k in np.ndindex(rows, columns):
        scale = np.float32(matrix.scales.stored[n, k // group])
        assert weights[n, k] == scale * np.float32(matrix.q[n, k]) / np.float32(half)


@pytest.mark.parametrize("group", [16, 32, 48, 112])
def test_coded_groups_of_any_length_equal_groups_of_16(group):
    matrix = integer_matrix(6, 100, 2, group=group)
    short = TritMatrix(2, (6, 100), matrix.q, np.repeat(matrix.codes, group // 16, axis=1)[:, :7],
                       matrix.table)
    x = np.random.default_rng(1).integers(-128, 128, (2, 100), dtype=np.int8)
    np.testing.assert_array_equal(gemv(matrix, x), gemv(short, x))
    assert dequantize(matrix).tobytes() == dequantize(short).tobytes()
    assert matrix.stored_bits == pytest.approx(1.6 * (2 * group + 3) / group)


# The exponent is floor(log2(max)) - 15, so that the largest mantissa has 16 bits.
@pytest.mark.parametrize(("scales", "wanted", "exponent"), [
    ([1, 0.5, 0.25, 0], [32768, 16384, 8192, 0], -15),
    ([65535, 1, 2.5, 3.5], [65535, 1, 2, 4], 0),                        # halves to even
    ([65535.5, 3, 5, 0], [32768, 2, 2, 0], 1),                          # a mantissa of 2**16
    ([0.75, 2.0 ** -17, 1.5 * 2.0 ** -16, 2.0 ** -18], [49152, 0, 2, 0], -16),
    ([0, 0, 0, 0], [0, 0, 0, 0], 0),
    ([2.0 ** -24, 0, 0, 2.0 ** -24], [32768, 0, 0, 32768], -39),        # subnormal in float16
    ([3.4e38, 1, 1, 1], [65482, 0, 0, 0], 112),
])
def test_hand_computed_mantissas(scales, wanted, exponent):
    mantissas, exponents = direct_mantissas(np.array([scales, scales[::-1]], np.float32))
    assert mantissas.tolist() == [wanted, wanted[::-1]]
    assert exponents.tolist() == [exponent, exponent]
    assert (mantissas.dtype, exponents.dtype) == (np.int64, np.int64)


def test_half_precision_is_exact_up_to_a_ratio_of_32():
    every = np.arange(1, 0x7c00, dtype=np.uint16).view(np.float16)
    for largest in (np.float16(1), np.float16(0.0781), np.float16(6e4)):
        within = every[(every <= largest) & (every.astype(np.float64) * 32 >= largest)]
        scales = DirectScales(np.r_[largest, within][None], 1)
        assert scales.exactness == Exactness(0, 0, 0.0)
    beyond = np.array([[1.0, np.nextafter(np.float16(2.0 ** -5), np.float16(0))]], np.float16)
    assert DirectScales(beyond, 1).exactness.groups == 1


def test_exactness_counts_rows_groups_and_the_largest_error():
    stored = np.array([[1, 0.5], [1, 2.0 ** -17], [1, 3 * 2.0 ** -17], [0, 0]], np.float32)
    scales = DirectScales(stored, 4)
    assert scales.mantissas(slice(None)).tolist() == [
        [32768, 16384], [32768, 0], [32768, 1], [0, 0]]
    assert scales.exactness == Exactness(2, 2, 1.0)
    assert DirectScales(stored[[0, 2]], 2).exactness == Exactness(
        1, 1, pytest.approx(1 / 3))


@pytest.mark.parametrize(("stored", "inverse", "message"), [
    (np.ones((3, 2)), False, r"scales must be float16, bfloat16 or float32 \(3, C\) or \(1, 1\), "
                             r"not float64 \(3, 2\)"),
    (np.ones((1, 2), np.float16), False, r"scales must be float16, bfloat16 or float32 \(3, C\) or "
                                         r"\(1, 1\), not float16 \(1, 2\)"),
    (np.ones(3, np.float16), False, r"scales must be .*, not float16 \(3,\)"),
    (np.ones((3, 0), np.float16), False, r"scales must be .*, not float16 \(3, 0\)"),
    (np.array([[1, 1], [1, -2], [1, 1]], np.float16), False,
     r"scales must be finite and not negative, not -2\.0 at row 1, group 1"),
    (np.array([[1], [np.inf], [1]], BFLOAT16), False,
     r"scales must be finite and not negative, not inf at row 1, group 0"),
    (np.array([[1], [1], [np.nan]], np.float32), False,
     r"scales must be finite and not negative, not nan at row 2, group 0"),
    (np.array([[1], [0], [1]], np.float16), True,
     r"scales must be invertible as float32, not 0\.0 at row 1, group 0"),
])
def test_wrong_scales(stored, inverse, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        DirectScales(stored, 3, inverse)


@pytest.mark.parametrize(("group", "columns", "message"), [
    (24, 100, "group must be a multiple of 16 up to 112 for 100 columns, not 24"),
    (0, 100, "group must be a multiple of 16 up to 112 for 100 columns, not 0"),
    (128, 100, "group must be a multiple of 16 up to 112 for 100 columns, not 128"),
    (32, 100, "scales must be of 2 rows with 4 groups, not 3 with 4"),
    (16, 100, "scales must be of 2 rows with 7 groups, not 3 with 4"),
])
def test_wrong_groups(group, columns, message):
    scales = DirectScales(np.ones((3, 4), np.float16), 3)
    with pytest.raises(ValueError, match=f"^{message}$"):
        DirectMatrix(1, (2, columns), np.zeros((2, 112), np.int8), scales, group)
