"""Depths of matrices by a budget of bits."""

from itertools import product

import numpy as np
import pytest

from tritstream.golden.matrix import dequantize
from tritstream.golden.packed.layout import Layout
from tritstream.golden.quantize import quantize
from tritstream.golden.quantizers.depth_budget import DEPTHS, Losses, choose_depths, measure
from tritstream.golden.quantizers.direct import search_direct
from tritstream.golden.quantizers.error_feedback import feed_back
from tritstream.golden.quantizers.grouping import GROUPING, Grouping
from tritstream.golden.quantizers.moments import Moment, write_moments
from tritstream.golden.quantizers.registry import method_of

from support.golden_helpers import message

F = np.float32


def losses_of(shape, losses, grouping=GROUPING):
    layout = Layout.of(grouping, shape[1])
    return Losses(shape, losses, tuple(layout.size(shape, depth) for depth in DEPTHS))


def drawn(count, seed):
    """Losses that fall, convex or not, of matrices of several shapes."""
    rng = np.random.default_rng(seed)
    shapes = [(40, 64), (80, 32), (20, 320)]
    return {f"m{i}": losses_of(shapes[i % 3],
                               tuple(np.sort(rng.random(4) * 10.0 ** rng.integers(-2, 2))[::-1]))
            for i in range(count)}


def totals(losses, depths):
    weights = sum(int(np.prod(one.shape)) for one in losses.values())
    bits = sum(one.bits(depths[name]) for name, one in losses.items())
    return bits / weights, sum(one.losses[depths[name] - 1] for name, one in losses.items())


@pytest.mark.parametrize("seed", range(6))
def test_about_as_good_as_the_best_of_all_choices(seed):
    losses = drawn(5, seed)
    for budget in (3.0, 4.0, 5.0, 6.0):
        bits, found = totals(losses, choose_depths(losses, budget))
        assert bits <= budget
        choices = (dict(zip(losses, depths, strict=True))
                   for depths in product(range(1, 5), repeat=5))
        best = {}
        for choice in choices:
            needed, loss = totals(losses, choice)
            if needed <= budget:
                best[loss] = needed
        # Greedy steps are best but for the last one: at most one step of one matrix is lost.
        worst_step = max(one.losses[0] - one.losses[3] for one in losses.values())
        assert min(best) <= found + 1e-12 and found <= min(best) + worst_step


def test_the_matrix_that_gains_most_goes_first():
    losses = {"a": losses_of((50, 64), (8.0, 4.0, 2.0, 1.0)),
              "b": losses_of((50, 64), (1.0, 0.5, 0.25, 0.125))}
    one_more = (losses["a"].bits(2) + losses["b"].bits(1)) / 6400
    assert choose_depths(losses, one_more) == {"a": 2, "b": 1}
    assert choose_depths(losses, one_more - 0.01) == {"a": 1, "b": 1}
    assert choose_depths(losses, 99) == {"a": 4, "b": 4}


def test_a_depth_that_gains_nothing_is_passed_over_or_left():
    losses = {"a": losses_of((50, 64), (8.0, 9.0, 2.0, 2.0)), "b": losses_of((50, 64), (0.0,) * 4)}
    assert choose_depths(losses, 99) == {"a": 3, "b": 1}


def test_too_small_a_budget():
    with pytest.raises(ValueError, match=message(
            "budget must be at least 2.170 bits per weight, which is depth 1 everywhere, not 2")):
        choose_depths({"a": losses_of((50, 64), (1.0, 1.0, 1.0, 1.0))}, 2)


@pytest.mark.parametrize("rows", [70, 1000])
def test_losses_without_a_calibration(rows):
    weights = np.random.default_rng(1).standard_normal((rows, 48)).astype(F)
    found = measure(weights, method_of("tritllm-v2"), "x.weight")
    for depth, loss in enumerate(found, 1):
        errors = dequantize(quantize(weights, depth)) - weights
        expected = (errors ** 2).sum() / (weights ** 2).sum() * weights.size
        assert loss == pytest.approx(expected, rel=1e-5 if rows == 70 else 0.15)
    assert len(found) == 4 and list(found) == sorted(found, reverse=True)


def test_losses_and_sizes_of_long_groups_with_direct_scales():
    weights = np.random.default_rng(1).standard_normal((70, 48)).astype(F)
    method = method_of("search", grouping=Grouping(32, "direct"))
    for depth, loss in enumerate(measure(weights, method, "x.weight"), 1):
        errors = dequantize(search_direct(weights, depth, 32)) - weights
        expected = (errors ** 2).sum() / (weights ** 2).sum() * weights.size
        assert loss == pytest.approx(expected, rel=1e-5)
    found = losses_of((70, 48), (4.0, 3.0, 2.0, 1.0), method.grouping)
    # 14 row tiles of 48 bytes per trit, and 2 scales of 16 bits per row.
    assert [found.bits(depth) for depth in DEPTHS] == [
        8 * (14 * 48 * depth + 70 * 2 * 2) for depth in DEPTHS]


def test_losses_with_a_calibration(tmp_path):
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((90, 48)).astype(F)
    inputs = rng.standard_normal((100, 48))
    moment = Moment((inputs.T @ inputs / 100).astype(F), np.linspace(0.5, 1.5, 90, dtype=F))
    write_moments(tmp_path / "m.safetensors", {"x": moment}, {})
    method = method_of("search", calibration=tmp_path / "m.safetensors")
    found = measure(weights, method, "x.weight")
    for depth, loss in enumerate(found, 1):
        errors = dequantize(feed_back(weights, depth, moment)) - weights
        assert loss == pytest.approx(moment.loss(errors), rel=1e-5)
