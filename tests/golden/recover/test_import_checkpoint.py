import hashlib
import json
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import load_file

from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.jobs.local import in_flight
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import write_weights
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import Finding, verify
from tritstream.golden.recover import encode, import_files, import_plan
from tritstream.golden.recover.import_checkpoint import import_checkpoint

from support.golden_helpers import contents, message
from support.published import DIGIT_FORMS, change_tensor, write_checkpoint

UP = "model.layers.1.mlp.up_proj"


def load_all(path):
    return {name: tensor for file in sorted(path.glob("*.safetensors"))
            for name, tensor in load_file(file).items()}


def test_steps_state_their_memory(model, imported, tmp_path, monkeypatch):
    """The encoder of an import once lacked ``memory``, so its steps could not run concurrently."""
    budgets = []

    def run(steps):
        budgets.extend(step.memory for step in steps.values() if step.module)
        return in_flight(steps, 4 * max(budgets))

    monkeypatch.setattr(import_files, "write_weights", partial(write_weights, run=run))
    import_checkpoint(model, tmp_path / "two")
    assert contents(tmp_path / "two") == contents(imported)
    tensors = load_all(model)
    assert min(budgets) > min(tensor.nbytes for tensor in tensors.values() if tensor.ndim == 2)


@pytest.mark.parametrize("how", [
    {"depth": 1}, {"depth": 2, "shards": 3}, {"depth": 3, "tied": False},
    {"depth": 3, "shards": 2, "tied": False, "form": "s*(q/h)", "inner": "float16"},
    {"depth": 4, "inner": "bfloat16", "layers": 1}, {"depth": 3, "dtype": "bfloat16"},
    {"depth": 3, "dtype": "bfloat16", "inner": "bfloat16", "hidden": 50, "intermediate": 37},
    {"depth": 3, "dtype": "float32", "form": "s/h*q"}, {"depth": 4, "dtype": "float32"},
    {"depth": 3, "inner": "float16", "form": "s*p/h, low first", "layers": 1},
    pytest.param({"depth": 4, "inner": "float16", "form": "wide s*p/h, high first", "layers": 1},
                 marks=pytest.mark.long),
    {"depth": 4, "inner": "bfloat16", "dtype": "bfloat16", "form": "s*sum of p/h, high first",
     "layers": 1},
    {"depth": 3, "dtype": "float32", "form": "s*(p/h), high first", "layers": 1},
])
def test_export_gives_every_value_back(tmp_path, how):
    tensors = write_checkpoint(tmp_path / "m", **how)
    before = contents(tmp_path / "m")
    report = import_checkpoint(tmp_path / "m", tmp_path / "o")
    assert verify(tmp_path / "o", tmp_path / "m") == []
    export(tmp_path / "o", tmp_path / "e")
    read = load_all(tmp_path / "e")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        np.testing.assert_array_equal(read[name], tensor)
    packed = {f"{found.name}.weight" for found in report.surveys}
    assert packed == {name for name in tensors if "_proj.weight" in name}
    assert all(read[name].tobytes() == tensors[name].tobytes() for name in tensors.keys() - packed)
    zeros = sum(np.count_nonzero((tensors[name] == 0) & np.signbit(tensors[name]))
                for name in packed)
    assert report.negative_zeros == zeros
    # Sums of digits have no negative zero.
    assert (zeros > 0) == (how.get("form") not in DIGIT_FORMS)
    assert {found.outcome.depth for found in report.surveys} == {how["depth"]}
    assert contents(tmp_path / "m") == before
    config = json.loads((tmp_path / "e" / "config.json").read_text())
    assert config == json.loads(before["config.json"])


def test_configuration(tmp_path, model):
    report = import_checkpoint(model, tmp_path / "o")
    fields = json.loads((tmp_path / "o/config.json").read_text())["quantization_config"]
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in model.iterdir()}
    assert fields == {
        "quant_method": "tritstream", "codec": "recovered", "format_version": 1, "depth": 3,
        "group_size": 16, "modules_to_not_convert": ["lm_head", "model.embed_tokens"],
        "weights": "packed.safetensors.index.json", "depths": {}, "source_sha256": sums}
    assert report.source_sha256 == sums
    assert (tmp_path / "o/LICENSE").read_bytes() == (model / "LICENSE").read_bytes()
    assert len(list((tmp_path / "o").glob("*.safetensors"))) == 2
    assert report.packed.path == tmp_path / "o"
    assert all(tensor.error == 0 for tensor in report.packed.matrices)


