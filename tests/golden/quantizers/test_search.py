"""The method `search`: the best of 27 codes, and a table fitted to the matrix."""

import numpy as np
import pytest

from tritstream.golden.kernels import load
from tritstream.golden.matrix import TritMatrix, dequantize, whole
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.verify import verify
from tritstream.golden.quantize import quantize
from tritstream.golden.quantizers.registry import method_of
from tritstream.golden.quantizers.sample import Sample, take_sample
from tritstream.golden.quantizers.search import search
from tritstream.golden.quantizers.table_fit import fit_table

from support.golden_helpers import contents, make_checkpoint, message
from support.hostile import GROUPS

F = np.float32
HALF = {1: 1, 2: 4, 3: 13, 4: 40}
PLAIN, FAST = load("numpy"), load("numba")


def squared_error(matrix, weights):
    return ((dequantize(matrix).astype(np.float64) - weights) ** 2).sum()


def matrices():
    rng = np.random.default_rng(0)
    yield "gaussian", rng.standard_normal((60, 320)).astype(F)
    yield "heavy tails", (rng.standard_normal((60, 320)) ** 3).astype(F)
    yield "one outlier", np.where(np.arange(6400).reshape(40, 160) == 99, F(50),
                                  rng.standard_normal((40, 160)).astype(F))
    yield "rows unlike", (rng.standard_normal((40, 160)) * np.geomspace(1e-3, 1, 40)[:, None]
                          ).astype(F)
    yield "odd sizes", rng.standard_normal((7, 37)).astype(F)
    yield "one weight", np.full((1, 1), F(-3))
    yield "zeros", np.zeros((5, 32), F)
    yield "mostly zeros", np.where(rng.random((50, 160)) < 0.9, F(0),
                                   rng.standard_normal((50, 160)).astype(F))


@pytest.mark.parametrize("depth", HALF)
@pytest.mark.parametrize("name, weights", list(matrices()), ids=[name for name, _ in matrices()])
def test_never_worse_than_the_profile_it_betters(name, weights, depth):
    found = whole(search(weights, depth))
    assert squared_error(found, weights) <= squared_error(quantize(weights, depth), weights)
    fast = whole(search(weights, depth, engine="numba"))
    for one in ("q", "codes", "table"):
        assert getattr(fast, one).tobytes() == getattr(found, one).tobytes()


@pytest.mark.parametrize("depth, decibels", [(2, 0.3), (3, 0.7), (4, 4)])
def test_gain_on_weights_of_many_scales(depth, decibels):
    # As real matrices gain: most at d = 4, where the coded scale is most of the error.
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((256, 64, 16)) * np.exp(0.7 * rng.standard_normal((256, 64, 1)))
    weights = weights.reshape(256, 1024).astype(F)
    before = squared_error(quantize(weights, depth, engine=None), weights)
    after = squared_error(whole(search(weights, depth, engine=None)), weights)
    assert 10 * np.log10(before / after) > decibels


def test_the_usual_codes_where_no_better_are_found(monkeypatch):
    weights = np.random.default_rng(2).standard_normal((20, 64)).astype(F)
    monkeypatch.setattr(
        "tritstream.golden.quantizers.search.fit_tables", lambda *_: [np.full(27, F(1e-3))])
    found, usual = whole(search(weights, 3)), quantize(weights, 3)
    assert (found.q == usual.q).all() and (found.table == usual.table).all()


def test_weights_that_are_not_finite():
    weights = np.ones((3, 20), F)
    weights[2, 17] = np.inf
    with pytest.raises(ValueError, match=message(
            "x.weight must be finite, not inf at row 2, column 17")):
        search(weights, 2, "x.weight")


def test_sample_has_the_heaviest_groups_and_others_for_their_like():
    weights = np.random.default_rng(3).standard_normal((1000, 320)).astype(F)
    weights[:50] *= 100
    weights[900:] = 0
    sample = take_sample(weights)
    shares = sample.importance[:, 0]
    assert len(sample.groups) == 1000 + 17000 // 3 + 1
    assert (shares == 1).sum() == 1000 == (np.abs(sample.groups).max(axis=1) > 10).sum()
    assert shares.sum() == pytest.approx(900 * 20, rel=1e-3)
    columns = np.linspace(0, 2, 320, dtype=F)
    results = np.linspace(1, 3, 1000, dtype=F)
    weighed = take_sample(weights[:30], columns, results[:30])
    np.testing.assert_allclose(
        weighed.importance.reshape(30, 320), columns * results[:30, None], rtol=1e-6)


def test_sample_of_equally_heavy_groups_has_the_first_of_them():
    weights = np.random.default_rng(3).integers(-1, 2, (1000, 320)).astype(F)
    weights[7, :16] = 3e38
    groups = weights.reshape(-1, 16)
    with np.errstate(over="ignore"):
        heaviness = (groups * groups).sum(axis=1)
    order = np.argsort(-heaviness, kind="stable")[:np.count_nonzero(heaviness)]
    wanted = np.sort(np.concatenate([order[:1000], order[1000::3]]))
    assert order[0] == 7 * 20 and np.unique(heaviness).size < 20
    assert (take_sample(weights).groups == groups[wanted]).all()


def test_groups_of_few_scales_are_fitted_exactly():
    # Each group has one of 27 scales, which are on the grid or between two points of the grid.
    rng = np.random.default_rng(4)
    scales = np.geomspace(0.1, 1.6, 27).astype(F)
    q = rng.integers(-13, 14, (2000, 16))
    q[:, 0] = 13
    groups = (scales[rng.integers(0, 27, 2000)][:, None] * q / F(13)).astype(F)
    table = fit_table(Sample(groups, np.ones_like(groups)), 13, PLAIN)
    assert (np.diff(table) >= 0).all()
    np.testing.assert_allclose(table, scales, rtol=0.03)


def test_table_of_no_groups():
    empty = np.empty((0, 16), F)
    assert (fit_table(Sample(empty, empty), 4, PLAIN) == 1).all()


@pytest.mark.parametrize("half", HALF.values())
@pytest.mark.parametrize("name", GROUPS)
def test_same_errors_on_a_grid(name, half):
    groups = GROUPS[name]
    importance = np.random.default_rng(5).random(groups.shape).astype(F)
    grid = np.geomspace(1e-3, 5, 9).astype(F)
    with np.errstate(over="ignore"):
        plain = PLAIN.grid_errors(groups, grid, half, importance)
    assert plain.tobytes() == FAST.grid_errors(groups, grid, half, importance).tobytes()
    _, least = PLAIN.best_codes(groups, np.repeat(grid, 3), half, importance)
    assert (plain.min(axis=1)[np.isfinite(least)] == least[np.isfinite(least)]).all()


def test_packed_and_verified(tmp_path):
    make_checkpoint(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, method=method_of("search"))
    pack_checkpoint(tmp_path / "m", tmp_path / "n", 2, method=method_of("search", "numpy"))
    assert contents(tmp_path / "o") == contents(tmp_path / "n")
    assert verify(tmp_path / "o", tmp_path / "m") == []
    pack_checkpoint(tmp_path / "m", tmp_path / "u", 2, method=method_of("tritllm-v2"))
    assert {f.kind for f in verify(tmp_path / "u", tmp_path / "m")} == set()
    assert contents(tmp_path / "u") != contents(tmp_path / "o")


def test_whole_returns_a_complete_matrix_unchanged():
    matrix = quantize(np.ones((2, 16), F), 1)
    assert whole(matrix) is matrix and isinstance(matrix, TritMatrix)
