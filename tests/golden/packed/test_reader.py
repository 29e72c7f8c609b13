import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import CheckpointError, MatrixInfo, PackedCheckpoint
from tritstream.golden.rounding import FORM, FORMS
from tritstream.golden.tiles import pack

from support.golden_helpers import (
    NO_MODEL,
    linear_names,
    make_checkpoint,
    message,
    quantized,
    rewrite,
    save_sealed,
    write_json,
)

UP = "model.layers.1.mlp.up_proj"


@pytest.fixture
def packed(tmp_path):
    make_checkpoint(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, overrides={UP: 3})
    return tmp_path / "o"


def set_config(packed, **values):
    """Change fields of the quantization_config; None takes one out."""
    config = json.loads((packed / "config.json").read_text())
    fields = config["quantization_config"] | values
    config["quantization_config"] = {k: v for k, v in fields.items() if v is not None}
    write_json(packed / "config.json", config)


def refuses(path, text):
    with pytest.raises(CheckpointError, match=message(text)):
        PackedCheckpoint(path)


@pytest.mark.parametrize("sharded", [True, False])
def test_reads_back_what_was_packed(tmp_path, sharded):
    tensors = make_checkpoint(tmp_path / "m", sharded=sharded)
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, overrides={UP: 3})
    checkpoint = PackedCheckpoint(str(tmp_path / "o"))
    assert (checkpoint.codec, checkpoint.depth) == ("search", 2)
    assert checkpoint.config["hidden_size"] == 37
    assert sorted(checkpoint.matrices) == sorted(linear_names(tensors))
    for name, info in checkpoint.matrices.items():
        weights = tensors[f"{name}.weight"]
        assert info == MatrixInfo(name, weights.shape, 3 if name == UP else 2, info.shard)
        assert f"{name}.trits" in load_file(tmp_path / "o" / info.shard)
        expected = quantized(weights, info.depth)
        np.testing.assert_array_equal(checkpoint.tiles(name), pack(expected))
        np.testing.assert_array_equal(checkpoint.table(name), expected.table)
        matrix = checkpoint.matrix(name)
        assert (matrix.depth, matrix.shape) == (info.depth, info.shape)
        np.testing.assert_array_equal(matrix.q, expected.q)
        np.testing.assert_array_equal(matrix.codes, expected.codes)
        np.testing.assert_array_equal(matrix.table, expected.table)
    assert checkpoint.kept.keys() == {name for name in tensors if "_proj.weight" not in name}
    for name in checkpoint.kept:
        assert checkpoint.read_kept(name).dtype == tensors[name].dtype
        assert checkpoint.read_kept(name).tobytes() == tensors[name].tobytes()


def test_wrong_name(packed):
    checkpoint = PackedCheckpoint(packed)
    for read in (checkpoint.tiles, checkpoint.table, checkpoint.matrix):
        with pytest.raises(KeyError, match="no packed matrix 'lm_head' in "):
            read("lm_head")
    with pytest.raises(KeyError, match=f"no kept tensor '{UP}.trits' in "):
        checkpoint.read_kept(f"{UP}.trits")


def test_directory_that_is_not_packed(packed):
    refuses(packed / "x", f"{packed / 'x'}: {NO_MODEL}")
    source = packed.parent / "m"
    refuses(source, f"{source / 'config.json'}: has no quantization_config; "
                    "pack the checkpoint first")
    (packed / "config.json").unlink()
    refuses(packed, f"{packed}: has packed.safetensors, but no config.json; download that file too")


@pytest.mark.parametrize("method", ["gptq", 3, None])
def test_other_quant_method(packed, method):
    set_config(packed, quant_method=method)
    refuses(packed, f"{packed / 'config.json'}: quant_method must be 'tritstream', not "
                    f"{method!r}; pack the original checkpoint")


