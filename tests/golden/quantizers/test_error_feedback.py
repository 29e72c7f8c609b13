"""The method `search` with moments: weights that make up for each other's errors."""

import json

import numpy as np
import pytest

from tritstream.golden.errors import CheckpointError
from tritstream.golden.kernels import load
from tritstream.golden.matrix import dequantize, whole
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.golden.quantize import quantize
from tritstream.golden.quantizers.error_feedback import feed_back
from tritstream.golden.quantizers.grouping import Grouping
from tritstream.golden.quantizers.long_groups import search_groups
from tritstream.golden.quantizers.moments import Moment, Moments, write_moments
from tritstream.golden.quantizers.registry import method_of
from tritstream.golden.quantizers.search import search

from support.golden_helpers import contents, linear_names, make_checkpoint, message

F = np.float32
HALF = {1: 1, 2: 4, 3: 13, 4: 40}
PLAIN, FAST = load("numpy"), load("numba")


def moment_of(rows, columns, seed=0, rank=40):
    """Moments of inputs that are alike, and of results of which some count more."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((400, rank)) @ rng.standard_normal((rank, columns))
    inputs *= np.geomspace(0.1, 3, columns)
    results = rng.random(rows) + 0.1
    return Moment((inputs.T @ inputs / 400).astype(F), (results / results.mean()).astype(F))


@pytest.mark.parametrize("half", HALF.values())
@pytest.mark.parametrize("group", [16, 48, 64])
def test_same_bits_by_both_engines(group, half):
    rng = np.random.default_rng(1)
    weights = (rng.standard_normal((group, 333)) * np.geomspace(1e-3, 3, 333)).astype(F)
    targets = weights + rng.standard_normal((group, 333)).astype(F) / 8
    targets[:, 5], targets[:, 9] = 0, F(3e38)
    feedback = np.triu(rng.standard_normal((group, group)), 1).astype(F) / 4
    importance = rng.random(group).astype(F) + F(0.5)
    for table in (np.geomspace(1e-3, 3, 27).astype(F), np.geomspace(1e-44, 1, 27).astype(F)):
        with np.errstate(over="ignore"):
            plain, fast = (kernels.feed_back(weights, targets, feedback, importance, table, half)
                           for kernels in (PLAIN, FAST))
        for one, other in zip(plain, fast, strict=True):
            assert one.dtype == other.dtype and one.tobytes() == other.tobytes()


def test_columns_mend_the_errors_before_them():
    # One code, half range 1, and half of the first error moves the second column.
    feedback = np.zeros((16, 16), F)
    feedback[0, 1] = F(0.5)
    weights = np.zeros((16, 2), F)
    weights[0], weights[1] = [F(0.75), F(1.25)], F(0.375)
    importance, table = np.arange(1, 17, dtype=F), np.full(27, F(1))
    for kernels in (PLAIN, FAST):
        q, codes, errors = kernels.feed_back(weights, weights, feedback, importance, table, 1)
        # 0.75 becomes 1, error -0.25: 0.375 - 0.125 becomes 0. 1.25 becomes 1, error 0.25: 0.375 +
        # 0.125 is a half and goes to even.
        assert q[:2].tolist() == [[1, 1], [0, 0]] and codes.tolist() == [0, 0]
        assert errors[:2].tolist() == [[-0.25, 0.25], [0.375, 0.375]]


def test_the_code_with_the_least_weighted_loss():
    # Scales 1 and 2 with half range 1, for weights 1 and 2: the more important column decides.
    weights, table = np.zeros((16, 1), F), np.full(27, F(1))
    weights[0], weights[1], table[7:] = 1, 2, 2
    for importance, code in (((2, 1), 0), ((1, 2), 7), ((1, 1), 0)):
        factors = np.array([*importance, *[1] * 14], F)
        for kernels in (PLAIN, FAST):
            _, codes, _ = kernels.feed_back(weights, weights, np.zeros((16, 16), F), factors, table,
                                            1)
            assert codes.tolist() == [code]


@pytest.mark.parametrize("depth", HALF)
def test_nothing_to_mend_where_inputs_are_alike_in_nothing(depth):
    # F is diagonal: each group takes its best code by the columns' importance, and is rounded.
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((30, 64)).astype(F)
    moment = Moment(np.eye(64, dtype=F), np.ones(30, F))
    found = feed_back(weights, depth, moment)
    codes, _ = PLAIN.best_codes(weights.reshape(-1, 16), found.table, HALF[depth])
    assert (found.codes.ravel() == codes).all()
    q = PLAIN.find_levels(weights.reshape(-1, 16), found.table[codes], HALF[depth])
    assert (found.q.reshape(-1, 16) == q).all()


@pytest.mark.parametrize("depth, share", [(1, 0.75), (2, 0.5), (3, 0.4), (4, 0.4)])
def test_errors_that_matter_are_far_fewer(depth, share):
    weights = np.random.default_rng(3).standard_normal((96, 256)).astype(F)
    moment = moment_of(96, 256)

    def loss(matrix):
        return moment.loss(dequantize(matrix) - weights)

    found = loss(feed_back(weights, depth, moment, engine="numba"))
    assert found < share * loss(whole(search(weights, depth, engine="numba")))
    assert found < share * loss(quantize(weights, depth))


@pytest.mark.parametrize("shape, group", [
    ((3, 5), 16), ((300, 200), 16), ((5, 2048 + 23), 16), ((5, 2048 + 23), 64), ((260, 200), 128),
    ((3, 40), 48)])
def test_any_shape_by_both_engines(shape, group):
    # More rows than are encoded together; more columns than a block of moments.
    rng = np.random.default_rng(4)
    weights = rng.standard_normal(shape).astype(F)
    inputs = rng.standard_normal((shape[1], min(shape[1], 2048))).astype(F) * 0
    for columns, block in Moment(inputs, np.ones(shape[0], F)).blocks():
        some = rng.standard_normal((50, len(block))).astype(F)
        block += some.T @ some
        assert inputs[columns].any()
    moment = Moment(inputs, np.ones(shape[0], F))
    plain, fast = (feed_back(weights, 2, moment, group=group, engine=engine)
                   for engine in ("numpy", "numba"))
    for name in ("q", "codes", "table"):
        assert getattr(plain, name).tobytes() == getattr(fast, name).tobytes()
    assert (plain.shape, plain.group) == (shape, group) and not plain.q[:, shape[1]:].any()


@pytest.mark.parametrize("group", [32, 64, 128])
def test_errors_that_matter_are_far_fewer_in_longer_groups(group):
    weights = np.random.default_rng(3).standard_normal((96, 256)).astype(F)
    moment = moment_of(96, 256)
    plain = search_groups(weights, 3, grouping=Grouping(group), engine="numba")
    losses = [moment.loss(dequantize(matrix) - weights) for matrix in (
        feed_back(weights, 3, moment, group=group, engine="numba"), plain)]
    assert losses[0] < 0.4 * losses[1]


@pytest.mark.parametrize("size", [2.0 ** -130, 2.0 ** 125])
def test_weights_whose_squares_float32_does_not_hold(size):
    weights = np.random.default_rng(3).standard_normal((96, 64)).astype(F)
    moment = moment_of(96, 64)
    plain, other = (feed_back(weights * F(factor), 3, moment) for factor in (1, size))
    assert (plain.q == other.q).mean() > 0.99 and (plain.codes == other.codes).mean() > 0.99
    np.testing.assert_allclose(other.table / size, plain.table, rtol=1e-3)


def test_inputs_that_are_always_zero():
    weights = np.random.default_rng(5).standard_normal((8, 48)).astype(F)
    moment = moment_of(8, 48)
    moment.inputs[10:30] = moment.inputs[:, 10:30] = 0
    assert np.isfinite(moment.loss(dequantize(feed_back(weights, 2, moment)) - weights))
    dead = Moment(np.zeros((48, 48), F), np.ones(8, F))
    assert (feed_back(weights, 3, dead).q != 0).any()
    assert not feed_back(np.zeros((8, 48), F), 3, moment).q.any()


def test_loss_is_the_quadratic_form():
    moment, rng = moment_of(4, 24), np.random.default_rng(6)
    errors = rng.standard_normal((4, 24)).astype(F)
    expected = sum(float(r) * float(e @ moment.inputs @ e)
                   for r, e in zip(moment.results, errors, strict=True)) / 2
    assert moment.loss(errors) == pytest.approx(expected, rel=1e-5)
    some = np.array([1, 3])
    assert moment.take(some).loss(errors[some]) < moment.loss(errors)


def written(tmp_path, tensors, name="x.safetensors"):
    path = tmp_path / name
    shapes = {module: tensors[f"{module}.weight"].shape for module in linear_names(tensors)}
    write_moments(path, {module: moment_of(*shape) for module, shape in shapes.items()},
                  {"text": "novel.txt"})
    return path


def test_packed_and_verified(tmp_path):
    path = written(tmp_path, make_checkpoint(tmp_path / "m"))
    for engine in ("numpy", "numba"):
        pack_checkpoint(tmp_path / "m", tmp_path / engine, 2,
                        method=method_of("search", engine, path))
    assert contents(tmp_path / "numpy") == contents(tmp_path / "numba")
    config = json.loads((tmp_path / "numpy" / "config.json").read_text())["quantization_config"]
    assert config["codec"] == "search"
    assert config["calibration"] == {"text": "novel.txt", "sha256": Moments(path).sha256}
    assert verify(tmp_path / "numpy", tmp_path / "m", calibration=path) == []
    assert verify(tmp_path / "numpy") == []
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'numpy'}: was quantized with a calibration by novel.txt; give its file "
            "of moments")):
        verify(tmp_path / "numpy", tmp_path / "m")
    other = tmp_path / "y.safetensors"
    other.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(CheckpointError, match=f"^{other}: is not the calibration that "):
        verify(tmp_path / "numpy", tmp_path / "m", calibration=other)


def test_packed_in_longer_groups(tmp_path):
    tensors = make_checkpoint(tmp_path / "m")
    path, grouping = written(tmp_path, tensors), Grouping(32)
    for engine in ("numpy", "numba"):
        pack_checkpoint(tmp_path / "m", tmp_path / engine, 2, include=["embed_tokens"],
                        method=method_of("search", engine, path, grouping))
    assert contents(tmp_path / "numpy") == contents(tmp_path / "numba")
    config = json.loads((tmp_path / "numpy" / "config.json").read_text())["quantization_config"]
    assert (config["group"], config["calibration"]["text"]) == (32, "novel.txt")
    assert verify(tmp_path / "numpy", tmp_path / "m", calibration=path) == []
    packed = PackedCheckpoint(tmp_path / "numpy")
    assert packed.matrix("model.embed_tokens").group == 32
    name = "model.layers.0.mlp.up_proj"
    weights = tensors[f"{name}.weight"]
    expected = feed_back(weights, 2, Moments(path).of(name, weights.shape), group=32)
    assert (packed.matrix(name).q == expected.q).all()


def test_embedding_without_moments_is_searched(tmp_path):
    tensors = make_checkpoint(tmp_path / "m")
    path = written(tmp_path, tensors)
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 3, include=["embed_tokens"],
                    method=method_of("search", calibration=path))
    found = PackedCheckpoint(tmp_path / "o").matrix("model.embed_tokens")
    expected = whole(search(tensors["model.embed_tokens.weight"], 3))
    assert (found.q == expected.q).all() and (found.table == expected.table).all()


def test_wrong_files_and_methods(tmp_path):
    tensors = make_checkpoint(tmp_path / "m")
    path = written(tmp_path, tensors)
    with pytest.raises(ValueError, match=message(
            "method tritllm-v2 does not use a calibration; use method search")):
        method_of("tritllm-v2", calibration=path)
    model = tmp_path / "m" / "model.safetensors"
    with pytest.raises(CheckpointError, match=message(
            f"{model}: holds no moments; give a text, or what `tritstream calibrate` wrote")):
        method_of("search", calibration=model)
    moments = Moments(path)
    name = linear_names(tensors)[0]
    with pytest.raises(CheckpointError, match=message(
            f"{path}: has no moments of x; calibrate again with this model")):
        moments.of("x", (1, 1))
    with pytest.raises(CheckpointError, match=message(
            f"{path}: {name}.inputs must be F32 (40, 40), not F32 (37, 37); calibrate again with "
            "this model")):
        moments.of(name, (37, 40))
    huge = np.full((2, 16), 3e38, F)
    with pytest.raises(ValueError, match=message("w must be finite, not nan at row 0, column 0")):
        feed_back(huge * F(np.nan), 2, moment_of(2, 16), "w")


@pytest.mark.parametrize("group", [16, 32])
def test_each_column_is_compensated_as_defined(group):
    # Optimal brain surgeon, column by column, in float64 and without a factorisation: rounding
    # column j changes the later columns by -e H^-1[j] / H^-1[j, j], and column j is removed.
    # Groups and their columns come in the order of the diagonal, the largest first.
    weights = np.random.default_rng(7).standard_normal((6, 176)).astype(F)
    moment = moment_of(6, 176)
    moment.inputs[:] *= np.outer(*[np.random.default_rng(8).random(176).astype(F)] * 2)
    found = feed_back(weights, 2, moment, group=group)
    matrix = moment.inputs.astype(np.float64)
    importance = np.diag(matrix)
    inverse = np.linalg.inv(matrix + 0.01 * importance.mean() * np.eye(176))
    rest = weights.astype(np.float64)
    groups = [range(first, min(176, first + group)) for first in range(0, 176, group)]
    for some in sorted(groups, key=lambda some: -importance[some].sum()):
        for j in sorted(some, key=lambda j: -importance[j]):
            scale = found.table[found.codes[:, j // group]].astype(np.float64)
            q = np.rint(np.clip(rest[:, j] / scale, -1, 1) * 4)
            assert (q == found.q[:, j]).all()
            rest -= np.outer((rest[:, j] - scale * q / 4) / inverse[j, j], inverse[j])
            inverse -= np.outer(inverse[j], inverse[j]) / inverse[j, j]


def test_table_suits_what_counts():
    # Small weights that count, next to larger ones that do not.
    rng = np.random.default_rng(8)
    size = np.where(np.arange(64) < 32, 0.25, 4.0)
    weights = (rng.standard_normal((64, 64)) * size * np.exp(rng.random((64, 64)))).astype(F)
    upright = np.ascontiguousarray(weights.T)

    def small(weights, columns, results):
        table = feed_back(weights, 3, Moment(np.diag(columns.astype(F)), results.astype(F))).table
        return (table < 2).sum()

    even, importance = np.ones(64), size ** -4
    assert small(weights, even, even) < 5 and small(upright, even, even) < 5
    assert small(weights, importance, even) > 8
    assert small(upright, even, importance / importance.mean()) > 20


@pytest.mark.parametrize("inputs", [
    np.full((16, 16), -9, np.float32) + 10 * np.eye(16, dtype=np.float32),
    np.where(np.eye(16) > 0, np.float32(1e-45), np.float32(3e38)),
    np.full((16, 16), 3e38, np.float32),
])
def test_moments_that_no_inputs_have(inputs):
    weights = np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)
    with pytest.raises(ValueError, match=message(
            "the moments of m are of no inputs: calibrate again")):
        feed_back(weights, 2, Moment(inputs, np.ones(4, np.float32)), "m")
