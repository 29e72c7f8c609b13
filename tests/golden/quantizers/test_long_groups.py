"""The method `search` in groups of any length, with coded and with direct scales."""

import ml_dtypes
import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.golden.kernels import load
from tritstream.golden.matrix import DirectMatrix, TritMatrix, dequantize, whole
from tritstream.golden.quantizers.direct import exact_neighbours
from tritstream.golden.quantizers.grouping import GROUPING, Grouping
from tritstream.golden.quantizers.long_groups import search_coded, search_groups
from tritstream.golden.quantizers.registry import method_of
from tritstream.golden.quantizers.search import search
from tritstream.golden.quantizers.units import own_errors
from tritstream.golden.scales import DirectScales

from support.golden_helpers import message
from support.hostile import GROUPS

F = np.float32
HALF = {1: 1, 2: 4, 3: 13, 4: 40}
RNG = np.random.default_rng(0)
#: Rows of very different sizes, zeros, heavy tails, and 100 columns: no multiple of any group.
HARD = (RNG.standard_normal((40, 100)) ** 3 * np.geomspace(1e-4, 1, 40)[:, None]).astype(F)
HARD[3], HARD[5, :64], HARD[7, 64:] = 0, 0, HARD[7, 64:] * F(1e-5)


def error(matrix, weights):
    return ((dequantize(matrix).astype(np.float64) - weights) ** 2).sum()


def in_groups(weights, depth, group, scales, engine="numpy"):
    return whole(search_groups(weights, depth, grouping=Grouping(group, scales), engine=engine))


def same(found, wanted):
    assert type(found) is type(wanted)
    assert (found.q == wanted.q).all()
    for name in ("codes", "table") if isinstance(found, TritMatrix) else ("scales",):
        mine, theirs = getattr(found, name), getattr(wanted, name)
        if isinstance(mine, DirectScales):
            mine, theirs = mine.stored, theirs.stored
        assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("depth", HALF)
@pytest.mark.parametrize("scales", ["coded", "direct"])
@pytest.mark.parametrize("group", [16, 48, 64, 512])
def test_engines_give_the_same_bytes(group, scales, depth):
    for weights in (HARD, HARD.astype(ml_dtypes.bfloat16)):
        found = in_groups(weights, depth, group, scales)
        assert found.group == min(group, 112)
        same(in_groups(weights, depth, group, scales, "numba"), found)


@pytest.mark.parametrize("depth", HALF)
@pytest.mark.parametrize("name", ["gaussian", "heavy tails", "ties", "sparse", "zeros",
                                  "negative zeros", "one weight", "subnormal"])
