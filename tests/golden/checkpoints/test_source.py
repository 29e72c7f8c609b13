import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tritstream.golden.checkpoints.directory import DirectorySource, companions
from tritstream.golden.checkpoints.source import CheckpointError, is_linear

from support.golden_helpers import (
    DTYPES,
    NO_MODEL,
    linear_names,
    make_checkpoint,
    message,
    write_json,
)


def refuses(path, text):
    with pytest.raises(CheckpointError, match=message(text)):
        DirectorySource(path).matrices()


@pytest.fixture
def sharded(tmp_path):
    make_checkpoint(tmp_path / "m", sharded=True)
    return tmp_path / "m"


def edit_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("sharded", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_reads_every_tensor(tmp_path, dtype, sharded, tied):
    tensors = make_checkpoint(tmp_path / "m", dtype, sharded, tied)
    source = DirectorySource(tmp_path / "m")
    assert source.config["hidden_size"] == 37
    assert source.sharded == sharded
    assert source.tensors.keys() == tensors.keys()
    assert sorted(source.matrices()) == sorted(linear_names(tensors))
    for name, tensor in tensors.items():
        assert source.read(name).dtype == tensor.dtype
        assert source.read(name).tobytes() == tensor.tobytes()


@pytest.mark.parametrize(("name", "shape", "linear"), [
    ("model.layers.0.mlp.up_proj.weight", (8, 4), True),
    ("h.0.mlp.experts.3.w1.weight", (8, 4), True),
    ("model.layers.0.mlp.up_proj.bias", (8, 4), False),
    ("model.layers.0.mlp.up_proj.weight", (8,), False),
    ("model.layers.0.mlp.experts.weight", (2, 8, 4), False),
    ("model.layers.0.mlp.up_proj.weight", (0, 4), False),
    ("model.embed_tokens.weight", (8, 4), False),
    ("transformer.word_embeddings.weight", (8, 4), False),
    ("transformer.wte.weight", (8, 4), False),
    ("model.layers.0.input_layernorm.weight", (8, 4), False),
    ("lm_head.weight", (8, 4), False),
    ("model.lm_head.weight", (8, 4), False),
    ("model.lm_header.weight", (8, 4), True),
])
def test_which_tensors_are_linear(name, shape, linear):
    assert is_linear(name, shape) == linear


def test_modules_to_keep_are_whole_parts_of_names():
    name = "model.layers.1.mlp.up_proj.weight"
    for kept in ("model.layers.1.mlp.up_proj", "up_proj", "layers.1", "mlp"):
        assert not is_linear(name, (8, 4), [kept])
    for other in ("model.layers.11", "up", "layers.1.up_proj", "weight"):
        assert is_linear(name, (8, 4), ["x", other])
    assert is_linear("lm_head.weight", (8, 4), [])


def test_companions_are_all_but_weights_and_configuration(tmp_path):
    make_checkpoint(tmp_path / "m", sharded=True)
    for name in ("pytorch_model.bin", "x.pt", "x.pth", "x.ckpt", "x.gguf", ".gitattributes",
                 "pytorch_model.bin.index.json", "other.safetensors"):
        (tmp_path / "m" / name).write_bytes(b"")
    (tmp_path / "m" / "onnx").mkdir()
    names = [path.name for path in companions(tmp_path / "m")]
    assert names == ["LICENSE", "chat_template.jinja", "generation_config.json", "tokenizer.json"]


def test_shards_come_in_the_order_of_their_names(tmp_path):
    write_json(tmp_path / "config.json", {})
    names = [f"model-{n:05}-of-00020.safetensors" for n in range(1, 21)]
    for name in names:
        save_file({f"{name}.weight": np.ones((2, 3), np.float32)}, tmp_path / name)
    write_json(tmp_path / "model.safetensors.index.json", {
        "weight_map": {f"{name}.weight": name for name in reversed(names)}})
    source = DirectorySource(tmp_path)
    assert list(source.shards) == names
    assert list(source.tensors) == [f"{name}.weight" for name in names]


def test_single_file_next_to_shards_is_refused(sharded):
    save_file({"a.weight": np.ones((2, 3), np.float32)}, sharded / "model.safetensors")
    refuses(sharded, f"{sharded}: has both model.safetensors and model-00001-of-00002.safetensors, "
                     "which model.safetensors.index.json names; remove the one that is out of date")


def test_single_file_with_an_index_of_its_own(sharded):
    for shard in sharded.glob("model-*.safetensors"):
        shard.unlink()
    save_file({"a.weight": np.ones((2, 3), np.float32)}, sharded / "model.safetensors")
    # The index of shards that are gone, then one that names the file.
    assert list(DirectorySource(sharded).tensors) == ["a.weight"]
    write_json(sharded / "model.safetensors.index.json",
               {"weight_map": {"a.weight": "model.safetensors"}})
    assert list(DirectorySource(sharded).tensors) == ["a.weight"]


def test_wrong_directory(tmp_path):
    refuses(tmp_path / "x", f"{tmp_path / 'x'}: {NO_MODEL}")
    (tmp_path / "notes").write_text("x")
    refuses(tmp_path, f"{tmp_path}: has no config.json; give the directory of a checkpoint")


@pytest.mark.parametrize("places", [{}, [], None, "x"])
def test_wrong_weight_map(sharded, places):
    index = sharded / "model.safetensors.index.json"
    edit_json(index, weight_map=places)
    refuses(sharded, f"{index}: weight_map must name a file for each tensor; copy the file again")


@pytest.mark.parametrize("name", [
    "../m/model-00001-of-00002.safetensors", "/etc/passwd", "..", "a/b.safetensors",
    "pytorch_model.bin", "", None, 3, ["x.safetensors"],
])
def test_index_that_leads_elsewhere(sharded, name):
    index = sharded / "model.safetensors.index.json"
    edit_json(index, weight_map={"a": name})
    refuses(sharded, f"{index}: a must be in a safetensors file of this directory, not {name!r}; "
                     "do not use this checkpoint")


def test_missing_shard(sharded):
    shard = sharded / "model-00002-of-00002.safetensors"
    shard.unlink()
    refuses(sharded, f"{shard}: missing, but model.safetensors.index.json names it; download it")


def test_shard_cut_short(sharded):
    shard = sharded / "model-00002-of-00002.safetensors"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    refuses(sharded, f"{shard}: cut short, {len(data) - 1} bytes instead of {len(data)}; "
                     "copy the file again")


def test_tensor_that_the_index_promises_is_missing(sharded):
    index = sharded / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    edit_json(index, weight_map=places | {"a": "model-00001-of-00002.safetensors"})
    refuses(sharded, f"{index}: a is not in model-00001-of-00002.safetensors; copy both again")


def test_tensor_in_two_shards(sharded):
    first, second = sorted(sharded.glob("*.safetensors"))
    second.write_bytes(first.read_bytes())
    index = sharded / "model.safetensors.index.json"
    edit_json(index, weight_map={
        "model.embed_tokens.weight": first.name, "model.norm.weight": second.name})
    with pytest.raises(CheckpointError, match=(
            rf"^{second}: \S+ is in {first.name} too; copy the checkpoint again$")):
        DirectorySource(sharded)


def test_transposed_model(tmp_path):
    make_checkpoint(tmp_path / "m")
    edit_json(tmp_path / "m" / "config.json", model_type="gpt2")
    refuses(tmp_path / "m", f"{tmp_path / 'm'}: model_type gpt2 stores its matrices transposed, "
                            "which is not supported; use another model")


def test_quantized_model(tmp_path):
    make_checkpoint(tmp_path / "m")
    edit_json(tmp_path / "m" / "config.json", quantization_config={"quant_method": "gptq"})
    refuses(tmp_path / "m", f"{tmp_path / 'm'}: already quantized by gptq, by its "
                            "quantization_config; use the original checkpoint")


def test_model_without_linear_layers(tmp_path):
    make_checkpoint(tmp_path / "m", layers=0)
    refuses(tmp_path / "m", f"{tmp_path / 'm'}: has no linear layer to quantize; check the model")


def test_matrix_of_another_dtype(tmp_path):
    make_checkpoint(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    save_file({"a.weight": np.ones((2, 3), np.float64)}, path)
    refuses(tmp_path / "m", f"{path}: a.weight must be BF16, F16, F32, not F64; "
                            "convert the model first")


def test_links_to_files_that_would_be_copied(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1a2b"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (tmp_path / "secret").write_text("x")
    for name in ("tokenizer.json", "merges.txt"):
        (blobs / name).write_text("{}")
        (snapshot / name).symlink_to(Path("..", "..", "blobs", name))
    (snapshot / "LICENSE").symlink_to("merges.txt")
    assert [file.name for file in companions(snapshot)] == [
        "LICENSE", "merges.txt", "tokenizer.json"]
    for target in (tmp_path / "secret", Path("..", "..", "secret")):
        (snapshot / "notes").symlink_to(target)
        with pytest.raises(CheckpointError, match=message(
                f"{snapshot / 'notes'}: is a link to a file outside the checkpoint; replace the "
                "link by the file, or remove it")):
            companions(snapshot)
        (snapshot / "notes").unlink()
