"""The steps of recovery, each against brute force."""

import itertools

import ml_dtypes
import numpy as np
import pytest

from tritstream.golden.recover.coder import Coder
from tritstream.golden.recover.cover import pierce, pierce_most
from tritstream.golden.recover.lattice import Lattice, Pieces, scale_of_bits
from tritstream.golden.recover.magnitudes import grouped, pick_groups, scan
from tritstream.golden.recover.table import choose_table
from tritstream.golden.rounding import FORMS, float_bits, to_dtype

HALF = np.dtype(np.float16)


def bits_of(scales):
    return np.float32(scales).view(np.int32).astype(np.int64)


def pieces_of(*groups):
    """Pieces of groups, each a list of (low, high)."""
    flat = [(owner, low, high) for owner, group in enumerate(groups) for low, high in group]
    return Pieces(*np.array(flat, np.int64).reshape(-1, 3).T)


def makes(scale, values, form, half, dtype):
    """Return whether a scale reproduces all values of a group."""
    made = to_dtype(form.weights(np.float32([scale]), np.arange(half + 1), half), dtype)
    return np.isin(values, made).all()


@pytest.mark.parametrize("name", [
    "s*q/h", "s*(q/h) in float16", "s/h*q in bfloat16", "sum t*R(s*p/h) low first in float16",
    "sum t*R(P/3) high first in bfloat16", "(sum t*R(s*p))/h at once in float16",
    "sum t*R(R(s*p)/h) unrounded in float16", "sum t*R(3*P) high first in float32",
    "z*(sum t*R(p/m)) high first in bfloat16"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("top", [0.3, 3e-6])
def test_pieces_are_the_scales_that_make_a_group(name, dtype, top):
    rng, dtype, form, half = np.random.default_rng(0), np.dtype(dtype), FORMS[name], 13
    scales = rng.uniform(top / 3, top, 6).astype(np.float32)
    made = to_dtype(form.weights(scales[:, None], np.arange(half + 1), half), dtype)
    values = np.unique(made[made > 0])
    groups = np.stack([rng.choice(row[row > 0], 16) for row in made.repeat(5, axis=0)])
    groups[::2, 2:] = 0
    places = np.where(groups, np.searchsorted(values, groups) + 1, 0)
    pieces = Lattice(values, dtype, form, half).pieces(places)
    assert (pieces.low <= pieces.high).all()
    assert np.unique(pieces.owner).size == len(groups)
    for owner, low, high in zip(pieces.owner, pieces.low, pieces.high, strict=True):
        inside = scale_of_bits([low, rng.integers(low, high + 1), high])
        outside = scale_of_bits([low - 1, high + 1])
        assert all(makes(scale, groups[owner], form, half, dtype) for scale in inside)
        assert not any(makes(scale, groups[owner], form, half, dtype) for scale in outside)


def test_pieces_leave_out_no_scale():
    values = np.float16([0.1, 0.2, 0.3]).astype(np.float32)
    pieces = Lattice(values, HALF, FORMS["s*q/h"], 4).pieces(np.array([[1] * 8 + [3] * 8]))
    scales = np.arange(*bits_of([0.05, 5]), 1 << 9)
    inside = ((pieces.low[:, None] <= scales) & (scales <= pieces.high[:, None])).any(axis=0)
    right = [makes(scale, values[[0, 2]], FORMS["s*q/h"], 4, HALF)
             for scale in scale_of_bits(scales)]
    assert inside.tolist() == right
    assert any(right)


def test_a_group_that_no_scale_makes():
    values = np.float16([0.5, 0.51]).astype(np.float32)
    pieces = Lattice(values, HALF, FORMS["s*q/h"], 13).pieces(np.array([[1] * 15 + [2], [1] * 16]))
    assert set(pieces.owner) == {1}


def least_by_force(groups):
    """The fewest points that pierce all groups, of all right ends."""
    ends = sorted({high for group in groups for _, high in group})
    for count in range(1, len(groups) + 1):
        for points in itertools.combinations(ends, count):
            if all(any(low <= p <= high for low, high in group for p in points)
                   for group in groups):
                return count


@pytest.mark.parametrize("seed", range(30))
def test_points_pierce_every_group(seed):
    rng = np.random.default_rng(seed)
    groups = []
    for _ in range(rng.integers(1, 12)):
        lows = np.sort(rng.choice(40, rng.choice([1, 1, 1, 2, 4]), replace=False)) * 10
        groups.append([(int(low), int(low + rng.integers(0, 10))) for low in lows])
    fewest = least_by_force(groups)
    points, least = pierce(pieces_of(*groups), fewest)
    assert least <= fewest
    assert len(points) <= fewest
    assert (np.diff(points) > 0).all()
    for group in groups:
        assert any(low <= p <= high for low, high in group for p in points)
    none, least = pierce(pieces_of(*groups), fewest - 1)
    assert none is None
    assert least <= fewest


def test_single_pieces_need_no_search():
    groups = [[(10 * n, 10 * n + 12)] for n in range(40)]
    points, least = pierce(pieces_of(*groups), 20)
    assert (len(points), least) == (20, 20)
    assert pierce(pieces_of(*groups), 19) == (None, 20)


def test_exchanges_find_what_greed_misses():
    # Greed takes 50, which pierces four groups, and then needs three points more.
    groups = [[(10, 10), (50, 50)], [(10, 10), (50, 50)], [(10, 10)],
              [(20, 20), (50, 50)], [(20, 20), (50, 50)], [(20, 20)]]
    groups = [[*group, (900 + n, 900 + n)] for n, group in enumerate(groups)]
    points, _ = pierce(pieces_of(*groups), 2)
    assert points.tolist() == [10, 20]
    assert pierce_most(pieces_of(*groups), 1)[1] == 4


def test_most_groups_for_few_points():
    points, count = pierce_most(pieces_of([(1, 5)], [(3, 9)], [(4, 7)], [(20, 30)]), 1)
    assert (points.tolist(), count) == ([5], 3)


def test_a_table_is_the_middle_of_what_is_left():
    low, high = bits_of([1.0, 2.0])
    pieces = pieces_of([(low, high)], [(bits_of(1.5), high + 100)])
    table = choose_table(np.array([high]), pieces)
    assert table.tolist() == [1.75] * 27


def test_groups_with_a_choice_do_not_narrow_a_table():
    one, two, three, four = bits_of([1, 2, 3, 4])
    pieces = pieces_of([(one, two)], [(three, four)], [(two, two), (three, four)])
    assert choose_table(np.array([two, four]), pieces)[-2:].tolist() == [1.5, 3.5]
    pieces = pieces_of([(one, two)], [(three, four)], [(two, two), (four, four)])
    assert choose_table(np.array([two, four]), pieces)[-2:].tolist() == [2.0, 3.5]


def test_pieces_where_a_weight_falls_while_its_scale_rises():
    # 5 is 9 - 3 - 1. The cells of a float16 step or two around a scale, one scale at a time.
    form, half = FORMS["sum t*R(s*p/h) high first in float16"], 13
    scales = scale_of_bits(np.arange(*bits_of([0.99, 1.01]), 1 << 4))
    made = form.weights(scales[:, None], np.arange(1, half + 1), half)
    assert (np.diff(made, axis=0) < 0).any()
    values = np.unique(made[len(made) // 2])
    pieces = Lattice(values, HALF, form, half).pieces(np.array([np.resize([2, 5, 11], 16)]))
    bits = bits_of(scales)
    inside = ((pieces.low[:, None] <= bits) & (bits <= pieces.high[:, None])).any(axis=0)
    right = [makes(scale, values[[1, 4, 10]], form, half, HALF) for scale in scales]
    assert inside.tolist() == right
    assert any(right)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_numbers_codes_and_integers(dtype):
    rng, dtype, form = np.random.default_rng(0), np.dtype(dtype), FORMS["s*q/h"]
    table = np.sort(rng.uniform(0.01, 1, 27)).astype(np.float32)
    coder = Coder(table, dtype, form, 40)
    codes, q = rng.integers(0, 27, 5000), rng.integers(-40, 41, (5000, 16))
    weights = form.weights(table[codes][:, None], q, 40).astype(dtype)
    weights[0] = 0
    weights[1, 3] = 0.7654                                          # unknown
    numbers = coder.numbers(float_bits(weights))
    found, fits = coder.codes(numbers)
    assert np.flatnonzero(~fits).tolist() == [1]
    assert (found[2:] >= codes[2:]).all()
    assert found[0] == found[1] == 0
    made = form.weights(table[found][:, None], coder.integers(numbers, found), 40).astype(dtype)
    np.testing.assert_array_equal(made[fits], weights[fits])


def test_scales_beyond_the_range_make_nothing_wrong():
    table = np.full(27, 1e5, np.float32)
    coder = Coder(table, HALF, FORMS["s*q/h"], 4)
    numbers = coder.numbers(float_bits(np.float16([[25000, 50000, 0, -25000] * 4,
                                                   [np.inf] * 16])))
    found, fits = coder.codes(numbers)
    assert fits.tolist() == [True, False]
    assert coder.integers(numbers, found)[0].tolist() == [1, 2, 0, -1] * 4


def test_groups_of_a_matrix_with_an_odd_end():
    weights = np.arange(1, 3 * 37 + 1, dtype=np.float16).reshape(3, 37)
    whole = np.zeros((3, 48), np.float16)
    whole[:, :37] = weights
    bits = float_bits(weights)
    np.testing.assert_array_equal(grouped(bits), float_bits(whole).reshape(-1, 16))
    np.testing.assert_array_equal(grouped(bits, slice(1, 3)), grouped(bits)[3:])
    np.testing.assert_array_equal(pick_groups(bits, np.array([8, 2, 3])), grouped(bits)[[8, 2, 3]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_scan_sees_every_magnitude_and_a_group_of_each(dtype):
    rng = np.random.default_rng(0)
    weights = rng.choice(np.linspace(-1, 1, 51), (4000, 200)).astype(dtype)
    weights[3999, 199], weights[1, 1] = 77, -0.0
    magnitudes = scan(weights)
    np.testing.assert_array_equal(
        magnitudes.values, np.unique(np.abs(weights[weights != 0])).astype(np.float32))
    assert magnitudes.rows == 4000
    assert magnitudes.negative_zeros == np.count_nonzero((weights == 0) & np.signbit(weights))
    shown = pick_groups(float_bits(weights), magnitudes.groups)
    places = magnitudes.indices(shown)
    assert set(places.ravel()) == set(range(magnitudes.bits.size + 1))
    values = np.append(0, magnitudes.values)[places]
    np.testing.assert_array_equal(values, np.abs(shown.view(dtype)).astype(np.float32))
