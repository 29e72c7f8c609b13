from fractions import Fraction

import numpy as np
import pytest

from tritstream.golden import fixed_point as fixed
from tritstream.golden.fixed_point import (
    GROUP_SUM_BITS,
    MANTISSA_BITS,
    MAX_K,
    ROW_SUM_BITS,
    check_table,
    half_range,
    information_bits,
    mantissas,
    result_scale,
    stored_bits,
    table_ratio,
)
from tritstream.golden.gemv import gemv
from tritstream.golden.matrix import TritMatrix


def table_of(*entries):
    """A table of these entries, the last one repeated."""
    return np.array([*entries, *[entries[-1]] * (27 - len(entries))], np.float32)


def holds(value, bits):
    """Return whether a signed integer of ``bits`` bits holds the value."""
    return -2 ** (bits - 1) <= value < 2 ** (bits - 1)


def test_sizes_of_the_contract():
    assert (fixed.GROUP, fixed.SCALES, fixed.SCALE_TRITS, fixed.MAX_DEPTH) == (16, 27, 3, 4)
    assert (fixed.ACTIVATION_BITS, MANTISSA_BITS, MAX_K) == (8, 17, 32768)
    assert fixed.TABLE_RATIO_WARNING == 4000


@pytest.mark.parametrize(("depth", "half", "information", "stored"), [
    (1, 1, 1.88, 1.9), (2, 4, 3.47, 3.5), (3, 13, 5.05, 5.1), (4, 40, 6.64, 6.7),
])
def test_figures_of_a_depth(depth, half, information, stored):
    assert half_range(depth) == half == sum(3**i for i in range(depth))
    assert round(information_bits(depth), 2) == information
    assert stored_bits(depth) == pytest.approx(stored, rel=1e-15)


@pytest.mark.parametrize("function", [half_range, information_bits, stored_bits])
@pytest.mark.parametrize("depth", [0, 5, -1, 1.5, True, None])
def test_wrong_depth(function, depth):
    with pytest.raises(ValueError, match=rf"^depth must be 1\.\.4, not {depth}$"):
        function(depth)


# 131071 = 2**17 - 1. The entries 2n + 1 of a table up to 2 * 131071 fall on n + 1/2 exactly.
@pytest.mark.parametrize(("table", "wanted"), [
    (table_of(1), [131071]),
    (table_of(2.5, 1.25, 0.625), [131071, 65536, 32768]),           # 65535.5 and 32767.75
    (table_of(1, 3, 2), [43690, 131071, 87381]),                    # 43690.33, 87380.67
    (table_of(131071, 1, 70000, 2), [131071, 1, 70000, 2]),
    (table_of(262142, 1, 3, 5, 7, 9, 131071, 262141),
     [131071, 0, 2, 2, 4, 4, 65536, 131070]),                       # halves go to even
    (table_of(1, 2**-17, 2**-18, 2**-19), [131071, 1, 0, 0]),       # 0.99999, 0.499996
    (table_of(1e30, 1e-30), [131071, 0]),
    (table_of(1e-45), [131071]),
])
def test_hand_computed_mantissas(table, wanted):
    found = mantissas(table)
    assert found.dtype == np.int64
    assert found.shape == (27,)
    assert found.tolist() == [*wanted, *wanted[-1:] * (27 - len(wanted))]


def test_mantissas_in_rational_numbers():
    rng = np.random.default_rng(0)
    for _ in range(40):
        table = np.exp(rng.uniform(-8, 0, 27)).astype(np.float32)
        largest = Fraction(float(table.max()))
        wanted = [round(Fraction(float(entry)) * 131071 / largest) for entry in table]
        assert mantissas(table).tolist() == wanted


def test_a_mantissa_is_rounded_from_the_quotient():
    # 367.5 / 6422479 is 7.5 of 131071 parts, a tie. 131071 / 6422479 * 367.5 would be 7.4999...
    table = np.full(27, 6422479, np.float32)
    table[:3] = 367.5, 2425.5, 3111.5
    assert mantissas(table).tolist()[:4] == [8, 50, 64, 131071]


