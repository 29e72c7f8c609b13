"""What users give in place of a checkpoint, and what they are told."""

import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.reader import PackedCheckpoint

from support.cli_helpers import command_fails
from support.golden_helpers import NO_MODEL, make_checkpoint, message, write_json
from support.lfs_pointer import IS_POINTER, POINTER

NO_CONFIG = "has no config.json; give the directory of a checkpoint"
MERGE = ("not a model; merge it into its model first, by peft's merge_and_unload(), and give the "
         "directory of the merged model")
ORIGINAL = "use the original checkpoint"
INCOMPLETE = "the download is not complete; run it again until it ends without an error"
PICKLES = ("holds weights as pickles of PyTorch; write them as safetensors first: load the model "
           "with transformers, then model.save_pretrained(DIR)")


def refuses(path, text):
    """All ways to open a checkpoint say the same."""
    for opened in (DirectorySource, PackedCheckpoint, open_source):
        with pytest.raises(CheckpointError, match=message(text)):
            opened(path)


@pytest.fixture
def model(tmp_path):
    make_checkpoint(tmp_path / "m")
    return tmp_path / "m"


@pytest.fixture
def bare(model):
    """All but weights."""
    (model / "model.safetensors").unlink()
    return model


@pytest.mark.parametrize(("head", "text"), [
    (POINTER, IS_POINTER),
    (b"<!DOCTYPE html><title>Log in</title>",
     "is a web page, not the file itself; download the file again, with `hf download`"),
    (b"\xef\xbb\xbf{}", "begins with a byte-order mark; save it as UTF-8 without one"),
    ("{}".encode("utf-16"), "is UTF-16; save it as UTF-8")])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_is_not_what_its_name_says(model, name, head, text):
    (model / name).write_bytes(head + bytes(300 if name == "model.safetensors" else 0))
    refuses(model, f"{model / name}: {text}")


def test_an_index_or_a_shard_that_is_a_pointer(tmp_path):
    make_checkpoint(tmp_path / "m", sharded=True)
    for name in ("model-00002-of-00002.safetensors", "model.safetensors.index.json"):
        (tmp_path / "m" / name).write_bytes(POINTER)
        refuses(tmp_path / "m", f"{tmp_path / 'm' / name}: {IS_POINTER}")


def test_a_path_that_does_not_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in ("packed", "a/b/c", tmp_path / "x"):
        refuses(given, f"{given}: {NO_MODEL}")


