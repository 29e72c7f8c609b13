"""The method `search` on matrices with tiny, huge and very different groups, and their reports."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from tritstream.golden.fixed_point import GROUP, TABLE_RATIO_WARNING, mantissas, table_ratio
from tritstream.golden.groups import ShiftedRows, take_groups
from tritstream.golden.matrix import dequantize, whole
from tritstream.golden.packed.group_errors import GroupErrors
from tritstream.golden.packed.matrix_packer import Packing
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.quantize import device_values, quantize
from tritstream.golden.quantizers.registry import METHODS, method_of
from tritstream.golden.quantizers.search import search

from support.golden_helpers import message, write_json

F = np.float32
#: Squared error of normally distributed weights at d = 3, and of a group of them.
NORMAL, NORMAL_GROUP = 1.9e-3, 1.8e-3


def normal(sigma=0.02, shape=(384, 128)):
    return np.random.default_rng(0).normal(0, sigma, shape).astype(F)


def with_rows(factors):
    return (normal() * np.asarray(factors)[:, None]).astype(F)


def tiny(count, value):
    weights, rng = normal(), np.random.default_rng(1)
    groups = weights.reshape(-1, GROUP)
    groups[rng.choice(len(groups), count, replace=False)] = value
    return weights


def huge(count, low, high, sigma=0.02):
    weights, rng = normal(sigma), np.random.default_rng(2)
    weights.flat[rng.choice(weights.size, count, replace=False)] = np.geomspace(low, high, count)
    return weights


def spread(decades):
    return with_rows(10.0 ** np.random.default_rng(3).uniform(-decades / 2, decades / 2, 384))


def on_device(matrix):
    """Weights that a device computes with: float64 (N, Kp)."""
    values = device_values(matrix).astype(np.float64)
    return values[np.repeat(matrix.codes, GROUP, axis=1), matrix.q + matrix.half_range]


def errors(matrix, weights):
    """Relative squared errors in floats and on a device, and the median of a group on a device."""
    weights = weights.astype(np.float64)
    square = (weights ** 2).sum()
    made, computed = dequantize(matrix).astype(np.float64), on_device(matrix)
    groups = ((computed - weights) ** 2).reshape(-1, GROUP).sum(axis=1)
    return (((made - weights) ** 2).sum() / square, groups.sum() / square,
            np.median(groups / (weights ** 2).reshape(-1, GROUP).sum(axis=1)))


#: A matrix, and how much the total and the median may be.
MATRICES = {
    "normal": (normal(), NORMAL, NORMAL_GROUP),
    "a tiny group": (tiny(1, 1e-20), NORMAL, NORMAL_GROUP),
    "many tiny groups": (tiny(60, 1e-20), NORMAL, NORMAL_GROUP),
    "denormal groups": (tiny(60, 1e-42), NORMAL, NORMAL_GROUP),
    "a weight of 3e4": (huge(1, 3e4, 3e4, 0.07), 2e-9, 6e-3),
    "a weight of 3e4 among smaller ones": (huge(1, 3e4, 3e4), 2e-9, 0.07),
    "several huge weights": (huge(10, 10, 1000), 1e-6, 2.5e-3),
    "near-dead rows": (with_rows(np.where(np.arange(384) % 4, 1, 1e-8)), NORMAL, 2.2e-3),
    "rows over six decades": (spread(6), 4e-3, 4e-3),
    "rows over thirty decades": (spread(30), 3e-3, 1),
    "denormal": (with_rows(np.full(384, 1e-38)), NORMAL, NORMAL_GROUP),
    "hardly a number": (with_rows(np.full(384, 1e-42)), 3e-3, 3e-3),
    "beyond squares": (with_rows(np.full(384, 1e37)), NORMAL, NORMAL_GROUP),
    "heavy tails": (np.random.default_rng(4).standard_cauchy((384, 128)).astype(F), 1e-3, 2e-2),
}


@pytest.mark.parametrize("name", MATRICES)
def test_no_group_costs_the_others(name):
    weights, total, median = MATRICES[name]
    matrix = whole(search(weights, 3, engine=None))
    found, usual = errors(matrix, weights), errors(quantize(weights, 3, engine=None), weights)
    assert max(found[:2]) <= max(usual[:2]) and max(found[:2]) < total
    assert found[2] <= median
    if table_ratio(matrix.table) > TABLE_RATIO_WARNING:
        # Then the file has the weights that a device computes with.
        assert mantissas(matrix.table).min() >= 1
        np.testing.assert_allclose(dequantize(matrix), on_device(matrix), rtol=3e-7)


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("name", ["many tiny groups", "a weight of 3e4", "rows over six decades",
                                  "denormal", "beyond squares"])
def test_never_worse_at_other_depths_and_on_both_engines(name, depth):
    weights = MATRICES[name][0]
    matrix = whole(search(weights, depth, engine=None))
    assert max(errors(matrix, weights)[:2]) <= max(
        errors(quantize(weights, depth, engine=None), weights)[:2])
    plain = whole(search(weights, depth))
    for part in ("q", "codes", "table"):
        assert getattr(plain, part).tobytes() == getattr(matrix, part).tobytes()


def test_shifted_rows_are_exact():
    weights = (np.arange(1, 33, dtype=F) * F(1e-45)).reshape(2, 16)
    shifted = take_groups(ShiftedRows(weights, 140), slice(1, 2))
    assert (shifted == weights[1].astype(np.float64) * 2.0 ** 140).all()


def test_median_of_groups():
    rng = np.random.default_rng(5)
    ratios, squares = np.exp(rng.normal(-6, 3, 10001)), np.exp(rng.normal(0, 9, 10001))
    found = GroupErrors.of(ratios * squares, squares)
    for part in np.array_split(np.arange(10001), 7):
        found.add(GroupErrors.of(ratios[part] * squares[part], squares[part]))
    assert found.groups == 20002 and found.vanished == 0
    assert found.median == pytest.approx(np.median(ratios), rel=0.008)
    assert found.median <= np.median(ratios)


def test_median_of_groups_without_errors_or_weights():
    assert GroupErrors().median == 0
    zeros = GroupErrors.of(np.zeros(5), np.array([0.0, 0, 1, 2, 1e-300]))
    assert (zeros.median, zeros.groups) == (0, 3)
    gone = GroupErrors.of(np.array([0.0, 3e-300, 7]), np.array([0.0, 3e-300, 7]))
    assert (gone.median, gone.vanished) == (1, 2)


def report_of(weights, method="search", depth=3):
    matrix = METHODS[method](weights, depth, "x", engine=None)
    packing = Packing(matrix, weights)
    list(packing.pieces())
    return packing.report("a.b", method)


@pytest.mark.parametrize("name", ["normal", "rows over six decades", "beyond squares"])
def test_report_has_the_median_next_to_the_total(name):
    weights = MATRICES[name][0]
    report, matrix = report_of(weights), whole(search(weights, 3, engine=None))
    total, _, median = errors(matrix, weights)
    assert report.error == pytest.approx(total, rel=1e-6)
    assert report.group_error == pytest.approx(median, rel=0.02)
    assert report.record()["group_error"] == report.group_error


def test_a_huge_weight_hides_nothing():
    report = report_of(MATRICES["a weight of 3e4 among smaller ones"][0])
    assert report.error < 1e-8 and report.group_error > 0.01
    line, = report.warnings
    assert line.startswith("half of the groups have a relative squared error above 0.06")
    assert line.endswith("; `tritstream quantize --exclude a.b` leaves the matrix unquantized")


def test_warnings_of_the_profile_name_the_method():
    cure = "; `tritstream quantize --method search` fits the scales to the matrix"
    for name in ("a weight of 3e4", "many tiny groups", "rows over thirty decades"):
        warnings = report_of(MATRICES[name][0], "tritllm-v2").warnings
        assert warnings and all(line.endswith(cure) for line in warnings if "float16" not in line)
    lost, = (line for line in report_of(MATRICES["a weight of 3e4"][0], "tritllm-v2").warnings
             if "mantissa" in line)
    matrix = quantize(MATRICES["a weight of 3e4"][0], 3)
    share = (mantissas(matrix.table) == 0)[matrix.codes].mean()
    assert f"their groups, {share:.1%} of all that are not zero, count as zero" in lost


def test_groups_that_become_zero_are_reported():
    warnings = report_of(MATRICES["rows over thirty decades"][0]).warnings
    assert any("% of the groups become zero, because others are far larger" in line
               for line in warnings)
    assert report_of(MATRICES["a tiny group"][0]).warnings == ()
    assert report_of(MATRICES["normal"][0]).warnings == ()


def test_imported_values_are_exact_whatever_float16_holds():
    weights = np.full((5, 16), 1e5, F)
    matrix = quantize(weights, 1)
    packing = Packing(matrix, None)
    list(packing.pieces())
    assert packing.report("a", "recovered").warnings == ()
    assert len(packing.report("a", "search").warnings) == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_value_beyond_float32_is_said_to_overflow(tmp_path, method):
    weights = np.ones((3, 20))
    weights[1, 17] = 1e300
    with pytest.raises(ValueError, match=message(
            "x must be finite as float32, not 1e+300 at row 1, column 17")):
        METHODS[method](weights, 2, "x")


def test_packed_default_keeps_the_matrix(tmp_path):
    (tmp_path / "m").mkdir()
    write_json(tmp_path / "m" / "config.json", {})
    save_file({"a.weight": tiny(1, 1e-20)}, tmp_path / "m" / "model.safetensors")
    report, = pack_checkpoint(tmp_path / "m", tmp_path / "o", 3).matrices
    assert report.error < NORMAL and report.warnings == ()
    usual, = pack_checkpoint(tmp_path / "m", tmp_path / "u", 3,
                             method=method_of("tritllm-v2")).matrices
    assert usual.error > 0.05
