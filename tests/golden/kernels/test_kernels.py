"""Engines give the same bits, whatever the weights; the plain one is pinned by test_golden_*."""

import ctypes

import numba
import numpy as np
import pytest

from tritstream.golden.groups import take_groups
from tritstream.golden.kernels import (
    ENGINES,
    default_engine,
    load,
)
from tritstream.golden.kernels import (
    numba_engine as fast,
)
from tritstream.golden.kernels import (
    numba_jit as jit,
)
from tritstream.golden.kernels.bitonic import upper_half
from tritstream.golden.kernels.numpy_engine import CANDIDATES
from tritstream.golden.packed.matrix_packer import Packing
from tritstream.golden.packed.report import zero_share
from tritstream.golden.quantize import quantize
from tritstream.golden.tiles import pack

from support.golden_helpers import message, run_python
from support.hostile import GROUPS

F = np.float32
HALF = {1: 1, 2: 4, 3: 13, 4: 40}
PLAIN, FAST = load("numpy"), load("numba")


def tables(groups):
    """Scale tables around the magnitudes of groups: even, uneven and out of order."""
    magnitudes = np.abs(groups)[groups != 0]
    low, high = (magnitudes.min(), magnitudes.max()) if magnitudes.size else (F(1), F(1))
    even = np.exp(np.linspace(np.log(np.float64(low)), np.log(np.float64(high)), 27))
    even = np.maximum(even.astype(F), F(1e-45))
    yield even
    yield np.random.default_rng(1).permutation(even)
    yield np.full(27, high)


def same(found, wanted):
    found, wanted = (each if isinstance(each, tuple) else (each,) for each in (found, wanted))
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        assert mine.tobytes() == theirs.tobytes()


def both(name, *arguments):
    """Return the result of all engines, which must be equal."""
    wanted = getattr(PLAIN, name)(*arguments)
    same(getattr(FAST, name)(*arguments), wanted)
    return wanted


@pytest.mark.parametrize("half", HALF.values())
@pytest.mark.parametrize("name", GROUPS)
def test_same_scales_and_levels(name, half):
    groups = GROUPS[name]
    scales = both("choose_scales", groups, half)
    assert all(scale in np.abs(group) for scale, group in zip(scales, groups, strict=True))
    q = both("find_levels", groups, scales, half)
    assert np.abs(q).max() <= half
    both("count_levels", q, half)


@pytest.mark.parametrize("half", HALF.values())
@pytest.mark.parametrize("name", GROUPS)
def test_same_best_codes(name, half):
    groups = GROUPS[name]
    importance = np.random.default_rng(0).random((5, 16)).astype(F) ** 8
    importance[2] = 0
    for table in tables(groups):
        for weights in (None, importance, np.ones((1, 16), F)):
            codes, _ = both("best_codes", groups, table, half, weights)
        q = both("find_levels", groups, table[codes], half)
        with np.errstate(over="ignore"):
            values = table[:, None] * np.arange(-half, half + 1, dtype=F) / F(half)
        both("square_sums", groups, q, codes, values)


@pytest.mark.parametrize("half", HALF.values())
@pytest.mark.parametrize("name", GROUPS)
def test_same_errors_and_sums_at_scales_of_their_own(name, half):
    groups = GROUPS[name]
    shares = np.array([0, 1e-3, 0.3, 0.99, 1, 1.1], np.float64)
    scales = np.minimum(np.abs(groups).max(axis=1)[:, None] * shares, F(3e38)).astype(F)
    errors = both("own_errors", groups, scales, half)
    for index in range(len(shares)):
        one = np.repeat(scales[:, index:index + 1], 2, axis=1)
        same(both("own_errors", groups, one, half)[:, 0].copy(), errors[:, index].copy())
        both("level_sums", groups, scales[:, index].copy(), half)


@pytest.mark.parametrize("half", HALF.values())
def test_errors_and_sums_by_hand(half):
    groups, scales = GROUPS["gaussian"][:9], np.abs(GROUPS["heavy tails"][:9, :2]) + F(0.5)
    q = PLAIN.find_levels(groups, scales[:, 1], half).astype(F)
    errors = PLAIN.own_errors(groups, scales, half)[:, 1]
    exact = ((groups - scales[:, 1:] * q / F(half)).astype(np.float64) ** 2).sum(axis=1)
    np.testing.assert_allclose(errors, exact, rtol=1e-5, atol=1e-6)
    products, squares = PLAIN.level_sums(groups, scales[:, 1].copy(), half)
    np.testing.assert_allclose(products, (groups.astype(np.float64) * q).sum(axis=1), rtol=1e-6)
    assert (squares == (q * q).sum(axis=1)).all()


