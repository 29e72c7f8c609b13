"""Which tensors are packed, by names, by an architecture and on request; why others are kept."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tritstream.golden.checkpoints.choice import Architecture, Selection
from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import Finding, verify

from support.golden_helpers import make_checkpoint, message, save_halves, write_json

UP = "model.layers.0.mlp.up_proj"
WEIGHT = np.ones((4, 8), np.float32)


@pytest.fixture
def model(tmp_path):
    """Makes a checkpoint of one linear layer and some other tensors; returns its source."""
    def make(*names, **tensors):
        write_json(tmp_path / "config.json", {})
        save_file({f"{UP}.weight": WEIGHT} | dict.fromkeys(names, WEIGHT) | tensors,
                  tmp_path / "model.safetensors")
        return DirectorySource(tmp_path)
    return make


@pytest.mark.parametrize(("name", "reason"), [
    ("model.layers.0.mlp.gate.weight", "routers and gates of experts"),
    ("model.layers.0.block_sparse_moe.router.weight", "routers and gates of experts"),
    ("model.layers.0.mlp.shared_expert_gate.weight", "routers and gates of experts"),
    ("visual.blocks.0.attn.qkv.weight", "vision and audio parts"),
    ("model.vision_tower.layers.0.fc1.weight", "vision and audio parts"),
    ("audio_tower.layers.0.fc1.weight", "vision and audio parts"),
    ("multi_modal_projector.linear_1.weight", "vision and audio parts"),
    ("score.weight", "classification heads"), ("classifier.weight", "classification heads"),
    ("v_head.weight", "classification heads"), ("qa_outputs.weight", "classification heads"),
    ("model.embed_tokens.weight", "embeddings"), ("transformer.wte.weight", "embeddings"),
    ("shared.weight", "embeddings"), ("model.tok_embeddings.weight", "embeddings"),
    ("gpt_neox.embed_in.weight", "embeddings"), ("lm_head.weight", "output head"),
    ("model.layers.0.mlp.experts.3.w1.weight",
     "experts of an unknown architecture"),
    ("backbone.layers.0.mixer.dt_proj.weight", "weights that state space models use directly"),
    ("_orig_mod.model.layers.0.mlp.up_proj.weight", "not part of a plain model"),
    ("base_model.model.model.layers.0.mlp.up_proj.weight", "not part of a plain model"),
    ("model.layers.0.self_attn.q_proj.lora_A.weight", "not part of a plain model"),
    ("mtp.fc.weight", "not part of a plain model"),
])
def test_tensors_that_are_kept_by_name(model, name, reason):
    source = model(name)
    choice = source.choose(Selection())
    assert (list(choice.matrices), choice.reasons) == ([UP], {name: reason})
    module = name.removesuffix(".weight")
    assert set(source.choose(Selection(include=[module])).matrices) == {UP, module}


@pytest.mark.parametrize("name", [
    "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.gate_up_proj.weight",
    "model.layers.0.mlp.up_gate.weight", "model.scores.weight", "model.layers.0.w1.weight",
])
def test_modules_with_similar_names_are_packed(model, name):
    assert name.removesuffix(".weight") in model(name).choose(Selection()).matrices


def test_an_architecture_knows_better_than_names(model):
    head, odd, unknown = "output.weight", "model.odd.weight", "model.layers.9.mlp.up_proj.weight"
    source = model(head, odd, unknown, "model.layers.0.mlp.experts.3.w1.weight")
    architecture = Architecture(
        "Some", frozenset({UP, "output", "model.layers.0.mlp.experts.3.w1"}),
        {"model.odd": "matrices of Odd"}, frozenset({unknown}), heads=frozenset({"output"}))
    choice = source.choose(Selection(architecture=architecture))
    assert set(choice.matrices) == {UP, "model.layers.0.mlp.experts.3.w1"}
    assert choice.reasons == {head: "output head", odd: "matrices of Odd",
                              unknown: "not part of Some"}
    with pytest.raises(CheckpointError, match=message(
            f"{source.path}: model.odd cannot be included (matrices of Odd); leave it out")):
        source.choose(Selection(include=["odd"], architecture=architecture))
    with pytest.raises(CheckpointError, match=message(
            f"{source.path}: model.layers.9.mlp.up_proj cannot be included (not part of Some); "
            "leave it out")):
        source.choose(Selection(include=["layers.9.mlp.up_proj"], architecture=architecture))


def test_verify_asks_the_architecture(tmp_path):
    make_checkpoint(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 1)
    names = PackedCheckpoint(tmp_path / "o").matrices
    whole = Architecture("Some", frozenset(names))
    assert verify(tmp_path / "o", architecture=whole) == []
    other = Architecture("Some", frozenset(names) - {UP}, {UP: "matrices of Odd"},
                         frozenset({"model.norm.weight"}), ("model.head.weight",))
    assert verify(tmp_path / "o", architecture=other) == [
        Finding("model.head.weight", "Some needs it, and it is missing or of another shape, so "
                "the model cannot be loaded; pack the complete checkpoint"),
        Finding(UP, "is packed, but cannot be loaded so (matrices of Odd); pack the model again"),
        Finding("model.norm.weight", "is not part of Some, nor are 0 other tensors; they are not "
                "loaded", kind="warning")]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8, np.bool_])
def test_matrices_that_are_no_floats_are_kept(model, tmp_path, dtype):
    buffer = np.eye(4, dtype=dtype)
    source = model(**{"model.layers.0.mask.weight": buffer})
    assert source.choose(Selection()).reasons == {
        "model.layers.0.mask.weight": "integers and booleans"}
    pack_checkpoint(tmp_path, tmp_path.parent / f"o-{buffer.dtype}", 2)
    kept = PackedCheckpoint(tmp_path.parent / f"o-{buffer.dtype}").read_kept(
        "model.layers.0.mask.weight")
    np.testing.assert_array_equal(kept, buffer)


@pytest.mark.parametrize("fields", [{}, None])
def test_an_empty_quantization_config(tmp_path, fields):
    make_checkpoint(tmp_path / "m")
    write_json(tmp_path / "m" / "config.json", {"quantization_config": fields})
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 1)
    assert PackedCheckpoint(tmp_path / "o").depth == 1


def test_metadata_that_is_null(tmp_path):
    make_checkpoint(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = data[8:8 + size].replace(b'{"format":"pt"}', b"null           ")
    assert header != data[8:8 + size]
    path.write_bytes(data[:8] + header + data[8 + size:])
    # The safetensors library reads it too.
    assert load_file(path).keys() == DirectorySource(tmp_path / "m").tensors.keys()
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 1)


@pytest.mark.parametrize("counts", [0, 1])
def test_of_a_tensor_in_two_shards_the_index_says_which_counts(tmp_path, counts):
    write_json(tmp_path / "config.json", {})
    copies = [np.full((4, 8), value, ml_dtypes.bfloat16) for value in (1, 2)]
    save_halves(tmp_path, [{"a.weight": copies[0], "b.bias": copies[0]},
                           {"a.weight": copies[1], "c.bias": copies[1]}])
    names = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {
        "a.weight": names[counts], "b.bias": names[0], "c.bias": names[1]}})
    source = DirectorySource(tmp_path)
    np.testing.assert_array_equal(source.read("a.weight"), copies[counts])
    pack_checkpoint(tmp_path, tmp_path.parent / f"o{counts}", 1)
    packed = PackedCheckpoint(tmp_path.parent / f"o{counts}")
    assert packed.matrices["a"].shard == names[counts].replace("model", "packed")
    assert packed.kept.keys() == {"b.bias", "c.bias"}
    assert verify(packed.path, tmp_path) == []