def test_form_and_dtype_of_a_matrix(packed):
    def change(_, records):
        records[f"{UP}.trits"] |= {"form": "s*(q/h) in float16", "dtype": "BF16"}

    rewrite(packed, change)
    set_config(packed, format_version=2)
    checkpoint = PackedCheckpoint(packed)
    info = checkpoint.matrices[UP]
    assert (info.form, info.dtype) == (FORMS["s*(q/h) in float16"], "BF16")
    assert checkpoint.matrix(UP).form == info.form
    others = {(info.form, info.dtype) for name, info in checkpoint.matrices.items() if name != UP}
    assert others == {(FORM, "F16")}


@pytest.mark.parametrize(("form", "dtype"), [("s+q", "F16"), ("s*q/h", "U8")])
def test_form_that_is_not_known(packed, form, dtype):
    def change(_, records):
        records[f"{UP}.trits"] |= {"form": form, "dtype": dtype}

    rewrite(packed, change)
    refuses(packed, f"{packed / 'packed.safetensors'}: {UP}.trits has form {form!r} and dtype "
                    f"{dtype!r}, which this version does not know; update tritstream")


def test_newer_format(packed):
    set_config(packed, format_version=6)
    refuses(packed, f"{packed / 'config.json'}: format_version 6 is newer than 5; "
                    "update tritstream")


@pytest.mark.parametrize(("field", "value", "fault"), [
    ("format_version", 0, "format_version must be a positive integer, not 0"),
    ("format_version", "1", "format_version must be a positive integer, not '1'"),
    ("format_version", True, "format_version must be a positive integer, not True"),
    ("format_version", None, "format_version must be a positive integer, not None"),
    ("group_size", 32, "group_size must be 16, not 32"),
    ("group_size", None, "group_size must be 16, not None"),
    ("depth", 5, "depth must be 1..4, not 5"),
    ("depth", "2", "depth must be 1..4, not '2'"),
    ("depth", None, "depth must be 1..4, not None"),
    ("depths", [], "depths must map names to depths, not []"),
    ("depths", {UP: 0}, f"{UP} must be 1..4, not 0"),
    ("depths", {"lm_head": 3, UP: 3}, "depths names lm_head, which is not packed"),
])
def test_wrong_configuration(packed, field, value, fault):
    set_config(packed, **{field: value})
    refuses(packed, f"{packed / 'config.json'}: {fault}; copy it again")


def test_depth_that_the_tiles_do_not_have(packed):
    set_config(packed, depths={UP: 4})
    refuses(packed, f"{packed / 'packed.safetensors'}: {UP}.trits must be U8 (10, 3, 67), not "
                    "U8 (10, 3, 51); copy it again")


def test_missing_weights(packed):
    (packed / "packed.safetensors").unlink()
    refuses(packed, f"{packed}: has no weights: neither packed.safetensors nor "
                    "packed.safetensors.index.json; copy or download the whole model")


def test_missing_shard(tmp_path):
    make_checkpoint(tmp_path / "m", sharded=True)
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2)
    shard = tmp_path / "o" / "packed-00001-of-00002.safetensors"
    shard.unlink()
    refuses(tmp_path / "o",
            f"{shard}: missing, but packed.safetensors.index.json names it; download it")


@pytest.mark.parametrize("size", [0, 7, 8, 100, -108, -1])
def test_file_cut_short(packed, size):
    path = packed / "packed.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=rf"^{path}: cut short[^\n]*; copy the file again$"):
        PackedCheckpoint(packed)


@pytest.mark.parametrize("metadata", [
    {}, {"tritstream": "{"}, {"tritstream": "[]"}, {"tritstream": '{"a":1}'},
    {"tritstream": '{"a":{"shape":[1]}}'}, {"tritstream": '{"a":{"shape":[1],"crc32":7}}'},
    {"tritstream": '{"a":{"shape":[1],"crc32":"0123456x"}}'},
    {"tritstream": '{"a":{"shape":[1],"crc32":" 1234567"}}'},
    {"tritstream": '{"a":{"shape":[1],"crc32":"-0012345"}}'},
    {"tritstream": '{"a":{"shape":[1],"crc32":"0123456A"}}'},
    {"tritstream": '{"a":{"shape":[1],"crc32":"01234567"},"a":{"shape":[1],"crc32":"01234567"}}'},
    {"tritstream": '{"a":{"shape":[-1],"crc32":"01234567"}}'},
])
def test_wrong_metadata(packed, metadata):
    path = packed / "packed.safetensors"
    save_sealed(load_file(path), path, metadata)
    refuses(packed, f"{path}: tritstream in its metadata cannot be read; copy it again")


