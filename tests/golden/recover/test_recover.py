import re

import ml_dtypes
import numpy as np
import pytest

from tritstream.golden import recover as package
from tritstream.golden.fixed_point import half_range
from tritstream.golden.recover import DEPTHS, Misfit, cover, encode, ratios, recover
from tritstream.golden.recover import matrix as search
from tritstream.golden.rounding import FORMS as OURS

from support.published import DTYPES, FORMS, dequantize, draw_table, published, strange
from support.recovered import expect_exact


def matrix(depth, seed=0, shape=(96, 200), **how):
    return published(np.random.default_rng(seed), *shape, depth, **how)


def any_levels(depth, table, dtype="float16", seed=0, shape=(60, 128), **form):
    """Any levels and codes on a table, and the codes."""
    rng = np.random.default_rng(seed)
    half = half_range(depth)
    levels = rng.integers(-half, half + 1, shape)
    codes = rng.integers(0, len(table), (shape[0], shape[1] // 16))
    weights = dequantize(levels, codes, np.float32(table), depth, **form)
    return weights.astype(DTYPES[dtype]), codes


@pytest.mark.parametrize("inner", DTYPES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_recovers_every_form(depth, dtype, form, inner):
    weights = matrix(depth, dtype=dtype, form=form, inner=inner)
    found = recover(weights)
    assert found.depth == depth
    expect_exact(weights, found)


@pytest.mark.parametrize("inner", ["float32", "bfloat16"])
def test_recovers_float16_that_was_bfloat16(inner):
    weights = matrix(3, dtype="bfloat16", inner=inner).astype(np.float16)
    found = recover(weights)
    assert found.form == ("s*q/h via bfloat16" if inner == "float32" else "s*q/h in bfloat16")
    expect_exact(weights, found)


@pytest.mark.parametrize("how", [
    {"ends": "percentile"}, {"ends": "capped"}, {"rederive": False}, {"spread": 2.0},
    {"ends": "percentile", "rederive": False}, {"spread": 0.0},
])
@pytest.mark.parametrize("depth", [2, 4])
def test_recovers_other_encoders(depth, how):
    weights = matrix(depth, seed=1, **how)
    found = recover(weights)
    assert found.depth == depth
    expect_exact(weights, found)


@pytest.mark.parametrize("seed", range(20))
def test_recovers_strange_matrices(seed):
    what, depth, weights = strange(seed)
    found = recover(weights, what)
    assert found.depth <= depth, what
    expect_exact(weights, found)


@pytest.mark.long
def test_recovers_many_strange_matrices():
    for seed in (*range(20, 40), *range(1000, 1500)):
        what, depth, weights = strange(seed)
        found = recover(weights, what)
        assert found.depth <= depth, what
        expect_exact(weights, found)


def test_the_true_scales_come_back():
    table = np.geomspace(0.01, 0.3, 27)
    weights, _ = any_levels(3, table)
    np.testing.assert_allclose(recover(weights).table, table, rtol=2 ** -12)


def test_codes_that_are_too_many_hold_the_least_scale():
    weights, _ = any_levels(3, [0.25, 0.0625, 0.125])
    found = recover(weights)
    assert found.scales == 3
    np.testing.assert_allclose(found.table, [0.0625] * 25 + [0.125, 0.25], rtol=2 ** -12)


def test_takes_the_largest_scale_that_does():
    # Halves and wholes of 0.5 are quarters and halves of 1, of which the table has to have one.
    weights = np.zeros((2, 16), np.float16)
    weights[0, :4], weights[1, :2] = (0.25, 0.5, 0.75, 1), (0.25, 0.5)
    found = recover(weights)
    coded = encode(weights, np.float32(found.table), 2, OURS[found.form])
    assert (found.depth, found.scales) == (2, 1)
    assert coded.codes.tolist() == [[26], [26]]
    assert coded.q[:, :4].tolist() == [[1, 2, 3, 4], [1, 2, 0, 0]]


def test_takes_the_nearest_of_several_integers():
    # In float16 the least number is 2^-24: a scale of 5 of them at h = 13 has two integers for
    # most.
    weights = np.float16(2.0 ** -24) * np.arange(6, dtype=np.float16)
    weights = np.resize(weights, (1, 16))
    table = np.full(27, 5 * 2.0 ** -24, np.float32)
    q = encode(weights, table, 3, OURS["s*q/h"]).q[0, :6]
    assert q.tolist() == [0, 3, 5, 8, 10, 13]


def test_depth_is_the_least_that_fits():
    weights, _ = any_levels(2, np.geomspace(0.01, 0.3, 27))
    found = recover(weights)
    assert found.depth == 2
    assert recover(weights, depths=(4, 3)).depth == 4
    expect_exact(weights, recover(weights, depths=(4,)))


def test_the_likely_form_is_tried_first():
    weights, _ = any_levels(3, np.geomspace(0.01, 0.3, 27), inner="float16", form="s*(q/h)")
    found = recover(weights)
    assert (found.form, len(found.attempts)) == ("s*(q/h) in float16", 5)
    found = recover(weights, likely="s*(q/h) in float16")
    assert (found.form, len(found.attempts)) == ("s*(q/h) in float16", 1)
    found = recover(weights, likely="s/h*q in bfloat16")
    assert (found.form, len(found.attempts)) == ("s*(q/h) in float16", 6)
    assert recover(any_levels(2, [0.5, 0.4])[0], likely="s/h*q").form == "s/h*q"


def test_zeros():
    weights = np.zeros((7, 40), np.float16)
    weights[3, 5] = -0.0
    found = recover(weights)
    assert (found.depth, found.distinct, found.negative_zeros) == (1, 0, 1)
    assert found.table == (1.0,) * 27
    expect_exact(weights, found)


def test_counts():
    weights, _ = any_levels(2, [0.5, 0.125], shape=(300, 1600))
    weights[17, 33] = weights[299, 0] = -0.0
    found = recover(weights)
    assert found.negative_zeros == np.count_nonzero((weights == 0) & np.signbit(weights))
    assert found.distinct == np.unique(np.abs(weights[weights != 0])).size


def test_one_extreme_group():
    weights = matrix(3, seed=2)
    weights[50, 32:48] = np.resize(np.float16([60000, -30000, 0]), 16)
    with pytest.raises(Misfit, match="leaves 1 of 1248 groups over, the first at row 50, "
                                     "column 32, with ratios 0 0.5 1$"):
        recover(weights, depths=(3,))
    table = np.geomspace(0.01, 0.1, 27)
    table[26] = 60000
    weights, _ = any_levels(3, table, seed=3)
    expect_exact(weights, recover(weights))


def test_the_result_is_always_the_same():
    weights = matrix(4, inner="float16", shape=(700, 700))
    assert recover(weights) == recover(weights.copy())


def test_groups_that_the_first_look_leaves_out():
    # A rare scale whose magnitudes also belong to another scale, except in one group.
    weights, _ = any_levels(2, np.float32([0.5, 0.25]), shape=(2000, 320))
    weights[1234, 160:176] = np.resize(np.float16([0.125, 0.1875, 0.0625]), 16)
    weights[1999, 0:16] = np.resize(np.float16([0.25, 0.0625, 0.1875]), 16)
    found = recover(weights)
    expect_exact(weights, found)


def misfit(weights, **options):
    with pytest.raises(Misfit, match="^a.weight does not fit: ") as caught:
        recover(weights, "a.weight", **options)
    return str(caught.value).removeprefix("a.weight does not fit: "), caught.value.unfit


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_weights(dtype, monkeypatch):
    monkeypatch.setattr(search, "Fitting", None)        # refused before any search
    weights = (np.random.default_rng(0).standard_normal((2000, 400)) * 0.02).astype(DTYPES[dtype])
    reason, unfit = misfit(weights)
    assert re.fullmatch(r"more than 1080 distinct magnitudes in its first (655|1310) rows, which "
                        "is not what 27 scales make", reason)
    assert unfit.distinct > 1080
    assert unfit.attempts == ()


def test_too_many_magnitudes_for_a_depth(monkeypatch):
    monkeypatch.setattr(search, "Fitting", None)
    weights, _ = any_levels(3, np.geomspace(0.01, 0.3, 27), shape=(300, 320))
    count = np.unique(np.abs(weights[weights != 0])).size
    assert misfit(weights, depths=(2,))[0] == (
        f"{count} distinct magnitudes, of which 27 scales make at most 108 at d = 2")


@pytest.mark.parametrize(("depth", "depths"), [
    (2, (2,)), (3, DEPTHS), pytest.param(4, (4,), marks=pytest.mark.long)])
def test_one_damaged_value(depth, depths):
    weights = matrix(depth, seed=4)
    weights[17, 40] *= np.float16(1.02)
    reason, unfit = misfit(weights, depths=depths)
    assert reason.startswith(f"nearest is d = {depth}, s*q/h, which leaves 1 of 1248 groups over, "
                             "the first at row 17, column 32, with ratios ")
    assert {attempt.depth for attempt in unfit.attempts} == {*depths} - {*range(depth)}


@pytest.mark.parametrize("depth", [2, 3, pytest.param(4, marks=pytest.mark.long)])
def test_28_scales(depth):
    table = np.exp(np.random.default_rng(6).uniform(-4, 0, 28))
    weights, codes = any_levels(depth, table, shape=(300, 320))
    # At d = 4 fewer scales do for d = 2: its levels leave much room.
    reason, unfit = misfit(weights, depths=(depth, depth + 1)[:5 - depth])
    found = re.match(r"nearest is d = \d, s\*q/h, which needs 28 scales and leaves (\d+) of 6000 "
                     r"groups over, the first at row (\d+), column (\d+), with", reason)
    left, row, column = map(int, found.groups())
    assert column % 16 == 0
    assert 0 < left <= np.count_nonzero(codes == codes[row, column // 16])
    assert unfit.attempts[0].least == 28


@pytest.mark.parametrize(("depth", "power"), [
    (2, 1.5), (3, 1.5), (3, 2), pytest.param(4, 0.5, marks=pytest.mark.long)])
def test_levels_that_are_not_linear(depth, power):
    rng = np.random.default_rng(5)
    half = half_range(depth)
    levels = rng.integers(-half, half + 1, (60, 320))
    scales = np.geomspace(0.02, 0.2, 27)[rng.integers(0, 27, (60, 20))].repeat(16, axis=1)
    weights = np.sign(levels) * np.abs(levels / half) ** power * scales
    reason, unfit = misfit(weights.astype(np.float16), depths=(depth,))
    assert "groups over, the first at row 0, column 0, with ratios " in reason
    assert all(attempt.unfit > 0 for attempt in unfit.attempts)


def test_ratios():
    weights, _ = any_levels(2, [0.5, 0.25, 0.3], shape=(100, 160))
    assert [ratio for ratio, _ in ratios(weights)] == [0, 0.25, 0.333, 0.5, 0.667, 0.75, 1]
    assert sum(share for _, share in ratios(weights)) == pytest.approx(1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_not_finite(dtype, value):
    weights = matrix(2, dtype=dtype)
    weights[31, 17] = weights[40, 3] = value
    with pytest.raises(ValueError, match=f"^a.weight must be finite, not {value} at row 31, "
                                         "column 17$"):
        recover(weights, "a.weight")


@pytest.mark.parametrize("shape", [(3,), (0, 16), (2, 0), (1, 2, 3)])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match="^a must be a matrix with rows and columns, not "):
        recover(np.zeros(shape, np.float16), "a")


def test_weights_that_a_table_does_not_make():
    with pytest.raises(ValueError, match="^a.weight is not what its table was found for; "
                                         "run the command again$"):
        encode(np.float16([[0.5, 0.4]]), np.ones(27, np.float32), 2, OURS["s*q/h"], "a.weight")


def test_the_report_may_find_more_than_the_search(monkeypatch):
    monkeypatch.setattr(cover, "_EXCHANGES", 0)
    kind, table = draw_table(np.random.default_rng(0))
    assert kind != "few"
    rng = np.random.default_rng(1)
    levels = rng.integers(1, 5, (108, 1)) * (np.arange(16) == 3)
    weights = dequantize(levels, np.arange(108)[:, None] % 27, table, 2).astype(np.float16)
    found = recover(weights, depths=(2,))
    expect_exact(weights, found)


def test_names_of_the_package():
    assert set(package.__all__) <= set(dir(package))


def test_bfloat16_is_as_wide_as_float32():
    weights, _ = any_levels(3, np.geomspace(1e-30, 1e-28, 27), "bfloat16", form="s/h*q")
    assert weights.dtype == ml_dtypes.bfloat16
    expect_exact(weights, recover(weights))


@pytest.mark.parametrize(("dtype", "bits", "nan"), [
    (np.float16, np.uint16, 0x7c01), (ml_dtypes.bfloat16, np.uint16, 0x7f81),
    (np.float32, np.uint32, 0x7f800001)])
def test_a_signalling_nan_is_no_warning(dtype, bits, nan):
    weights = np.zeros((5, 20), dtype)
    weights.view(bits)[3, 4] = nan
    with pytest.raises(ValueError, match="^matrix must be finite, not nan at row 3, column 4$"):
        recover(weights)
