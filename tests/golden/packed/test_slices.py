"""Experts that a checkpoint stores as one tensor: packed as matrices, put back by the export."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tritstream.golden.checkpoints.choice import Architecture, Selection
from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.errors import CheckpointError
from tritstream.golden.matrix import dequantize
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import Finding, verify
from tritstream.golden.recover.import_checkpoint import import_checkpoint
from tritstream.golden.tiles import pack

from support.golden_helpers import (
    contents,
    message,
    quantized,
    rewrite,
    save_halves,
    write_json,
)

UP, DOWN, Q = "m.experts.gate_up", "m.experts.down.weight", "m.q_proj"
AXES = {UP: "KN", DOWN: "NK"}
SLICES = {f"{name}.{index}": name for name in AXES for index in range(3)}
WHOLE = Architecture("Some", frozenset({*SLICES, Q}), axes=AXES, merged=SLICES)


def make_experts(path, dtype=np.float32, sharded=False):
    """Three experts: inputs 20 and outputs 14, stored transposed; inputs 7 and outputs 20."""
    path.mkdir()
    rng = np.random.default_rng(0)
    tensors = {
        UP: rng.standard_normal((3, 20, 14)).astype(dtype),
        f"{UP}_bias": rng.standard_normal((3, 14)).astype(dtype),
        DOWN: rng.standard_normal((3, 20, 7)).astype(dtype),
        f"{Q}.weight": rng.standard_normal((9, 20)).astype(dtype)}
    if sharded:
        save_halves(path, [dict(list(tensors.items())[:2]), dict(list(tensors.items())[2:])])
    else:
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    write_json(path / "config.json", {"model_type": "some", "dtype": "float32"})
    return tensors


def weights_of(tensors, module):
    name, _, index = module.rpartition(".")
    part = tensors[name][int(index)]
    return part.T if AXES[name] == "KN" else part


@pytest.mark.parametrize("sharded", [False, True])
def test_each_expert_is_a_matrix_and_the_export_puts_them_back(tmp_path, sharded):
    tensors = make_experts(tmp_path / "m", sharded=sharded)
    report = pack_checkpoint(tmp_path / "m", tmp_path / "o", 3, architecture=WHOLE)
    assert {matrix.name for matrix in report.matrices} == {*SLICES, Q}
    packed = PackedCheckpoint(tmp_path / "o")
    assert packed.config["quantization_config"]["format_version"] == 4
    assert list(packed.kept) == [f"{UP}_bias"]
    for module in SLICES:
        expected = quantized(weights_of(tensors, module), 3)
        np.testing.assert_array_equal(packed.tiles(module), pack(expected))
        assert packed.matrices[module].shape == expected.shape
    assert {name: packed.source_shape(name) for name in packed.origins} == {
        UP: (3, 20, 14), DOWN: (3, 20, 7), f"{Q}.weight": (9, 20)}
    assert verify(tmp_path / "o", tmp_path / "m", architecture=WHOLE) == []

    export(tmp_path / "o", tmp_path / "e")
    exported = DirectorySource(tmp_path / "e")
    assert {name: tensor.shape for name, tensor in exported.tensors.items()} == {
        name: tensor.shape for name, tensor in tensors.items()}
    for module in SLICES:
        name, _, index = module.rpartition(".")
        part = exported.read(name)[int(index)]
        np.testing.assert_array_equal(part.T if AXES[name] == "KN" else part,
                                      dequantize(packed.matrix(module)).astype(np.float16))
    for dtype in ("float32", "bfloat16"):
        export(tmp_path / "o", tmp_path / dtype, dtype=dtype)
        assert json.loads((tmp_path / dtype / "config.json").read_text())["dtype"] == dtype


def test_an_export_is_imported_without_loss(tmp_path):
    make_experts(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, architecture=WHOLE)
    export(tmp_path / "o", tmp_path / "e")
    report = import_checkpoint(tmp_path / "e", tmp_path / "i", architecture=WHOLE)
    assert len(report.surveys) == len(SLICES) + 1
    assert verify(tmp_path / "i", tmp_path / "e", architecture=WHOLE) == []
    export(tmp_path / "i", tmp_path / "again")
    np.testing.assert_array_equal(*(load_file(path / "model.safetensors")[UP]
                                    for path in (tmp_path / "e", tmp_path / "again")))


def test_one_expert_that_does_not_fit_keeps_the_others_too(tmp_path):
    make_experts(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, architecture=WHOLE)
    export(tmp_path / "o", tmp_path / "e")
    tensors = load_file(tmp_path / "e" / "model.safetensors")
    tensors[UP][1] = np.random.default_rng(1).standard_normal((20, 14))
    save_file(tensors, tmp_path / "e" / "model.safetensors", metadata={"format": "pt"})
    report = import_checkpoint(tmp_path / "e", tmp_path / "i", architecture=WHOLE, keep_going=True)
    assert [one.name for one in report.misfits] == [f"{UP}.1"]
    assert report.packed.reasons[UP] == "matrices that do not fit"
    packed = PackedCheckpoint(tmp_path / "i")
    assert packed.origins.keys() == {DOWN, f"{Q}.weight"}
    np.testing.assert_array_equal(packed.read_kept(UP), tensors[UP])


def test_experts_of_one_tensor_are_packed_together_or_not_at_all(tmp_path):
    tensors = make_experts(tmp_path / "m")
    source = DirectorySource(tmp_path / "m")
    choice = source.choose(Selection(exclude=["gate_up.1"], architecture=WHOLE))
    assert list(choice.matrices) == [f"{DOWN}.{index}" for index in range(3)] + [Q]
    assert choice.reasons == {UP: "left out on request",
                              f"{UP}_bias": "norms, biases and other vectors"}
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 1, exclude=["gate_up.1"], architecture=WHOLE)
    np.testing.assert_array_equal(PackedCheckpoint(tmp_path / "o").read_kept(UP), tensors[UP])
    assert verify(tmp_path / "o", tmp_path / "m", architecture=WHOLE) == []


def test_matrices_of_one_parameter_are_packed_together_or_not_at_all(tmp_path):
    names = [f"m.experts.{index}.{part}" for index in range(2) for part in ("gate", "up")]
    (tmp_path / "m").mkdir()
    weights = np.ones((4, 16), np.float32)
    save_file({f"{name}.weight": weights for name in [*names, Q]},
              tmp_path / "m" / "model.safetensors")
    write_json(tmp_path / "m" / "config.json", {})
    merged = dict.fromkeys(names, "m.experts.gate_up")
    whole = Architecture("Some", frozenset([*names, Q]), merged=merged)
    # Elsewhere, a module of the name `gate` is a router.
    source = DirectorySource(tmp_path / "m")
    assert list(source.choose(Selection(architecture=whole)).matrices) == [*names, Q]
    choice = source.choose(Selection(exclude=["experts.1.up"], architecture=whole))
    assert list(choice.matrices) == [Q]
    assert choice.reasons["m.experts.1.up.weight"] == "left out on request"


def test_an_interrupted_packing_resumes_at_the_expert(tmp_path):
    make_experts(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "whole", 3, architecture=WHOLE)
    seen = []

    def stop(report):
        seen.append(report.name)
        if report.name == f"{DOWN}.1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_checkpoint(tmp_path / "m", tmp_path / "o", 3, architecture=WHOLE, progress=stop)
    assert seen[-1] == f"{DOWN}.1" and f"{UP}.2" not in seen
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 3, architecture=WHOLE)
    assert contents(tmp_path / "o") == contents(tmp_path / "whole")


def test_a_depth_per_expert(tmp_path):
    make_experts(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, overrides={"*.gate_up.2": 4},
                    architecture=WHOLE)
    packed = PackedCheckpoint(tmp_path / "o")
    assert [packed.matrices[f"{UP}.{index}"].depth for index in range(3)] == [2, 2, 4]
    export(tmp_path / "o", tmp_path / "e")
    part = load_file(tmp_path / "e" / "model.safetensors")[UP][2].T
    np.testing.assert_array_equal(part, dequantize(packed.matrix(f"{UP}.2")).astype(np.float16))


def test_a_name_that_a_slice_takes(tmp_path):
    tensors = make_experts(tmp_path / "m")
    tensors[f"{UP}.0.weight"] = np.ones((2, 2), np.float32)
    save_file(tensors, tmp_path / "m" / "model.safetensors")
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm'}: {UP}.0.weight has the name of a matrix of {UP}; rename it in the "
            "source")):
        pack_checkpoint(tmp_path / "m", tmp_path / "o", 1, architecture=WHOLE)


def drop(tensors, records):
    for end in (".trits", ".scales"):
        del tensors[f"{UP}.1{end}"], records[f"{UP}.1{end}"]


def other_axes(_, records):
    records[f"{UP}.1.trits"]["axes"] = "NK"


def no_axes(_, records):
    del records[f"{UP}.1.trits"]["axes"]


def unknown_axes(_, records):
    records[f"{UP}.1.trits"]["axes"] = "KEN"


def both(tensors, records):
    tensors[UP] = np.zeros((3, 20, 14), np.float32)
    records[UP] = {"shape": [3, 20, 14], "crc32": "00000000"}


@pytest.mark.parametrize(("change", "fault"), [
    (drop, f"{UP} lacks its slice {UP}.1; copy it again"),
    (other_axes, f"the slices of {UP} differ in shape, dtype or axes; copy it again"),
    (no_axes, f"{UP} lacks its slice {UP}.1; copy it again"),
    (unknown_axes, f"{UP}.1.trits has axes 'KEN', which this version does not know; update "
                   "tritstream"),
    (both, f"{UP} is unquantized, and packed as well; copy it again"),
])
def test_damaged_records(tmp_path, change, fault):
    make_experts(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 1, architecture=WHOLE)
    rewrite(tmp_path / "o", change)
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'o' / 'packed.safetensors'}: {fault}")):
        PackedCheckpoint(tmp_path / "o")


def test_verify_finds_slices_that_the_model_takes_in_another_way(tmp_path):
    make_experts(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 1, architecture=WHOLE)
    other = Architecture("Some", frozenset({*SLICES, Q}), axes=AXES | {UP: "NK"}, merged=SLICES)
    reason = "is packed, but cannot be loaded so (axes KN in place of NK); pack the model again"
    assert verify(tmp_path / "o", architecture=other) == [
        Finding(f"{UP}.{index}", reason) for index in range(3)]


def test_verify_compares_with_the_slices_of_the_source(tmp_path):
    tensors = make_experts(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 1, architecture=WHOLE)
    tensors[UP][[0, 2]] = tensors[UP][[2, 0]]
    del tensors[DOWN]
    save_file(tensors, tmp_path / "m" / "model.safetensors")
    found = {finding.tensor for finding in verify(tmp_path / "o", tmp_path / "m")}
    assert found == {f"{UP}.0", f"{UP}.2", *(f"{DOWN}.{index}.weight" for index in range(3))}
