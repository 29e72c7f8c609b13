"""Products with the same input, computed together."""

import threading

import numpy as np
import pytest

from tritstream.host.model.siblings import Siblings


class Compute:
    """Multiplies inputs by numbers; keeps which numbers were asked for together."""

    def __init__(self):
        self.calls = []

    def __call__(self, matrices, x):
        self.calls.append(list(matrices))
        return [factor * x for factor in matrices]


def vectors(seed, shape=(1, 8)):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ask(siblings, x, *matrices):
    for factor in matrices:
        np.testing.assert_array_equal(siblings.product(factor, x.copy()), factor * x)


@pytest.fixture
def compute():
    return Compute()


@pytest.fixture
def siblings(compute):
    return Siblings(compute)


def test_they_are_learnt_by_the_first_pass(siblings, compute):
    for seed in range(3):
        ask(siblings, vectors(seed), 1, 2, 3)
        ask(siblings, vectors(seed + 50), 4)
    assert compute.calls == [[1], [2], [3], [4], [1, 2, 3], [4], [1, 2, 3], [4]]


def test_an_input_that_changes_in_place_is_another_one(siblings, compute):
    x = vectors(0)
    ask(siblings, x, 1, 2)
    ask(siblings, vectors(1), 1, 2)
    x = vectors(2)
    ask(siblings, x, 1)
    x[0, 3] += 1
    ask(siblings, x, 2)
    assert compute.calls[-2:] == [[1, 2], [2]]


def test_the_input_is_copied(siblings):
    x = vectors(0)
    siblings.product(1, x)
    before = x.copy()
    x += 1
    np.testing.assert_array_equal(siblings.product(2, x), 2 * x)
    np.testing.assert_array_equal(siblings.product(2, before), 2 * before)


@pytest.mark.parametrize("shape", [(2, 8), (8,), (1, 7)])
def test_another_shape_is_another_input(siblings, compute, shape):
    ask(siblings, np.ones((1, 8), np.float32), 1)
    ask(siblings, np.ones(shape, np.float32), 2)
    assert compute.calls == [[1], [2]]
    ask(siblings, np.ones((1, 8), np.float32), 1)
    assert compute.calls[-1] == [1]


def test_one_that_is_not_asked_for_is_no_sibling_any_more(siblings, compute):
    ask(siblings, vectors(0), 1, 2, 3)
    ask(siblings, vectors(1), 1, 3)
    ask(siblings, vectors(2), 1, 3)
    ask(siblings, vectors(3), 1, 2, 3)
    ask(siblings, vectors(4), 1, 2, 3)
    assert compute.calls[3:] == [[1, 2, 3], [1, 3], [1, 3], [2], [1, 3, 2]]


def test_one_that_is_asked_for_twice_is_computed_twice(siblings, compute):
    ask(siblings, vectors(0), 1, 2, 2, 1, 2)
    assert compute.calls == [[1], [2], [2], [1], [2, 1]]


def test_after_an_error_nothing_old_is_used(compute):
    def fail(matrices, x):
        if np.isnan(x).any():
            raise ValueError("not finite")
        return compute(matrices, x)

    siblings = Siblings(fail)
    ask(siblings, vectors(0), 1, 2)
    with pytest.raises(ValueError, match="not finite"):
        siblings.product(1, np.full((1, 8), np.nan, np.float32))
    ask(siblings, vectors(0), 2, 1)


def test_threads_do_not_mix(siblings):
    def work(seed):
        try:
            for step in range(200):
                ask(siblings, vectors([seed, step]), 1, 2, 3)
        except BaseException as error:
            failures.append(error)

    failures = []
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