def test_mantissas_keep_the_order_of_the_table():
    table = np.random.default_rng(1).permutation(np.geomspace(1, 300, 27)).astype(np.float32)
    assert np.argsort(mantissas(table)).tolist() == np.argsort(table).tolist()
    assert mantissas(table[::-1].copy()).tolist() == mantissas(table)[::-1].tolist()


def test_result_scale_goes_from_left_to_right():
    rng = np.random.default_rng(2)
    other_orders = 0
    for depth, half in enumerate((1, 4, 13, 40), 1):
        for _ in range(50):
            table = rng.uniform(0.001, 1, 27).astype(np.float32)
            x_scale = float(rng.uniform(0.001, 1))
            largest = max(float(entry) for entry in table)
            assert result_scale(table, depth, x_scale) == largest / 131071 / half * x_scale
            other_orders += (result_scale(table, depth, x_scale)
                             != largest * x_scale / (131071 * half))
    assert other_orders > 0


def test_result_scale_of_a_batch():
    table = table_of(0.75, 0.3)
    x_scale = np.array([0.0, 0.1, 7.0])
    scales = result_scale(table, 3, x_scale)
    assert scales.dtype == np.float64
    assert scales.tolist() == [result_scale(table, 3, value) for value in x_scale]
    assert scales[0] == 0


def test_table_ratio():
    assert table_ratio(table_of(3, 0.5, 2000)) == 4000


@pytest.mark.parametrize(("table", "message"), [
    (table_of(1)[:26], r"^table must be float32 \(27,\), not float32 \(26,\)$"),
    (table_of(1)[:, None], r"^table must be float32 \(27,\), not float32 \(27, 1\)$"),
    (np.ones(27), r"^table must be float32 \(27,\), not float64 \(27,\)$"),
    (table_of(1, 2, 0, 1), r"^table must be finite and positive, not 0\.0 at code 2$"),
    (table_of(-2, 1), r"^table must be finite and positive, not -2\.0 at code 0$"),
    (table_of(1, np.nan, 1), r"^table must be finite and positive, not nan at code 1$"),
    (table_of(1, np.inf, 1), r"^table must be finite and positive, not inf at code 1$"),
])
def test_wrong_table(table, message):
    for function in (check_table, mantissas, table_ratio, lambda t: result_scale(t, 2, 1.0)):
        with pytest.raises(ValueError, match=message):
            function(table)


def test_widths_by_arithmetic():
    group_sum = 16 * 40 * 128
    row_sum = MAX_K // 16 * group_sum * (2**MANTISSA_BITS - 1)
    assert group_sum == 81920
    assert holds(group_sum, GROUP_SUM_BITS) and not holds(group_sum, GROUP_SUM_BITS - 1)
    assert holds(row_sum, ROW_SUM_BITS) and not holds(row_sum, ROW_SUM_BITS - 1)
    assert (GROUP_SUM_BITS, ROW_SUM_BITS) == (18, 46)


@pytest.mark.parametrize("sign", [-1, 1])
def test_46_bits_suffice_for_the_worst_row(sign):
    q = np.full((1, MAX_K), 40 * sign, np.int8)
    codes = np.full((1, MAX_K // 16), 11, np.uint8)
    table = np.full(27, 0.5, np.float32)
    table[11] = 3.0                     # the largest: mantissa 131071
    x = np.full(MAX_K, -128, np.int8)
    sums = gemv(TritMatrix(4, (1, MAX_K), q, codes, table), x)
    assert sums.tolist() == [-sign * 32768 * 40 * 128 * 131071]
    assert holds(int(sums[0]), ROW_SUM_BITS) and not holds(int(sums[0]), ROW_SUM_BITS - 1)