def test_header_without_its_checksum(packed):
    path = packed / "packed.safetensors"
    save_file(load_file(path), path, {"tritstream": "{}"})
    refuses(packed, f"{path}: its metadata has no tritstream_header_crc32; copy it again")


@pytest.mark.parametrize(("change", "fault"), [
    (lambda t, r: t.pop("model.norm.weight"),
     "tensors and metadata disagree about model.norm.weight"),
    (lambda t, r: r.pop("model.norm.weight"),
     "tensors and metadata disagree about model.norm.weight"),
    (lambda t, r: (t.pop(f"{UP}.scales"), r.pop(f"{UP}.scales")),
     f"{UP}.trits has no {UP}.scales"),
    (lambda t, r: r[f"{UP}.trits"].update(shape=[50, 32]),
     f"{UP}.trits must be U8 (10, 2, 51), not U8 (10, 3, 51)"),
    (lambda t, r: r[f"{UP}.trits"].update(shape=[50]), f"{UP}.trits is of a matrix of shape (50,)"),
    (lambda t, r: r[f"{UP}.trits"].update(shape=[0, 37]),
     f"{UP}.trits is of a matrix of shape (0, 37)"),
    (lambda t, r: r["model.norm.weight"].update(shape=[38]),
     "model.norm.weight has shape (37,), not (38,)"),
    (lambda t, r: t.update({f"{UP}.trits": t[f"{UP}.trits"].view(np.int8)}),
     f"{UP}.trits must be U8 (10, 3, 51), not I8 (10, 3, 51)"),
    (lambda t, r: t.update({f"{UP}.scales": t[f"{UP}.scales"][:26]}),
     f"{UP}.scales must be F32 (27,), not F32 (26,)"),
    (lambda t, r: t.update({f"{UP}.scales": t[f"{UP}.scales"].astype(np.float16)}),
     f"{UP}.scales must be F32 (27,), not F16 (27,)"),
])
def test_tensors_that_do_not_agree(packed, change, fault):
    rewrite(packed, change)
    refuses(packed, f"{packed / 'packed.safetensors'}: {fault}; copy it again")


def test_checkpoint_without_matrices(packed):
    rewrite(packed, lambda t, r: [(t.pop(n), r.pop(n)) for n in [*t] if "_proj.weight" not in n
                                  and n.endswith((".trits", ".scales"))])
    refuses(packed, f"{packed}: it has no packed matrix; copy it again")


def test_matrix_with_a_damaged_table(packed):
    def damage(tensors, _):
        tensors[f"{UP}.scales"][3] = np.nan

    rewrite(packed, damage)
    with pytest.raises(CheckpointError, match=message(
            f"{packed / 'packed.safetensors'}: {UP}.scales: table must be finite and positive, "
            "not nan at code 3; copy it again")):
        PackedCheckpoint(packed).matrix(UP)


@pytest.mark.parametrize("codec", [["tritllm-v2"], {}, 3])
def test_a_codec_is_a_name(packed, codec):
    set_config(packed, codec=codec)
    refuses(packed, f"{packed / 'config.json'}: codec must be a name, not {codec!r}; copy it again")


@pytest.mark.parametrize("calibration", ["x", [], {}, {"sha256": 3}])
def test_a_calibration_has_a_digest(packed, calibration):
    set_config(packed, calibration=calibration)
    refuses(packed, f"{packed / 'config.json'}: calibration must have a sha256, not "
                    f"{calibration!r}; copy it again")
