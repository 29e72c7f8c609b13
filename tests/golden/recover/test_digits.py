"""Recovery of weights that were added up digit by digit, made by `published` in its own way."""

from itertools import product

import numpy as np
import pytest

from tritstream.golden.fixed_point import half_range
from tritstream.golden.recover import Misfit, recover
from tritstream.golden.rounding import FORMS, DigitForm

from support.published import DIGIT_FORMS, DTYPES, PLANES, dequantize, published, strange
from support.recovered import expect_exact

TABLES = {
    "even": lambda rng: np.geomspace(0.002, 0.3, 27),
    "shuffled": lambda rng: rng.permutation(np.geomspace(0.002, 0.3, 27)),
    "half": lambda rng: np.geomspace(0.004, 0.3, 27).astype(np.float16),
}
#: Dtype inside and stored, and the table; forms take turns at them.
WAYS = [*product(("float16", "bfloat16"), DTYPES, TABLES)]
#: One addition has no order.
CASES = [(depth, form) for depth in (2, 3, 4) for form in DIGIT_FORMS
         if depth > 2 or form.endswith("low first")]
#: Those of depth 4 take seconds each; a test of all is marked long. The step leaves no order out.
SOME = [case for number, case in enumerate(CASES) if case[0] < 4 or number % 5 == 0]
#: In float32 the scale of the highest digit is not a scale of ours: it has not every value.
IN_FLOAT32 = [form for form in DIGIT_FORMS
              if not form.startswith(("s*(p/m)", "by thirds", "s*sum of p/m"))]


def made(depth, form, inner, dtype, table, seed=0, shape=(60, 128)):
    rng = np.random.default_rng(seed)
    half = half_range(depth)
    levels = np.clip(np.rint(rng.normal(0, half / 2, shape)), -half, half)
    codes = rng.integers(0, 27, (shape[0], shape[1] // 16))
    scales = np.float32(TABLES[table](rng))
    return dequantize(levels, codes, scales, depth, form, inner).astype(DTYPES[dtype])


@pytest.mark.parametrize(("number", "depth", "form"), [
    (number, *case) for number, case in enumerate(SOME)])
def test_recovers_sums_of_digits(number, depth, form):
    inner, dtype, table = WAYS[(number * 7 + depth) % len(WAYS)]
    weights = made(depth, form, inner, dtype, table)
    found = recover(weights)
    assert found.depth == depth
    expect_exact(weights, found)


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_recovers_sums_of_digits_in_every_way(way):
    for number, (depth, form) in enumerate(CASES):
        weights = made(depth, form, *way, seed=number)
        found = recover(weights)
        assert found.depth == depth
        expect_exact(weights, found)


@pytest.mark.parametrize("form", IN_FLOAT32)
@pytest.mark.parametrize("depth", [2, 3])
def test_recovers_sums_in_float32(depth, form):
    weights = made(depth, form, "float32", "float32", "even")
    found = recover(weights)
    assert found.depth == depth
    expect_exact(weights, found)


@pytest.mark.parametrize("inner", DTYPES)
def test_one_digit_is_a_product(inner):
    weights = made(1, "s*p/h, low first", inner, "float16", "even")
    found = recover(weights)
    assert (found.depth, found.form) == (1, "s*q/h")
    expect_exact(weights, found)


@pytest.mark.parametrize(("form", "inner", "name"), [
    ("wide s*p/h, low first", "float16", "sum t*R(s*p/h) low first in float16"),
    ("s/h*p, high first", "float16", "sum t*R(s*p/h) high first in float16"),
    ("s*p/h, at once", "bfloat16", "sum t*R(R(s*p)/h) at once in bfloat16"),
    pytest.param("s*(p/h), high first", "bfloat16", "sum t*R(s*R(p/h)) high first in bfloat16",
                 marks=pytest.mark.long),
    pytest.param("sum of s*p, /h, high first", "float16", "(sum t*R(s*p))/h high first in float16",
                 marks=pytest.mark.long),
    pytest.param("s*sum of p/m, high first", "float16", "z*(sum t*R(p/m)) high first in float16",
                 marks=pytest.mark.long),
])
def test_the_form_is_named(form, inner, name):
    weights = made(4, form, inner, inner, "even", shape=(300, 128))
    assert recover(weights).form == name


@pytest.mark.parametrize("how", [
    {"ends": "percentile"}, {"ends": "capped"}, {"rederive": False}, {"spread": 2.0}])
def test_recovers_other_encoders(how):
    weights = published(np.random.default_rng(0), 96, 200, 3, form="s*p/h, low first",
                        inner="float16", **how)
    found = recover(weights)
    assert (found.depth, found.form) == (3, "sum t*R(R(s*p)/h) low first in float16")
    expect_exact(weights, found)


@pytest.mark.parametrize("seed", [*range(2000, 2006), *(
    pytest.param(seed, marks=pytest.mark.long) for seed in range(2006, 2100))])
def test_recovers_strange_sums(seed):
    what, depth, weights = strange(seed, DIGIT_FORMS)
    found = recover(weights, what)
    assert found.depth <= depth, what
    expect_exact(weights, found)


@pytest.mark.parametrize(("depth", "inner"), [
    (3, "float16"), pytest.param(4, "bfloat16", marks=pytest.mark.long)])
def test_one_damaged_value(depth, inner):
    weights = made(depth, "wide s*p/h, high first", inner, inner, "shuffled", shape=(300, 128))
    name = f"sum t*R(s*p/h) high first in {inner}"
    weights[17, 40] = weights.max()
    with pytest.raises(Misfit, match=f"^matrix does not fit: nearest is d = {depth}, ") as caught:
        recover(weights, depths=(depth,))
    assert f"{name}, which leaves 1 of 2400 groups over, the first at row 17, column 32, " in str(
        caught.value)


def test_forms_of_one_digit_and_of_others_dtypes_are_not_tried():
    weights = made(2, "s*p/h, low first", "float16", "float16", "even")
    found = recover(weights)
    digits = [attempt for attempt in found.attempts
              if isinstance(FORMS[attempt.form], DigitForm)]
    assert {attempt.depth for attempt in digits} == {2}
    assert all(attempt.form.endswith("low first in float16") for attempt in digits)


def test_the_likely_form_is_tried_first():
    weights = made(3, "s*p/h, low first", "float16", "float16", "even")
    found = recover(weights, likely=recover(weights).form)
    assert len(found.attempts) == 1
    assert not np.any(recover(np.zeros((2, 16), np.float16), depths=(3,), likely=found.form).table
                      != np.float32(1))


def test_planes_are_not_all_alike():
    """The generator's ways of computing a digit differ, so that each is a test of its own."""
    for inner in ("float16", "bfloat16"):
        found = {made(4, f"{planes}, low first", inner, inner, "even").tobytes()
                 for planes in PLANES}
        assert len(found) == len(PLANES)
