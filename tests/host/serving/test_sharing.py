"""Texts that share products: each gets what it would get alone, and its share of the cost."""

import pytest
import torch
from greenlet import getcurrent

from tritstream.host.model.backends import Cost
from tritstream.host.protocol.records import Stats
from tritstream.host.serving.sharing import SharedProduct, Text, run_step, shares


class Matrix:
    """A product by a factor, which records the batches."""

    def __init__(self, factor, number=0):
        self.batches = []
        self.factor, self.fails = factor, False
        self.shared = SharedProduct(self._multiply, number, self._take_cost)

    def _multiply(self, x):
        self.batches.append(x[:, 0].tolist())
        if self.fails:
            raise OSError("unplugged")
        return x * self.factor

    def _take_cost(self):
        return Cost(Stats(cycles=10), 1.0)


def begin(run):
    text = Text(run)
    text.begin()
    return text


def passes(paths, value, into):
    """A text of several passes: in each, its vector goes through some matrices."""
    def run():
        for path in paths:
            getcurrent().wait_for_step()
            x = torch.full((1, 1), float(value))
            for matrix in path:
                x = matrix.shared(x)
            into.append(x.item())

    return begin(run)


def test_texts_that_wait_together_are_one_batch():
    a, b, found = Matrix(2), Matrix(3, 1), [[], [], []]
    texts = [passes([(a, b)] * 2, value, found[at])
             for at, value in enumerate((1, 10, 100))]
    run_step(texts)
    assert a.batches == [[1, 10, 100]] and b.batches == [[2, 20, 200]]
    run_step(texts[1:])
    assert a.batches[1:] == [[10, 100]]
    assert found == [[6], [60, 60], [600, 600]]
    assert [text.dead for text in texts] == [False, True, True]


def test_texts_at_different_matrices_meet_again():
    # As experts: one goes to the first, the other ones to the second; then all go to the last.
    first, second, last = Matrix(2), Matrix(3, 1), Matrix(5, 2)
    found = [[], [], []]
    texts = [passes([path], 1, found[at]) for at, path in enumerate(
        [(second, last), (first, last), (second, last)])]
    run_step(texts)
    assert (first.batches, second.batches, last.batches) == ([[1]], [[1, 1]], [[3, 2, 3]])
    assert found == [[15], [10], [15]]


def test_an_error_of_a_product_reaches_all_that_wait_for_it():
    good, bad, seen = Matrix(2), Matrix(3, 1), []
    bad.fails = True

    def run():
        getcurrent().wait_for_step()
        try:
            bad.shared(torch.ones(1, 1))
        except OSError as error:
            seen.append(str(error))

    fine = []
    run_step([begin(run), begin(run), passes([(good,)], 1, fine)])
    assert seen == ["unplugged"] * 2 and fine == [2] and len(bad.batches) == 1


def test_products_outside_of_texts_are_plain():
    matrix = Matrix(2)
    assert matrix.shared(torch.ones(1, 1)).item() == 2


def test_random_numbers_of_a_text_are_its_own():
    def draw(seed, into):
        def run():
            torch.manual_seed(seed)
            for _ in range(3):
                getcurrent().wait_for_step()
                getcurrent().end_pass()
                into.append(torch.rand(()).item())

        return begin(run)

    alone, a, b = [], [], []
    for texts in ([draw(5, alone)], [draw(5, a), draw(6, b)]):
        for _ in range(3):
            run_step(texts)
    assert a == alone and len(set(a + b)) == 6


@pytest.mark.parametrize("rows", [[1], [1, 1, 1], [64, 1, 1, 3], [7, 5]])
def test_shares_of_a_cost(rows):
    cost = Cost(Stats(1000, 17, 3, 501, 4008, 2, 1), 3.0)
    parts = shares(cost, rows)
    assert sum((part.stats for part in parts), Stats()) == cost.stats
    assert sum(part.seconds for part in parts) == pytest.approx(3.0)
    for part, count in zip(parts, rows, strict=True):
        assert abs(part.stats.cycles - 1000 * count / sum(rows)) <= 1
