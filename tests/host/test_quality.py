import math
from dataclasses import asdict

import numpy as np
import pytest

from tritstream.host.quality import (
    Estimate,
    Prediction,
    bits_per_byte,
    compare,
    kl_divergence,
    mean,
    perplexity,
)

from support.golden_helpers import message

HALVES = [0.0, 0.0]
QUARTERS = [0.0, math.log(3)]


def rows(*logits):
    return Prediction(np.array(logits, np.float32))


def softmax(logits):
    """Log-probabilities by a statement of its own: pairwise sums in the log domain, long double."""
    wide = logits.astype(np.longdouble)
    return wide - np.logaddexp.reduce(wide, axis=1)[:, None]


def llama_mean(sums, squares, count):
    """Mean and error from sums, as llama.cpp's perplexity tool writes them."""
    value = sums / count
    return value, math.sqrt((squares / count - value * value) / (count - 1))


def test_nll_of_quarters():
    nll = rows(QUARTERS, QUARTERS, HALVES).nll(np.array([0, 1, 1]))
    assert nll.dtype == np.float64
    np.testing.assert_allclose(nll, np.log([4, 4 / 3, 2]), rtol=1e-7)


@pytest.mark.parametrize("offset", [-1e30, -5000.0, 5000.0, 1e30])
def test_large_logits_do_not_overflow(offset):
    np.testing.assert_array_equal(rows([offset, offset]).nll(np.array([0])), [math.log(2)])


def test_top_is_the_first_of_equals():
    np.testing.assert_array_equal(rows([1, 3, 3], [5, 4, 5], [0, 0, 1]).top(), [1, 0, 2])


def test_divergence_of_quarters_from_halves():
    found = kl_divergence(rows(HALVES, QUARTERS, QUARTERS), rows(QUARTERS, HALVES, QUARTERS))
    # 1/2 ln(2) + 1/2 ln(2/3); 1/4 ln(1/2) + 3/4 ln(3/2)
    expected = [math.log(4 / 3) / 2, 0.25 * math.log(0.5) + 0.75 * math.log(1.5), 0]
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    assert found[2] == 0


def test_divergence_where_nothing_is_probable():
    never = [-math.inf, 0, 0]
    np.testing.assert_array_equal(kl_divergence(rows(never), rows(never)), [0])
    np.testing.assert_array_equal(kl_divergence(rows([0, 0, 0]), rows(never)), [math.inf])


def test_rows_of_a_large_vocabulary_come_in_pieces():
    rng = np.random.default_rng(7)
    base, other = (rng.normal(0, 5, (7, 100_000)).astype(np.float32) for _ in range(2))
    targets = rng.integers(0, 100_000, 7)
    assert sum(1 for _ in Prediction(base).log_probabilities()) > 1
    wanted, got = softmax(base), softmax(other)
    np.testing.assert_allclose(
        Prediction(base).nll(targets), -wanted[np.arange(7), targets].astype(float), rtol=1e-12)
    np.testing.assert_allclose(
        kl_divergence(Prediction(base), Prediction(other)),
        (np.exp(wanted) * (wanted - got)).sum(axis=1).astype(float), rtol=1e-12)


def test_divergence_wrong_shapes():
    with pytest.raises(ValueError, match=message(
            "predictions must be of one shape, not (1, 2) and (1, 3)")):
        kl_divergence(rows([0, 0]), rows([0, 0, 0]))


def test_perplexity_of_two_tokens():
    # ln 2 and ln 8: mean ln 4, sample deviation ln(4) / sqrt(2), error of the mean ln(4) / 2.
    found = perplexity(np.log([2, 8]))
    assert found.value == pytest.approx(4)
    assert found.error == pytest.approx(4 * math.log(2))


def test_bits_per_byte_of_two_tokens():
    # 1 and 3 bits over 5 bytes; the error of the mean, 1 bit, counts for both tokens.
    found = bits_per_byte(np.log([2, 8]), 5)
    assert found.value == pytest.approx(0.8)
    assert found.error == pytest.approx(0.4)


def test_comparison_of_two_tokens():
    found = compare(np.log([4, 4]), np.log([2, 4]), np.array([0.0, 1.0]), np.array([True, False]))
    half, quarter = math.log(2) / 2, 0.125
    for name, value, error in [
        ("log_ratio", half, half), ("ratio", math.sqrt(2), math.sqrt(2) * half),
        ("kl", 0.5, 0.5), ("same_top", 0.5, 0.5), ("delta_p", -quarter, quarter),
        # Mean square 1/32 with error 1/32, halved and divided by the root.
        ("delta_p_rms", math.sqrt(1 / 32), 1 / 64 * math.sqrt(32)),
    ]:
        assert asdict(getattr(found, name)) == pytest.approx({"value": value, "error": error}), name
    assert found.delta_p_percentiles["0"] == pytest.approx(-0.25)
    assert found.delta_p_percentiles["100"] == 0


def test_percentiles_lie_between_values():
    found = compare(np.ones(11), np.ones(11), np.arange(10, -1, -1.0), np.ones(11, bool))
    assert found.kl_percentiles == pytest.approx({
        "100": 10, "99.9": 9.99, "99": 9.9, "95": 9.5, "90": 9, "50": 5, "10": 1, "5": 0.5,
        "1": 0.1, "0.1": 0.01, "0": 0})


def test_a_model_against_itself():
    nll = np.log([2.0, 3, 5])
    found = compare(nll, nll, np.zeros(3), np.ones(3, bool))
    assert found.log_ratio == found.kl == found.delta_p == found.delta_p_rms == Estimate(0, 0)
    assert found.ratio == found.same_top == Estimate(1, 0)


def test_errors_are_those_of_llama_cpp():
    rng = np.random.default_rng(3)
    base = rng.exponential(3, 1000)
    nll = base + rng.normal(0.02, 0.1, 1000)
    log_ppl, error = llama_mean(nll.sum(), (nll ** 2).sum(), 1000)
    log_base, error_base = llama_mean(base.sum(), (base ** 2).sum(), 1000)
    covariance = ((nll * base).mean() - nll.mean() * base.mean()) / 999
    paired = math.sqrt(error ** 2 + error_base ** 2 - 2 * covariance)
    change = np.exp(-nll) - np.exp(-base)
    square, square_error = llama_mean((change ** 2).sum(), (change ** 4).sum(), 1000)
    same = rng.random(1000) < 0.9
    share = same.mean()

    found = compare(nll, base, np.zeros(1000), same)
    assert perplexity(nll) == Estimate(
        pytest.approx(math.exp(log_ppl)), pytest.approx(math.exp(log_ppl) * error))
    assert found.log_ratio == Estimate(pytest.approx(log_ppl - log_base), pytest.approx(paired))
    assert paired < error / 10
    assert found.delta_p_rms == Estimate(
        pytest.approx(math.sqrt(square)), pytest.approx(square_error / (2 * math.sqrt(square))))
    assert found.same_top == Estimate(
        pytest.approx(share), pytest.approx(math.sqrt(share * (1 - share) / 999)))
    assert mean(nll) == Estimate(pytest.approx(log_ppl), pytest.approx(error))