def test_the_cache_of_the_hub(tmp_path, model):
    root = tmp_path / "hub" / "models--org--a--name"
    snapshot = root / "snapshots" / "1a2b"
    snapshot.mkdir(parents=True)
    refuses(root, f"{root}: is the hub's cache, without a snapshot of org/a--name; run `hf "
                  "download org/a--name`")
    for place in (snapshot, root / "snapshots" / "0000"):
        shutil.copytree(model, place, dirs_exist_ok=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("1a2b")
    for given in (root, root / "snapshots", tmp_path / "hub"):
        refuses(given, f"{given}: is the hub's cache; give the snapshot of org/a--name in it: "
                       f"{snapshot}")
    DirectorySource(snapshot)
    (root / "refs" / "main").unlink()
    os.utime(snapshot, (0, 0))
    refuses(root, f"{root}: is the hub's cache; give the snapshot of org/a--name in it: "
                  f"{root / 'snapshots' / '0000'}")


def test_a_directory_of_something_else(tmp_path, model):
    empty = tmp_path / "empty"
    empty.mkdir()
    refuses(empty, f"{empty}: is empty; give the directory of a checkpoint")
    (empty / "notes").write_text("x")
    refuses(empty, f"{empty}: {NO_CONFIG}")
    (empty / "model.safetensors").write_bytes(b"")
    refuses(empty, f"{empty}: has model.safetensors, but no config.json; download that file too")
    refuses(tmp_path, f"{tmp_path}: has no config.json; give the checkpoint in it: {model}")


def test_an_adapter(tmp_path, model):
    for base, of in (({"base_model_name_or_path": "org/name"}, " of org/name"), ({}, "")):
        for place in (tmp_path / "lora", model):
            place.mkdir(exist_ok=True)
            (place / "model.safetensors").unlink(missing_ok=True)
            write_json(place / "adapter_config.json", {"peft_type": "LORA", **base})
            (place / "adapter_model.safetensors").write_bytes(b"")
            refuses(place, f"{place}: is a LoRA adapter{of}, {MERGE}")


@pytest.mark.parametrize(("place", "name"), [
    ("", "model.safetensors.incomplete"), ("", "model.safetensors.aria2"),
    (".cache/huggingface/download", "2Wb.4d7a.incomplete")])
def test_a_download_that_has_not_ended(bare, place, name):
    (bare / place).mkdir(parents=True, exist_ok=True)
    (bare / place / name).write_bytes(b"")
    refuses(bare, f"{bare}: has {name}: {INCOMPLETE}")
    (bare / "config.json").unlink()
    refuses(bare, f"{bare}: has {name}: {INCOMPLETE}")


@pytest.mark.parametrize(("names", "text"), [
    ([], "has no weights: neither model.safetensors nor model.safetensors.index.json; copy or "
         "download the whole model"),
    (["consolidated.safetensors"],
     "has its weights in consolidated.safetensors, under its maker's own names of tensors; "
     "download the model in Hugging Face's format, with model.safetensors or "
     "model.safetensors.index.json"),
    (["consolidated.00.pth", "params.json"],
     "has its weights in consolidated.00.pth, under its maker's own names of tensors; download "
     "the model in Hugging Face's format, with model.safetensors or model.safetensors.index.json"),
    (["model.fp16.safetensors"],
     "has the weights of the variant fp16 only (model.fp16.safetensors); give these files the "
     "names without it, model.safetensors, to use them"),
    (["model.safetensors.index.bf16.json", "model.bf16-00001-of-00001.safetensors"],
     "has the weights of the variant bf16 only (model.bf16-00001-of-00001.safetensors); give "
     "these files the names without it, model-00001-of-00001.safetensors, to use them"),
    (["model-00001-of-00003.safetensors"],
     f"has 1 of 3 shards, and no model.safetensors.index.json; {INCOMPLETE}"),
    (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
     "has shards, but no model.safetensors.index.json, which lists their tensors; download that "
     "file too"),
    (["weights.safetensors"],
     "has weights.safetensors, but neither model.safetensors nor model.safetensors.index.json; if "
     "it holds the whole model, call it model.safetensors"),
    (["pytorch_model.bin"], PICKLES), (["training_args.bin", "pytorch_model-1.bin"], PICKLES),
    (["pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin"], PICKLES),
    (["model.pth"], PICKLES), (["model.ckpt"], PICKLES),
    (["model.onnx"], "holds an ONNX model; download the same model as safetensors"),
    (["onnx/model_q4.onnx"], "holds an ONNX model; download the same model as safetensors"),
    (["tf_model.h5"], "holds weights of TensorFlow; download the same model as safetensors"),
    (["flax_model.msgpack"], "holds weights of Flax; download the same model as safetensors"),
    (["model-q4.gguf"], "holds GGUF; give the file itself: {path}/model-q4.gguf"),
])
def test_weights_of_another_kind(bare, names, text):
    for name in names:
        (bare / name).parent.mkdir(exist_ok=True)
        (bare / name).write_bytes(b"")
    refuses(bare, f"{bare}: {text.format(path=bare)}")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_link_to_a_file_that_is_gone(model, name):
    (model / name).unlink()
    (model / name).symlink_to("../../blobs/4d7a")
    refuses(model, f"{model}: {name} in it is a link to a file that is gone; download the model "
                   "again")


def test_several_missing_shards(tmp_path):
    make_checkpoint(tmp_path / "m", sharded=True)
    index = tmp_path / "m" / "model.safetensors.index.json"
    for shard in tmp_path.glob("m/*.safetensors"):
        shard.unlink()
    refuses(tmp_path / "m", f"{index.with_name('model-00001-of-00002.safetensors')}: missing, but "
                            f"{index.name} names it, and 1 others of 2; download them")


@pytest.mark.parametrize(("fields", "by"), [
    ({"quant_method": "gptq", "bits": 4}, " by gptq"), ({"quant_method": "awq"}, " by awq"),
    ({"load_in_4bit": True}, " by bitsandbytes"), ({"bits": 4}, ""), ([4], "")])
def test_a_quantized_model(model, fields, by):
    config = json.loads((model / "config.json").read_text())
    write_json(model / "config.json", config | {"quantization_config": fields})
    quantized = f"{model}: already quantized{by}, by its quantization_config; {ORIGINAL}"
    with pytest.raises(CheckpointError, match=message(quantized)):
        DirectorySource(model)
    (model / "model.safetensors").rename(model / "gptq_model-4bit-128g.safetensors")
    with pytest.raises(CheckpointError, match=message(quantized)):
        DirectorySource(model)


@pytest.mark.parametrize(("name", "by"), [
    ("quantize_config.json", "GPTQ"), ("quant_config.json", "AWQ")])
def test_a_quantized_model_of_an_old_form(model, name, by):
    write_json(model / name, {"bits": 4})
    quantized = f"{model}: already quantized by {by}, by its {name}; {ORIGINAL}"
    with pytest.raises(CheckpointError, match=message(quantized)):
        DirectorySource(model)
    (model / "model.safetensors").rename(model / "gptq_model-4bit-128g.safetensors")
    refuses(model, quantized)


@pytest.mark.parametrize(("end", "by"), [
    ("qweight", "GPTQ or AWQ"), ("weight.absmax", "bitsandbytes"), ("SCB", "bitsandbytes"),
    ("weight_packed", "compressed-tensors")])
def test_a_quantized_model_that_says_so_nowhere(model, end, by):
    tensors = load_file(model / "model.safetensors")
    name = f"model.layers.0.mlp.up_proj.{end}"
    save_file({**tensors, name: np.ones((4, 4), np.int32)}, model / "model.safetensors")
    with pytest.raises(CheckpointError, match=message(
            f"{model}: already quantized by {by}, by its tensor {name}; {ORIGINAL}")):
        DirectorySource(model)


@pytest.mark.parametrize("none", [None, {}])
def test_a_model_that_is_quantized_by_nothing(model, none):
    config = json.loads((model / "config.json").read_text())
    write_json(model / "config.json", config | {"quantization_config": none})
    assert DirectorySource(model).matrices()


@pytest.mark.parametrize(("name", "text"), [
    ("model.safetensors", "is one file of a checkpoint; give the directory {path}"),
    ("config.json", "is one file of a checkpoint; give the directory {path}"),
    ("model.bin", PICKLES),
    ("model.tar", "is an archive; unpack it and give the directory of the checkpoint")])
def test_a_file_in_place_of_a_directory(model, name, text):
    file = model / name
    file.touch()
    refuses(file, f"{file}: {text.format(path=model)}")
    file.write_bytes(POINTER)
    refuses(file, f"{file}: {IS_POINTER}")


def test_gguf_where_a_directory_is_due(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=message(
            f"{file}: is a GGUF file; write it as a checkpoint first, with `tritstream convert`")):
        PackedCheckpoint(file)
    file.write_bytes(POINTER)
    with pytest.raises(CheckpointError, match=message(f"{file}: {IS_POINTER}")):
        open_source(file)


def test_what_quantize_has_not_ended(tmp_path, model):
    model.rename(tmp_path / "packed.partial")
    packed = tmp_path / "packed"
    refuses(packed, f"{packed}: not written to its end ({packed}.partial); run the command that "
                    "writes it again")


def test_every_command_says_it(bare, tmp_path):
    """The commands that open a checkpoint, of either kind."""
    (bare / "consolidated.safetensors").write_bytes(b"")
    out, text = tmp_path / "out", tmp_path / "text"
    text.write_text("some words")
    for command in (
            ["quantize", bare, "-o", out], ["quantize", bare, "-o", out, "--budget", 3],
            ["import", bare, "-o", out], ["calibrate", bare, "-o", out],
            ["smooth", bare, "-o", out, "--text", text], ["inspect", bare], ["verify", bare],
            ["export", bare, "-o", out], ["run", bare], ["generate", bare, "--prompt", "a"],
            ["eval", bare, "--text", text], ["load", bare, "--device", "udp://127.0.0.1"],
            ["demo", "--model", bare, "-o", out]):
        said = command_fails(*command)
        assert said.startswith(f"{bare}: has its weights in consolidated.safetensors, "), command