def test_engines_give_the_same_bytes_of_hostile_groups(name, depth):
    groups = GROUPS[name]
    weights = np.resize(groups, (-(-len(groups) // 3), 48))
    for scales in ("coded", "direct"):
        same(in_groups(weights, depth, 32, scales, "numba"), in_groups(weights, depth, 32, scales))


@pytest.mark.parametrize("depth", HALF)
def test_groups_of_16_with_coded_scales_are_those_of_search(depth):
    same(in_groups(HARD, depth, 16, "coded"), whole(search(HARD, depth)))
    narrow = HARD[:, :16]
    same(in_groups(narrow, depth, 64, "coded"), whole(search(narrow, depth)))


@pytest.mark.parametrize("depth", HALF)
@pytest.mark.parametrize("group", [16, 64, 112])
def test_a_direct_scale_is_nearly_the_best_of_all(group, depth):
    """Against 2000 scales per group, evenly spread in logarithm."""
    weights = np.random.default_rng(1).standard_t(4, (30, 112)).astype(F)
    padded = np.zeros((30, group * -(-112 // group)), F)
    padded[:, :112] = weights
    groups = padded.reshape(-1, group)
    tried = np.abs(groups).max(axis=1)[:, None] * np.geomspace(0.1, 1.2, 2000, dtype=F)
    best = own_errors(groups, tried, HALF[depth], load("numba")).min(axis=1).sum()
    found = in_groups(weights, depth, group, "direct", "numba")
    assert error(found, weights) < (1.04 if depth == 4 else 1.02) * best


@pytest.mark.parametrize("scales", ["coded", "direct"])
@pytest.mark.parametrize("depth", HALF)
def test_no_other_scale_of_the_device_is_better_for_the_integers(scales, depth):
    """The integers are the nearest ones, and a coded group has the best of the 27 scales."""
    weights = RNG.standard_normal((20, 96)).astype(F)
    matrix = in_groups(weights, depth, 32, scales)
    half, own = HALF[depth], matrix.scales.values(slice(None))
    ratio = np.clip(weights.reshape(20, 3, 32) / own[..., None], -1, 1) * F(half)
    assert (np.rint(ratio).reshape(20, 96) == matrix.q).all()
    if scales == "coded":
        everything = np.broadcast_to(matrix.table, (60, 27))
        errors = own_errors(weights.reshape(60, 32), everything, half, load("numpy"))
        assert (errors.argmin(axis=1).reshape(20, 3) == matrix.codes).all()


@pytest.mark.parametrize("depth", HALF)
@pytest.mark.parametrize("group", [16, 32, 112])
def test_a_device_has_every_direct_scale(group, depth):
    """Also in rows whose groups differ by a factor of a million."""
    matrix = in_groups(HARD, depth, group, "direct")
    found = matrix.scales.exactness
    assert (found.rows, found.groups, found.error) == (0, 0, 0.0)
    assert matrix.scales.stored.dtype == np.float16
    assert not matrix.scales.stored[3].any() and not matrix.q[3].any()
    x = np.random.default_rng(2).integers(-128, 128, 100).astype(np.int8)
    products = gemv(matrix, x) * matrix.scales.units / HALF[depth]
    np.testing.assert_allclose(products, dequantize(matrix).astype(np.float64) @ x, rtol=1e-4,
                               atol=1e-4)


def test_neighbours_by_hand():
    """1.0 has 2^-10 as its last place, and its row has multiples of 2^-15."""
    scales = np.array([[1.0, 0.3, 2 ** -7 + 2 ** -20, 2 ** -17, 0.0], [0, 0, 0, 0, 0]], F)
    found = exact_neighbours(scales)
    assert found[0].tolist() == [
        [1.0, 1.0], [1228 / 4096, 1229 / 4096], [2 ** -7, 2 ** -7 + 2 ** -15], [0, 2 ** -15],
        [0, 0]]
    assert not found[1].any()


def test_neighbours_are_exact_and_next_to_the_scale():
    scales = (np.random.default_rng(3).random((500, 6)) ** 4).astype(F)
    scales[:100] = F(1) - scales[:100] * F(2 ** -12)    # rounded up to a power of two
    found = exact_neighbours(scales)
    assert (found[..., 0] <= scales).all() and (scales <= found[..., 1]).all()
    for side in (0, 1):
        stored = found[..., side].astype(np.float16)
        assert (stored.astype(F) == found[..., side]).all()
        assert DirectScales(stored, 500).exactness.groups == 0
    rounded = scales.astype(np.float16).astype(F)
    near = (scales > scales.max(axis=1, keepdims=True) / 16)
    assert ((rounded == found[..., 0]) | (rounded == found[..., 1]))[near].all()


def test_a_scale_beyond_float16():
    weights = np.ones((50, 64), F)
    weights[41, 40] = 1e6
    with pytest.raises(ValueError, match=message(
            "x.weight needs a scale of 1e+06 in row 41, and float16 holds 65504 at most; use "
            "coded scales, or keep the matrix unquantized")):
        search_groups(weights, 3, "x.weight", grouping=Grouping(64, "direct"))
    assert error(in_groups(weights, 3, 64, "coded"), weights) < 200
    with pytest.raises(ValueError, match="needs a scale of"):
        search_groups(np.full((2, 32), F(3e38)), 1, grouping=Grouping(32, "direct"))


@pytest.mark.parametrize("scales", ["coded", "direct"])
def test_weights_that_are_not_finite(scales):
    weights = np.ones((3, 40), F)
    weights[2, 37] = np.nan
    with pytest.raises(ValueError, match=message(
            "x.weight must be finite, not nan at row 2, column 37")):
        search_groups(weights, 2, "x.weight", grouping=Grouping(32, scales))
    with pytest.raises(ValueError, match=message(
            "x.weight must be a matrix with rows and columns, not (3,)")):
        search_groups(np.ones(3, F), 2, "x.weight", grouping=Grouping(32, scales))
    with pytest.raises(ValueError, match=r"^depth must be 1\.\.4, not 5$"):
        search_groups(np.ones((3, 3), F), 5, grouping=Grouping(32, scales))


@pytest.mark.parametrize("factor", [1e-38, 1e36])
def test_coded_groups_of_any_size(factor):
    weights = RNG.standard_normal((30, 64)).astype(F)
    usual = search_coded(weights, 3, 32)
    other = search_coded((weights * F(factor)).astype(F), 3, 32)
    with np.errstate(under="ignore"):
        errors = (dequantize(other).astype(np.float64) / factor - weights) ** 2
    assert errors.sum() < 1.1 * error(usual, weights)


def test_longer_groups_never_gain_and_direct_scales_never_lose():
    """On weights of one size, so that a longer group has nothing to adapt to."""
    weights = np.random.default_rng(5).standard_normal((200, 512)).astype(F)
    for depth in HALF:
        errors = {(scales, group): error(in_groups(weights, depth, group, scales, "numba"), weights)
                  for scales in ("coded", "direct") for group in (16, 32, 64, 128, 256)}
        for scales in ("coded", "direct"):
            row = [errors[scales, group] for group in (16, 32, 64, 128, 256)]
            assert row == sorted(row)
        for group in (16, 32, 64, 128, 256):
            assert errors["direct", group] <= errors["coded", group]


def test_rows_that_are_read_at_a_time_do_not_matter(monkeypatch):
    wanted = [in_groups(HARD, 3, 32, scales) for scales in ("coded", "direct")]
    monkeypatch.setattr("tritstream.golden.row_chunks._ELEMENTS", 2000)
    monkeypatch.setattr("tritstream.golden.quantizers.units._VALUES", 5000)
    for matrix in wanted:
        same(in_groups(HARD, 3, 32, "direct" if isinstance(matrix, DirectMatrix) else "coded"),
             matrix)


def test_lengths_and_settings():
    assert Grouping() == GROUPING and GROUPING.settings() == {}
    assert Grouping(128, "direct").settings() == {"group": 128, "scales": "direct"}
    assert [Grouping(128).length(columns) for columns in (1, 17, 128, 5000)] == [16, 32, 128, 128]


@pytest.mark.parametrize(("group", "scales", "text"), [
    (8, "coded", "group must be a multiple of 16, not 8"),
    (24, "coded", "group must be a multiple of 16, not 24"),
    (0, "coded", "group must be a multiple of 16, not 0"),
    ("32", "coded", "group must be a multiple of 16, not '32'"),
    (True, "coded", "group must be a multiple of 16, not True"),
    (32, "inverse", "scales must be coded or direct, not 'inverse'"),
])
def test_other_groups_and_scales(group, scales, text):
    with pytest.raises(ValueError, match=message(text)):
        Grouping(group, scales)


def test_methods_that_have_some_groups_only(tmp_path):
    for grouping in (Grouping(32), Grouping(16, "direct")):
        with pytest.raises(ValueError, match=message(
                "method tritllm-v2 supports groups of 16 with coded scales only; use method search "
                f"for {grouping.scales} scales in groups of {grouping.group}")):
            method_of("tritllm-v2", grouping=grouping)
    for grouping in (Grouping(48), Grouping(256), Grouping(16, "direct")):
        with pytest.raises(ValueError, match=message(
                "a calibration supports coded scales in groups of 16, 32, 64, 128; quantize "
                f"without one for {grouping.scales} scales in groups of {grouping.group}")):
            method_of("search", calibration=tmp_path / "none", grouping=grouping)
