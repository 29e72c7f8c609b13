"""Models whose weights are rotated: imported, packed, exported and run."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.errors import CheckpointError
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.golden.recover.import_checkpoint import import_checkpoint
from tritstream.golden.rotation import Rotation
from tritstream.host.model.config import TritstreamConfig
from tritstream.host.model.load import load_model
from tritstream.host.model.rotated import RotatedProduct

from support.golden_helpers import message, write_json
from support.model_helpers import logits
from support.rotated_gguf import IDS, SIGNS, rotated_model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Directory with the file, the imported model and one with packed embedding; due logits."""
    path = tmp_path_factory.mktemp("rotated")
    model = rotated_model(path / "model.gguf")
    import_checkpoint(path / "model.gguf", path / "packed")
    pack_checkpoint(path / "model.gguf", path / "all", 4, include=("embed_tokens", "lm_head"))
    return path, logits(model, IDS)


def error(found, due):
    return ((found - due).norm() / due.norm()).item()


def test_an_imported_model_computes_what_the_unrotated_one_does(files):
    path, due = files
    assert error(logits(load_model(path / "packed"), IDS), due) < 1e-5
    assert error(logits(load_model(path / "packed", backend="golden"), IDS), due) < 0.05


def test_without_the_rotation_it_does_not(files, monkeypatch):
    path, due = files
    monkeypatch.setattr(RotatedProduct, "_transformed", lambda self, x: x)
    assert error(logits(load_model(path / "packed"), IDS), due) > 0.5


def test_backends_compute_the_same(files):
    path, _ = files
    wanted = logits(load_model(path / "packed", backend="golden"), IDS)
    assert torch.equal(logits(load_model(path / "packed", backend="cpu"), IDS), wanted)
    held = AutoModelForCausalLM.from_pretrained(path / "packed", dtype=torch.float32)
    assert torch.equal(logits(held, IDS), wanted)


def test_what_is_recorded(files):
    path, _ = files
    for name, count in (("packed", 14), ("all", 16)):
        packed = PackedCheckpoint(path / name)
        assert packed.config["quantization_config"]["format_version"] == 5
        rotation = packed.inputs.rotation
        assert rotation.modules == packed.matrices.keys()
        assert (len(rotation.modules), rotation.block) == (count, 64)
        assert {width: signs.tolist() for width, signs in rotation.signs.items()} == {
            width: signs.tolist() for width, signs in SIGNS.items()}
        assert verify(path / name, path / "model.gguf") == []


def test_a_packed_embedding_is_rotated_back(files, tmp_path):
    path, due = files
    model = load_model(path / "all")
    assert type(model.get_input_embeddings()).__name__ == "TritEmbedding"
    found = logits(model, IDS)
    assert error(found, due) < 0.1
    export(path / "all", tmp_path / "plain")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32).eval()
    assert error(logits(plain, IDS), found) < 1e-5


@pytest.mark.filterwarnings("ignore:You passed")
def test_plain_weights_are_not_rotated(files, tmp_path):
    path, due = files
    convert(open_source(path / "model.gguf"), tmp_path / "plain")
    export(path / "packed", tmp_path / "exported")
    read = [load_model(path / "model.gguf"), AutoModelForCausalLM.from_pretrained(
        path / "packed", dtype=torch.float32,
        quantization_config=TritstreamConfig(dequantize=True)).eval()]
    for name in ("plain", "exported"):
        assert json.loads((tmp_path / name / "config.json").read_text())["torch_dtype"] == "float32"
        read.append(AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype="auto").eval())
    for model in read:
        assert error(logits(model, IDS), due) < 1e-5


def test_without_signs(tmp_path):
    model = rotated_model(tmp_path / "model.gguf", signs={})
    import_checkpoint(tmp_path / "model.gguf", tmp_path / "packed")
    found = logits(load_model(tmp_path / "packed"), IDS)
    assert error(found, logits(model, IDS)) < 1e-5


def test_saving_keeps_the_rotation(files, tmp_path):
    path, _ = files
    AutoModelForCausalLM.from_pretrained(path / "all").save_pretrained(tmp_path / "saved")
    assert verify(tmp_path / "saved", path / "model.gguf") == []
    for member in ("rotation", "format_version"):
        before, after = (PackedCheckpoint(one).config["quantization_config"][member]
                         for one in (path / "all", tmp_path / "saved"))
        assert before == after


def test_torch_rotates_as_golden_does():
    rng = np.random.default_rng(4)
    rotation = Rotation(32, {96: rng.choice(np.int8([-1, 1]), 96)}, frozenset())
    x = rng.standard_normal((7, 96)).astype(np.float32)
    turned = RotatedProduct(lambda x: x, rotation, 96)(torch.from_numpy(x))
    assert (turned.numpy() == rotation.apply(x)).all()


@pytest.mark.parametrize(("change", "fault"), [
    ({"transform": "dct"}, "rotation has transform 'dct' and members block, modules, signs, "
                           "transform, which this version does not know; update tritstream"),
    ({"axis": 1}, "rotation has transform 'walsh-hadamard' and members axis, block, modules, "
                  "signs, transform, which this version does not know; update tritstream"),
    ({"block": 48}, "rotation cannot be read; copy it again"),
    ({"modules": []}, "rotation cannot be read; copy it again"),
    ({"signs": {"128": "ff"}}, "rotation cannot be read; copy it again"),
    ({"signs": {"128": "ff" * 16}}, "rotation names model.layers.0.mlp.down_proj, which has 256 "
     "columns, for which the rotation has no signs; copy it again"),
    ({"block": 256}, "rotation names model.layers.0.mlp.gate_proj, which has 128 columns, no "
     "multiple of the rotated block of 256; copy it again"),
    ({"modules": ["lm_head"]}, "rotation names lm_head, which is no packed matrix; copy it again"),
])
def test_records_that_are_refused(files, tmp_path, change, fault):
    path, _ = files
    config = json.loads((path / "packed" / "config.json").read_text())
    config["quantization_config"]["rotation"] |= change
    write_json(tmp_path / "config.json", config)
    (tmp_path / "packed.safetensors").symlink_to(path / "packed" / "packed.safetensors")
    with pytest.raises(CheckpointError, match=message(f"{tmp_path / 'config.json'}: {fault}")):
        PackedCheckpoint(tmp_path)