@pytest.mark.parametrize(("how", "form", "dtype"), [
    ({"inner": "float16", "form": "s*(q/h)"}, "s*(q/h) in float16", "F16"),
    ({"dtype": "bfloat16"}, "s*q/h", "BF16"),
    ({"dtype": "float32", "form": "s/h*q"}, "s/h*q", "F32"),
])
def test_other_forms_need_format_version_2(tmp_path, how, form, dtype):
    write_checkpoint(tmp_path / "m", **how)
    import_checkpoint(tmp_path / "m", tmp_path / "o")
    packed = PackedCheckpoint(tmp_path / "o")
    assert packed.config["quantization_config"]["format_version"] == 2
    assert packed.codec == "recovered"
    assert {(info.form.name, info.dtype) for info in packed.matrices.values()} == {(form, dtype)}


@pytest.mark.parametrize(("how", "form", "dtype"), [
    ({"inner": "float16", "form": "s*p/h, low first"}, "sum t*R(R(s*p)/h) low first in float16",
     "F16"),
    ({"inner": "bfloat16", "form": "wide s*p/h, high first", "dtype": "bfloat16"},
     "sum t*R(s*p/h) high first in bfloat16", "BF16"),
])
def test_sums_of_digits_need_format_version_3(tmp_path, how, form, dtype):
    write_checkpoint(tmp_path / "m", layers=1, **how)
    report = import_checkpoint(tmp_path / "m", tmp_path / "o")
    packed = PackedCheckpoint(tmp_path / "o")
    assert packed.config["quantization_config"]["format_version"] == 3
    assert {found.outcome.form for found in report.surveys} == {form}
    assert {(info.form.name, info.dtype) for info in packed.matrices.values()} == {(form, dtype)}


def test_depths_of_some_matrices(tmp_path):
    tensors = write_checkpoint(tmp_path / "m", depth=2)
    other = write_checkpoint(tmp_path / "x", depth=3)
    change_tensor(tmp_path / "m", f"{UP}.weight", ..., other[f"{UP}.weight"])
    change_tensor(tmp_path / "m", "model.layers.0.self_attn.k_proj.weight", ..., 0)
    import_checkpoint(tmp_path / "m", tmp_path / "o")
    packed = PackedCheckpoint(tmp_path / "o")
    assert packed.depth == 2
    assert {name: info.depth for name, info in packed.matrices.items() if info.depth != 2} == {
        UP: 3, "model.layers.0.self_attn.k_proj": 1}
    assert verify(tmp_path / "o", tmp_path / "m") == []
    assert tensors.keys() == other.keys()


def test_given_depth(tmp_path):
    write_checkpoint(tmp_path / "m", depth=2, layers=1)
    import_checkpoint(tmp_path / "m", tmp_path / "o", 3)
    packed = PackedCheckpoint(tmp_path / "o")
    assert {info.depth for info in packed.matrices.values()} == {3}
    assert verify(tmp_path / "o", tmp_path / "m") == []
    for depth in (0, 5, True, "3"):
        with pytest.raises(ValueError, match=message(f"depth must be 1..4, not {depth!r}")):
            import_checkpoint(tmp_path / "m", tmp_path / "p", depth)
    with pytest.raises(CheckpointError, match="^[^\n]*distinct magnitudes, of which 27 scales make "
                                              "at most 27 at d = 1; keep going to leave it as"):
        import_checkpoint(tmp_path / "m", tmp_path / "q", 1)


def test_written_files_are_compared_with_the_source(model, imported, tmp_path, monkeypatch):
    def flawed(weights, *arguments):
        matrix = encode(weights, *arguments)
        if arguments[-1] == f"{UP}.weight":
            matrix.q[7, 9] += 1 if matrix.q[7, 9] < 0 else -1
        return matrix

    monkeypatch.setattr(import_plan, "encode", flawed)
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'o.partial'}: {UP}: 1 weights are not those of the source, the first at "
            "row 7, column 9; check disk and memory, and run the same command again")):
        import_checkpoint(model, tmp_path / "o")
    assert not (tmp_path / "o").exists()
    monkeypatch.undo()
    import_checkpoint(model, tmp_path / "o")
    assert contents(tmp_path / "o") == contents(imported)


def test_verify_against_another_source(imported, tmp_path):
    write_checkpoint(tmp_path / "x", shards=2, dtype="bfloat16")
    findings = verify(imported, tmp_path / "x")
    assert Finding(UP, "has weights of dtype F16, not BF16") in findings
    write_checkpoint(tmp_path / "y", shards=2, hidden=48)
    assert Finding(UP, "shape is (160, 64), not (160, 48)") in verify(
        imported, tmp_path / "y")


def test_warns_of_scales_that_a_device_loses(tmp_path):
    write_checkpoint(tmp_path / "m", layers=1)
    weights = np.full((64, 64), 60000, np.float16)
    weights[1:] = 0.0001
    change_tensor(tmp_path / "m", "model.layers.0.self_attn.q_proj.weight", ..., weights)
    report = import_checkpoint(tmp_path / "m", tmp_path / "o")
    ratio, mantissa = report.packed.warnings
    assert ratio.startswith("model.layers.0.self_attn.q_proj: scales span a ratio of 6e+08")
    assert "mantissa 0" in mantissa
