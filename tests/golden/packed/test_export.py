import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.matrix import dequantize
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.quantizers.registry import method_of
from tritstream.golden.recover.import_checkpoint import import_checkpoint

from support.golden_helpers import (
    contents,
    linear_names,
    make_checkpoint,
    message,
    quantized,
    write_json,
)


def exported(tmp_path, depth, **options):
    """Tensors of a checkpoint, and those of its export."""
    tensors = make_checkpoint(tmp_path / "m", **options)
    pack_checkpoint(tmp_path / "m", tmp_path / "o", depth)
    export(tmp_path / "o", tmp_path / "e")
    read = {}
    for file in sorted((tmp_path / "e").glob("*.safetensors")):
        read |= load_file(file)
    return tensors, read


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("sharded", [True, False])
def test_tensors(tmp_path, depth, sharded):
    tensors, read = exported(tmp_path, depth, sharded=sharded, tied=False)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        if name.removesuffix(".weight") in linear_names(tensors):
            tensor = dequantize(quantized(tensor, depth)).astype(np.float16)
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        assert read[name].tobytes() == tensor.tobytes()


def test_known_weights(tmp_path):
    # Group magnitudes 4 (scale 4) and 1 (scale 1) at depth 2: levels are scale * q / 4.
    weights = np.zeros((2, 16), np.float32)
    weights[0], weights[1] = np.resize([4, -2, 1, 3.1], 16), np.resize([1, -0.5, 0.3, 0], 16)
    (tmp_path / "m").mkdir()
    write_json(tmp_path / "m" / "config.json", {})
    save_file({"a.weight": weights}, tmp_path / "m" / "model.safetensors")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, method=method_of("tritllm-v2"))
    export(tmp_path / "o", tmp_path / "e")
    read = load_file(tmp_path / "e" / "model.safetensors")["a.weight"]
    assert read[0].tolist() == [4, -2, 1, 3] * 4
    assert read[1].tolist() == [1, -0.5, 0.25, 0] * 4


@pytest.mark.parametrize("field", ["dtype", "torch_dtype"])
def test_configuration_and_companions(tmp_path, field):
    make_checkpoint(tmp_path / "m")
    config = json.loads((tmp_path / "m/config.json").read_text())
    config[field] = config.pop("torch_dtype")
    write_json(tmp_path / "m" / "config.json", config)
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2)
    export(tmp_path / "o", tmp_path / "e")
    written = json.loads((tmp_path / "e/config.json").read_text())
    assert written == config | {field: "float16"}
    before, after = contents(tmp_path / "m"), contents(tmp_path / "e")
    assert after.keys() == before.keys() | {"README.md"}
    for name in ("LICENSE", "chat_template.jinja", "generation_config.json", "tokenizer.json"):
        assert after[name] == before[name]
    with safe_open(tmp_path / "e" / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}


def test_index(tmp_path):
    _, read = exported(tmp_path, 2, sharded=True)
    index = json.loads((tmp_path / "e/model.safetensors.index.json").read_text())
    assert index["weight_map"] == json.loads(
        (tmp_path / "m/model.safetensors.index.json").read_text())["weight_map"]
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in read.values())


def test_is_a_source_again(tmp_path):
    tensors, _ = exported(tmp_path, 2, sharded=True)
    assert sorted(DirectorySource(tmp_path / "e").matrices()) == sorted(linear_names(tensors))


def test_progress_names_every_tensor(tmp_path):
    tensors = make_checkpoint(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2)
    names = []
    export(tmp_path / "o", tmp_path / "e", names.append)
    assert sorted(names) == sorted(tensors)


def test_output_that_exists(tmp_path):
    exported(tmp_path, 2)
    before = contents(tmp_path / "e")
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'e'}: exists already; remove it, choose another, or force")):
        export(tmp_path / "o", tmp_path / "e")
    (tmp_path / "e" / "LICENSE").unlink()
    export(tmp_path / "o", tmp_path / "e", force=True)
    assert contents(tmp_path / "e") == before


def test_source_that_is_not_packed(tmp_path):
    make_checkpoint(tmp_path / "m")
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm' / 'config.json'}: has no quantization_config; "
            "pack the checkpoint first")):
        export(tmp_path / "m", tmp_path / "e")


@pytest.mark.parametrize("weight, warned, refused", [
    (7e4, "scales up to 7e+04 overflow float16 (65504), so `tritstream export` needs another "
     "--dtype, such as float32; a device computes with it", "a.weight has weights beyond float16"),
    (2e-8, "no weight exceeds 2e-08, so all are tiny and vanish in float16, so `tritstream "
     "export` needs another --dtype, such as float32; check the source",
     "all weights of a.weight vanish in float16"),
    (3e-40, "no weight exceeds 3e-40, so all are denormal in float32 and vanish in float16, so "
     "`tritstream export` needs another --dtype, such as float32; check the source",
     "all weights of a.weight vanish in float16"),
])
def test_weights_beyond_float16(tmp_path, weight, warned, refused):
    (tmp_path / "m").mkdir()
    write_json(tmp_path / "m" / "config.json", {})
    save_file({"a.weight": np.full((2, 16), weight, np.float32)},
              tmp_path / "m" / "model.safetensors")
    assert pack_checkpoint(tmp_path / "m", tmp_path / "o", 2).warnings == (f"a: {warned}",)
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'o'}: {refused}; export it with another --dtype, such as float32")):
        export(tmp_path / "o", tmp_path / "e")
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("weight, imported, dtype", [
    (2.0 ** -26, True, "float16"), (1e-41, False, "bfloat16"), (1e-41, False, "float16"),
])
def test_weights_that_vanish_in_the_requested_dtype(tmp_path, weight, imported, dtype):
    (tmp_path / "m").mkdir()
    write_json(tmp_path / "m" / "config.json", {})
    save_file({"a.weight": np.full((2, 16), weight, np.float32)},
              tmp_path / "m" / "model.safetensors")
    if imported:
        import_checkpoint(tmp_path / "m", tmp_path / "o")
    else:
        pack_checkpoint(tmp_path / "m", tmp_path / "o", 2)
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'o'}: all weights of a.weight vanish in {dtype}; export it with another "
            "--dtype, such as float32")):
        export(tmp_path / "o", tmp_path / "e", dtype=dtype)
    assert not (tmp_path / "e").exists()
    export(tmp_path / "o", tmp_path / "e", dtype="float32", force=True)
    assert load_file(tmp_path / "e" / "model.safetensors")["a.weight"].all()