@pytest.mark.parametrize("half", HALF.values())
def test_best_code_by_trying_all(half):
    groups = GROUPS["gaussian"][:40]
    table = next(tables(groups))
    importance = np.random.default_rng(2).random((3, 16)).astype(F)
    codes, errors = PLAIN.best_codes(groups, table, half, importance)
    for g, group in enumerate(groups.tolist()):
        sums = []
        for scale in table:
            total = F(0)
            for w, weight in zip(group, importance[g % 3], strict=True):
                q = F(round(float(min(F(abs(w)) / scale, F(1)) * F(half))))
                t = F(abs(w)) - scale * q / F(half)
                total = total + weight * (t * t)
            sums.append(total)
        assert codes[g] == sums.index(min(sums))
        assert errors[g] == min(sums)


def test_ties_go_to_the_lower_code():
    groups = np.full((3, 16), F(2))
    table = np.full(27, F(3))
    table[[5, 9]] = 2
    codes, errors = both("best_codes", groups, table, 1)
    assert (codes.tolist(), errors.tolist()) == ([5] * 3, [0.0] * 3)


def test_errors_that_overflow_take_code_0():
    groups = np.full((1, 16), F(3e38))
    codes, errors = both("best_codes", groups, np.full(27, F(1e-3)), 4)
    assert (codes[0], errors[0]) == (0, np.inf)


def test_importance_repeats_over_rows():
    groups = GROUPS["gaussian"][:12]
    importance = np.random.default_rng(3).random((4, 16)).astype(F)
    table = next(tables(groups))
    same(FAST.best_codes(groups, table, 4, importance),
         PLAIN.best_codes(groups, table, 4, np.tile(importance, (3, 1))))


@pytest.mark.parametrize("edges", [[], [0.5], np.geomspace(1e-3, 3, 26)])
def test_same_codes_of_scales(edges):
    edges = np.array(edges, np.float64)
    scales = np.abs(np.random.default_rng(4).standard_normal((7, 31))).astype(F)
    scales[0, :len(edges)] = edges[:31]     # rounded: on an edge, or next to it
    scales[1, :3] = 0, 1e-45, 3e38
    codes = both("find_codes", scales, edges)
    assert codes[3, 3] == sum(edges < np.float64(scales[3, 3]))


def test_the_upper_half_is_sorted():
    rng = np.random.default_rng(5)
    for numbers in (*rng.integers(0, 3, (200, 16)), *rng.random((200, 16)).argsort(axis=1)):
        assert list(upper_half.py_func(*numbers.tolist())) == sorted(numbers)[8:]
    assert CANDIDATES == (10, 12, 14, 15)


@pytest.mark.parametrize("depth", HALF)
@pytest.mark.parametrize("shape", [(1, 1), (5, 16), (7, 47), (33, 320), (260, 2064)])
def test_same_matrix_tiles_and_report(shape, depth):
    weights = np.random.default_rng(6).standard_normal(shape).astype(F)
    weights.flat[::7] *= F(1e-44)
    plain, fast = quantize(weights, depth), quantize(weights, depth, engine="numba")
    for name in ("q", "codes", "table"):
        same(getattr(fast, name), getattr(plain, name))
    same(pack(fast, "numba"), pack(plain))
    reports = []
    for engine, matrix in (("numpy", plain), ("numba", fast)):
        packing = Packing(matrix, weights, engine)
        same(np.concatenate(list(packing.pieces())), pack(plain))
        reports.append(packing.report("x"))
    assert reports[0] == reports[1]
    assert reports[0].zero_share == zero_share(plain, "numpy") == zero_share(fast, "numba")


def test_multiplication_and_addition_are_not_fused():
    groups, codes, errors = np.ones((300, 16), F), np.empty(300, np.uint8), np.empty(300, F)
    # Compiled again, because code from the disk cannot be inspected.
    kernel = numba.njit(fast._best_codes.py_func, **jit.OPTIONS)
    kernel(groups, np.ones(27, F), F(13), groups, codes, errors)
    for code in kernel.inspect_asm().values():
        assert "div" in code and "mul" in code
        assert not any(fused in code for fused in ("fmadd", "fmsub", "fnmadd", "fmla"))


