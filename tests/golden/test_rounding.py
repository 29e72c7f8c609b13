import ml_dtypes
import numpy as np
import pytest

from tritstream.golden.matrix import TritMatrix, dequantize, dequantized_chunks
from tritstream.golden.rounding import FORM, FORMS, DigitForm, rec, to_dtype

KINDS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
SCALES = np.exp(np.random.default_rng(0).uniform(-9, 1, (500, 1))).astype(np.float32)
Q = np.arange(-13, 14)
PRODUCTS = [name for name, form in FORMS.items() if not isinstance(form, DigitForm)]
DIGITS = [name for name in FORMS if name not in PRODUCTS]


def by_steps(name):
    """The weights of a form in the arithmetic of each dtype itself; h = 13."""
    order, word, kind = (*name.split(), "via", "float32")[:3]
    step = last = KINDS.get(kind, np.float32)
    if word == "via":
        step = np.float32
    q = Q.astype(np.float32)
    if order == "s*q/h":
        first, second = (SCALES * q).astype(step), np.divide
        result = second(first.astype(np.float32), np.float32(13))
    elif order == "s*(q/h)":
        result = SCALES * (q / np.float32(13)).astype(step).astype(np.float32)
    else:
        result = (SCALES / np.float32(13)).astype(step).astype(np.float32) * q
    return result.astype(last).astype(np.float32)


def test_names():
    assert (len(PRODUCTS), len(DIGITS)) == (11, 78)
    assert all(form.name == name for name, form in FORMS.items())
    assert FORM is FORMS["s*q/h"]


@pytest.mark.parametrize("name", PRODUCTS)
def test_weights(name):
    np.testing.assert_array_equal(FORMS[name].weights(SCALES, Q, 13), by_steps(name))


def test_forms_differ():
    q = np.arange(-40, 41)
    found = {form.weights(SCALES, q, 40).tobytes() for form in FORMS.values()}
    # In bfloat16 the sum of 1/27, 1/9 and 1/3 needs no rounding on the way.
    assert len(found) == len(FORMS) - 1


@pytest.mark.parametrize("half", [1, 4, 13, 40])
@pytest.mark.parametrize("name", DIGITS)
def test_sums_of_digits_are_near_the_product(name, half):
    """Check the bound in docs/packed-format.md for the weights that a device computes with."""
    form, q, scales = FORMS[name], np.arange(-half, half + 1), SCALES[SCALES[:, 0] > 0.01]
    made = form.weights(scales, q, half)
    bound = {"float16": 0.002, "bfloat16": 0.015, "float32": 3e-7}[form.step.name]
    assert (np.abs(made - rec(scales, q, half)) <= bound * scales).all()
    np.testing.assert_array_equal(made, -made[:, ::-1])
    assert not made[:, half].any()


def test_order_of_a_sum_by_hand():
    # 11 is 9 + 3 - 1. Of 29 these are 261, 87 and 29; bfloat16 has even numbers from 256 to 512.
    def made(order):
        form = FORMS[f"sum t*R(s*p/h) {order} in bfloat16"]
        return float(form.weights(np.float32([29 * 13]), np.array([11]), 13)[0])

    # 260 + 87 is 347, rounded 348; less 29 it is 319, rounded 320. But 87 - 29 is 58: 318.
    assert (made("high first"), made("low first"), made("at once")) == (320, 318, 318)


def test_one_rounding_by_hand():
    # 3/13 is 0.23076923 and 0.23071289 in float16; 0.5 * 3 / 13 is 0.11538462.
    scale, q = np.array([0.5], np.float32), np.array([3])
    assert FORMS["s*q/h"].weights(scale, q, 13) == np.float32(1.5) / np.float32(13)
    assert FORMS["s*(q/h) in float16"].weights(scale, q, 13) == np.float32(0.115356445)


def test_beyond_the_range_of_a_step():
    scale, q = np.array([6e4, 1e38], np.float32), np.array([13])
    np.testing.assert_array_equal(
        FORMS["s*q/h in float16"].weights(scale, q, 13), np.float32([np.inf, np.inf]))
    np.testing.assert_array_equal(
        FORMS["s*q/h via float16"].weights(scale, q, 13), np.float32([6e4, np.inf]))


def test_rounds_half_to_even():
    values = np.float32([1 + 2 ** -11, 1 + 3 * 2 ** -11, 2 ** -25, 65520])
    np.testing.assert_array_equal(to_dtype(values, np.dtype(np.float16)),
                                  np.float32([1, 1 + 2 ** -9, 0, np.inf]))


def test_dequantizes_in_its_form():
    rng = np.random.default_rng(1)
    table = np.sort(rng.uniform(0.01, 1, 27)).astype(np.float32)
    q = rng.integers(-13, 14, (9, 48)).astype(np.int8)
    codes = rng.integers(0, 27, (9, 3)).astype(np.uint8)
    form = FORMS["s/h*q in bfloat16"]
    matrix = TritMatrix(3, (9, 40), q, codes, table, form)
    expected = form.weights(table[codes].repeat(16, axis=1), q, 13)[:, :40]
    np.testing.assert_array_equal(dequantize(matrix), expected)
    plain = TritMatrix(3, (9, 40), q, codes, table)
    np.testing.assert_array_equal(
        dequantize(plain), rec(table[codes].repeat(16, axis=1), q, 13)[:, :40])
    (rows, half), = dequantized_chunks(plain, np.dtype(np.float16))
    assert rows == slice(0, 9)
    assert half.tobytes() == dequantize(plain).astype(np.float16).tobytes()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_scales_beyond_their_dtype_are_no_warning(form):
    scales = np.array([[3e38], [1e5], [1e-40]], np.float32)
    assert (form.weights(scales, np.arange(-13, 14), 13)[2, 13] == 0)
