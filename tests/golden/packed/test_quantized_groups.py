"""Checkpoints quantized in groups of other lengths, and with direct scales."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.matrix import dequantize
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import Finding, verify
from tritstream.golden.quantizers.grouping import Grouping
from tritstream.golden.quantizers.long_groups import search_groups
from tritstream.golden.quantizers.registry import method_of

from support.golden_helpers import contents, linear_names, make_checkpoint, message, rewrite

UP, DOWN = "model.layers.1.mlp.up_proj", "model.layers.0.mlp.down_proj"
GROUPINGS = [Grouping(32, "direct"), Grouping(16, "direct"), Grouping(48), Grouping(4096, "direct")]


def pack(path, grouping, engine=None, depth=2, **options):
    return pack_checkpoint(path / "m", path / "o", depth, method=method_of(
        "search", engine, grouping=grouping), **options)


@pytest.fixture
def model(tmp_path):
    return make_checkpoint(tmp_path / "m")


@pytest.mark.parametrize("grouping", GROUPINGS, ids=str)
@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_matrices_are_those_of_the_method(tmp_path, model, grouping, engine):
    report = pack(tmp_path, grouping, engine, overrides={UP: 4})
    checkpoint = PackedCheckpoint(tmp_path / "o")
    assert set(checkpoint.matrices) == set(linear_names(model))
    fields = checkpoint.config["quantization_config"]
    assert (fields["format_version"], fields["codec"]) == (5, "search")
    assert (fields["group"], fields["scales"]) == (grouping.group, grouping.scales)
    assert fields["group_size"] == min(grouping.group, 48)
    for found in report.matrices:
        weights = model[f"{found.name}.weight"].astype(np.float32)
        matrix, depth = checkpoint.matrix(found.name), 4 if found.name == UP else 2
        wanted = search_groups(weights, depth, grouping=grouping)
        assert (matrix.depth, matrix.group) == (depth, wanted.group)
        assert dequantize(matrix).tobytes() == dequantize(wanted).tobytes()
        errors = dequantize(matrix).astype(np.float64) - weights
        assert found.error == pytest.approx((errors ** 2).sum() / (weights ** 2).sum(), rel=1e-5)
        sizes = [tensor.size for tensor in checkpoint.tensors_of(found.name)]
        assert found.stored_bits == 8 * sum(sizes) / weights.size
    assert verify(tmp_path / "o") == verify(tmp_path / "o", tmp_path / "m") == []
    export(tmp_path / "o", tmp_path / "e", dtype="float32")
    exported = load_file(tmp_path / "e" / "model.safetensors")[f"{DOWN}.weight"]
    assert exported.tobytes() == dequantize(checkpoint.matrix(DOWN)).tobytes()


def test_groups_of_16_with_coded_scales_need_no_version_5(tmp_path, model):
    pack(tmp_path, Grouping(16, "coded"))
    assert PackedCheckpoint(tmp_path / "o").config["quantization_config"]["format_version"] == 1
    assert "group" not in PackedCheckpoint(tmp_path / "o").config["quantization_config"]


def test_the_card_states_groups_and_scales(tmp_path, model):
    pack(tmp_path, Grouping(32, "direct"))
    card = (tmp_path / "o" / "README.md").read_text()
    assert "digits, 2 per weight, with a float16 scale per 32 weights." in card
    export(tmp_path / "o", tmp_path / "e")
    assert "digits, 2 per weight, by" in (tmp_path / "e" / "README.md").read_text()
    pack(tmp_path, Grouping(48), force=True)
    card = (tmp_path / "o" / "README.md").read_text()
    assert "digits, 2 per weight, with one of 27 scales per 48 weights." in card


@pytest.mark.parametrize("other", [Grouping(), Grouping(32), Grouping(48, "direct")], ids=str)
def test_a_job_with_other_groups_is_another_job(tmp_path, model, other):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(tmp_path, Grouping(32, "direct"), progress=stop)
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'o'}.partial: left by another job; remove it, or force")):
        pack(tmp_path, other)
    pack(tmp_path, Grouping(32, "direct"), "numpy")
    whole = contents(tmp_path / "o")
    pack(tmp_path, Grouping(32, "direct"), "numba", force=True)
    assert contents(tmp_path / "o") == whole


@pytest.mark.parametrize(("kind", "place", "value", "text"), [
    ("direct", (7, 1), 0.125, "1 tiles are not those of the source, the first at row 5, column 32"),
    ("direct", (36, 0), 0.125, "1 tiles are not those of the source, the first at row 35, column "
                               "0"),
    ("coded", (9,), 0.125, "its scale table is not that of the source"),
])
def test_scales_that_are_not_those_of_the_source(tmp_path, model, kind, place, value, text):
    pack(tmp_path, Grouping(32, kind))

    def change(tensors, _):
        tensors[f"{DOWN}.scales"] = tensors[f"{DOWN}.scales"].copy()
        tensors[f"{DOWN}.scales"][place] = value

    rewrite(tmp_path / "o", change)
    assert Finding(DOWN, text) in verify(tmp_path / "o", tmp_path / "m")


def test_trits_that_are_not_those_of_the_source(tmp_path, model):
    pack(tmp_path, Grouping(32, "direct"))

    def change(tensors, _):
        trits = tensors[f"{DOWN}.trits"] = tensors[f"{DOWN}.trits"].copy()
        trits[2, 40 * 2], trits[3, 4 * 2] = trits[2, 40 * 2] ^ 1, trits[3, 4 * 2] ^ 1

    rewrite(tmp_path / "o", change)
    assert Finding(DOWN, "2 tiles are not those of the source, the first at row 10, column 32"
                   ) in verify(tmp_path / "o", tmp_path / "m")


def edit(path, **fields):
    config = json.loads((path / "config.json").read_text())
    config["quantization_config"] |= fields
    (path / "config.json").write_text(json.dumps(config))


def test_config_that_states_other_groups(tmp_path, model):
    pack(tmp_path, Grouping(32, "direct"))
    edit(tmp_path / "o", group=48)
    assert {finding.message for finding in verify(tmp_path / "o", tmp_path / "m")} == {
        "has groups and scales that its method does not make"}
    assert verify(tmp_path / "o") == []
    for fields, fault in (({"group": 40}, "group must be a multiple of 16, not 40"),
                          ({"group": 32, "scales": []}, "scales must be coded or direct, not []")):
        edit(tmp_path / "o", **fields)
        with pytest.raises(CheckpointError, match=message(
                f"{tmp_path / 'o' / 'config.json'}: {fault}; copy it again")):
            PackedCheckpoint(tmp_path / "o")


def test_a_matrix_beyond_float16_is_named(tmp_path, model):
    weights = {f"{DOWN}.weight": model[f"{DOWN}.weight"] * 1e8}
    save_file({**model, **weights}, tmp_path / "m" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"^{DOWN}.weight needs a scale of .* in row 0, and "
                                         "float16 holds 65504 at most; use coded scales"):
        pack(tmp_path, Grouping(32, "direct"))
    pack(tmp_path, Grouping(32), force=True)
    [finding] = verify(tmp_path / "o", tmp_path / "m")
    assert finding.kind == "warning" and "overflow float16 (65504)" in finding.message