def test_groups_of_rows():
    weights = np.arange(40, dtype=np.float64).reshape(2, 20)
    groups = take_groups(weights, slice(1, 2))
    assert groups.dtype == F
    assert groups.tolist() == [list(range(20, 36)), [36, 37, 38, 39, *[0] * 12]]


def test_engines_by_name():
    assert list(ENGINES) == ["numpy", "numba"]
    assert load() is load(default_engine()) is FAST
    with pytest.raises(ValueError, match=message("engine must be one of numpy, numba, not cuda")):
        load("cuda")


#: Without numba: argv[1] is the matrix to write the tiles of.
WITHOUT = """
import importlib.util, sys
import numpy as np
real = importlib.util.find_spec
sys.modules["numba"] = None
importlib.util.find_spec = lambda name, *rest: None if name == "numba" else real(name, *rest)
import tritstream.golden.kernels
from tritstream.golden.packed.matrix_packer import Packing
from tritstream.golden.quantize import quantize
from tritstream.golden.tiles import pack
assert tritstream.golden.kernels.default_engine() == "numpy"
matrix = quantize(np.load(sys.argv[1]), 3, engine=None)
np.save(sys.argv[1], pack(matrix, None))
try:
    tritstream.golden.kernels.load("numba")
except ValueError as error:
    print(error)
"""


def test_without_numba(tmp_path):
    weights = np.random.default_rng(7).standard_normal((40, 80)).astype(F)
    np.save(tmp_path / "x.npy", weights)
    done = run_python(WITHOUT, tmp_path / "x.npy")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "engine numba needs the package numba; run pip install 'tritstream[fast]', or take engine "
        "numpy: the bytes are the same\n")
    same(np.load(tmp_path / "x.npy"), pack(quantize(weights, 3, engine="numba"), "numba"))


def test_compiled_code_that_cannot_be_kept(monkeypatch):
    real = numba.njit

    def refuse(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(function, **options)

    monkeypatch.setattr(jit, "njit", refuse)
    monkeypatch.setattr(jit.config, "CACHE_DIR", "")
    assert jit.compiled(lambda a: a + 1)(2) == 3


def test_compiled_code_is_kept_in_the_cache_where_numba_has_no_place(monkeypatch, tmp_path):
    real = numba.njit

    def refuse(function, cache=False, **options):
        if cache and not jit.config.CACHE_DIR:
            raise RuntimeError("cannot cache function: no locator available")
        return real(function, cache=cache, **options)

    monkeypatch.setenv("TRITSTREAM_CACHE", str(tmp_path))
    monkeypatch.setattr(jit.config, "CACHE_DIR", "")
    monkeypatch.setattr(jit, "njit", refuse)
    assert jit.compiled(_double)(2) == 4
    assert [path.suffix for path in sorted((tmp_path / "numba").rglob("*.nb?"))] == [".nbc", ".nbi"]


def test_a_function_for_c_is_kept_in_the_same_places(monkeypatch, tmp_path):
    real, refused = jit.CFunc.enable_caching, []

    def refuse(function):
        refused.append(jit.config.CACHE_DIR)
        if not jit.config.CACHE_DIR or len(refused) <= 2:
            raise RuntimeError("cannot cache function: no locator available")
        real(function)

    monkeypatch.setenv("TRITSTREAM_CACHE", str(tmp_path))
    monkeypatch.setattr(jit.config, "CACHE_DIR", "")
    monkeypatch.setattr(jit.CFunc, "enable_caching", refuse)
    for hits, files in ((0, 0), (0, 2), (1, 2)):
        made = jit.compiled_for_c(_double_there, numba.types.CPointer(numba.types.int64))
        values = np.array([21], np.int64)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(made.address)(values.ctypes.data)
        assert (values[0], made.cache_hits) == (42, hits)
        assert len([*tmp_path.rglob("*.nb?")]) == files
    assert refused[:2] == ["", str(tmp_path / "numba")]


def _double(x):
    return 2 * x


def _double_there(pointer):
    pointer[0] *= 2
