import json
import zlib

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.checkpoints.weight_files import REFUSAL
from tritstream.golden.matrix import TritMatrix, dequantize
from tritstream.golden.packed.matrix_warnings import table_warnings
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.quantizers.registry import method_of
from tritstream.golden.tiles import pack

from support.golden_helpers import (
    DTYPES,
    contents,
    linear_names,
    make_checkpoint,
    message,
    quantized,
    write_json,
)

UP = "model.layers.1.mlp.up_proj"


def load_all(path):
    """Every tensor of a directory, read by the safetensors library."""
    return {name: tensor for file in sorted(path.glob("*.safetensors"))
            for name, tensor in load_file(file).items()}


def load_metadata(path):
    with safe_open(path, "numpy") as file:
        return file.metadata()


def one_matrix(path, weights, name="a.weight"):
    path.mkdir()
    write_json(path / "config.json", {})
    save_file({name: weights}, path / "model.safetensors")


def expect_packed(packed, tensors, depth):
    """The directory holds these tensors, matrices quantized to ``depth``, and nothing else."""
    read = load_all(packed)
    for name in linear_names(tensors):
        matrix = quantized(tensors[f"{name}.weight"], depth)
        np.testing.assert_array_equal(read.pop(f"{name}.trits"), pack(matrix))
        np.testing.assert_array_equal(read.pop(f"{name}.scales"), matrix.table)
    for name, tensor in tensors.items():
        if name.removesuffix(".weight") not in linear_names(tensors):
            kept = read.pop(name)
            assert (kept.dtype, kept.shape) == (tensor.dtype, tensor.shape)
            assert kept.tobytes() == tensor.tobytes()
    assert read == {}


def test_bytes_of_a_small_checkpoint(tmp_path):
    # One scale, 1: code 0, table of ones. Digits of row 0: 1 for +1, 2 for -1, in D0.
    weights = np.zeros((1, 16), np.float32)
    weights[0, :3] = 1, -1, 1
    one_matrix(tmp_path / "m", weights)
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 1)
    scales = np.ones(27, "<f4").tobytes()
    trits = bytes([1, 2, 1]) + bytes(13) + bytes(3)
    header = ('{"__metadata__":{"format":"pt","tritstream":"{'
              r'\"a.trits\":{\"shape\":[1,16],\"crc32\":\"TRITS_CRC\"},'
              r'\"a.scales\":{\"shape\":[27],\"crc32\":\"SCALE_CRC\"}'
              '}","tritstream_header_crc32":"00000000"},"a.scales":{"dtype":"F32","shape":[27],"data_offsets":[0,108]},'
              '"a.trits":{"dtype":"U8","shape":[1,1,19],"data_offsets":[108,127]}}')
    header = header.replace("TRITS_CRC", f"{zlib.crc32(trits):08x}")
    header = header.replace("SCALE_CRC", f"{zlib.crc32(scales):08x}")
    header += " " * (-len(header) % 8)
    header = header.replace("00000000", f"{zlib.crc32(header.encode()):08x}")
    assert (tmp_path / "o" / "packed.safetensors").read_bytes() == (
        len(header).to_bytes(8, "little") + header.encode() + scales + trits)


@pytest.mark.parametrize("dtype", DTYPES)
def test_packs_every_dtype(tmp_path, dtype):
    tensors = make_checkpoint(tmp_path / "m", dtype)
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2)
    expect_packed(tmp_path / "o", tensors, 2)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_packs_every_depth(tmp_path, depth):
    tensors = make_checkpoint(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", depth)
    expect_packed(tmp_path / "o", tensors, depth)


@pytest.mark.parametrize("tied", [True, False])
def test_packs_shards_under_their_names(tmp_path, tied):
    tensors = make_checkpoint(tmp_path / "m", sharded=True, tied=tied)
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 3)
    expect_packed(tmp_path / "o", tensors, 3)
    source_map = json.loads((tmp_path / "m/model.safetensors.index.json").read_text())
    index = json.loads((tmp_path / "o/packed.safetensors.index.json").read_text())
    files = {name: load_file(tmp_path / "o" / name) for name in set(index["weight_map"].values())}
    assert files.keys() == {file.replace("model", "packed")
                            for file in source_map["weight_map"].values()}
    assert index["weight_map"] == {name: file for file, inside in files.items() for name in inside}
    assert index["metadata"]["total_size"] == sum(
        tensor.nbytes for inside in files.values() for tensor in inside.values())
    assert ("lm_head.weight" in index["weight_map"]) == (not tied)


def test_metadata_has_shape_and_checksum_of_every_tensor(tmp_path):
    tensors = make_checkpoint(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2)
    path = tmp_path / "o" / "packed.safetensors"
    metadata = load_metadata(path)
    assert metadata.keys() == {"format", "tritstream", "tritstream_header_crc32"}
    assert metadata["format"] == "pt"
    records = json.loads(metadata["tritstream"])
    read = load_file(path)
    assert records.keys() == read.keys()
    for name, tensor in read.items():
        weight = tensors.get(name.replace(".trits", ".weight"), tensor)
        assert records[name] == {"shape": list(weight.shape),
                                 "crc32": f"{zlib.crc32(tensor.tobytes()):08x}"}


def test_tensors_lie_where_they_can_be_mapped(tmp_path):
    make_checkpoint(tmp_path / "m", layers=3)
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 1)
    data = (tmp_path / "o" / "packed.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__")
    assert (8 + size) % 8 == 0
    for entry in header.values():
        assert entry["data_offsets"][0] % {"F32": 4, "BF16": 2, "U8": 1}[entry["dtype"]] == 0


def test_configuration_and_companions(tmp_path):
    make_checkpoint(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2)
    config = json.loads((tmp_path / "m/config.json").read_text())
    assert json.loads((tmp_path / "o/config.json").read_text()) == {
        **config, "transformers_weights": REFUSAL, "quantization_config": {
            "quant_method": "tritstream", "codec": "search", "format_version": 1,
            "weights": "packed.safetensors", "depth": 2, "group_size": 16,
            "modules_to_not_convert": ["lm_head", "model.embed_tokens"], "depths": {}}}
    index = json.loads((tmp_path / "o/model.safetensors.index.json").read_text())
    assert list(index["weight_map"].values()) == [f"{REFUSAL}.safetensors"]
    before, after = contents(tmp_path / "m"), contents(tmp_path / "o")
    assert after.keys() - before.keys() == {
        "README.md", "model.safetensors.index.json", "packed.safetensors"}
    assert before.keys() - after.keys() == {"model.safetensors"}
    for name in ("LICENSE", "chat_template.jinja", "generation_config.json", "tokenizer.json"):
        assert after[name] == before[name]


def test_depths_of_some_matrices(tmp_path):
    tensors = make_checkpoint(tmp_path / "m")
    report = pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, overrides={
        "*.up_proj": 4, UP: 1, "*.q_proj": 2})
    config = json.loads((tmp_path / "o/config.json").read_text())["quantization_config"]
    assert config["depth"] == 2
    assert config["depths"] == {"model.layers.0.mlp.up_proj": 4, UP: 1}
    read = load_all(tmp_path / "o")
    for name in linear_names(tensors):
        depth = config["depths"].get(name, 2)
        np.testing.assert_array_equal(
            read[f"{name}.trits"], pack(quantized(tensors[f"{name}.weight"], depth)))
    assert {matrix.name: matrix.depth for matrix in report.matrices}[UP] == 1


def test_modules_to_keep(tmp_path):
    tensors = make_checkpoint(tmp_path / "m", tied=False)
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, modules_to_not_convert=["layers.1"])
    read = load_all(tmp_path / "o")
    assert read[f"{UP}.weight"].tobytes() == tensors[f"{UP}.weight"].tobytes()
    assert "lm_head.trits" in read
    config = json.loads((tmp_path / "o/config.json").read_text())["quantization_config"]
    assert config["modules_to_not_convert"] == [
        "layers.1", "model.embed_tokens", "model.layers.1.mlp.down_proj", UP,
        "model.layers.1.self_attn.q_proj"]


def test_report(tmp_path):
    tensors = make_checkpoint(tmp_path / "m")
    seen = []
    report = pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, progress=seen.append)
    assert tuple(seen) == report.tensors
    assert [matrix.name for matrix in report.matrices] == sorted(linear_names(tensors))
    assert {kept.name for kept in report.kept} == {
        name for name in tensors if "_proj.weight" not in name}
    assert report.weights == 2 * (37 * 37 + 37 * 50 + 50 * 37)
    assert report.size == sum(tensor.nbytes for tensor in load_all(tmp_path / "o").values())
    assert report.warnings == ()
    up = next(matrix for matrix in report.matrices if matrix.name == UP)
    assert (up.shape, up.depth, up.kept) == ((50, 37), 2, False)
    assert up.size == 10 * 3 * 35 + 108         # 10 row tiles of 3 groups, a table
    assert up.stored_bits == 8 * up.size / (50 * 37)
    assert up.information_bits == pytest.approx(3.467, abs=1e-3)
    expect_figures(up, tensors[f"{UP}.weight"])


def expect_figures(report, weights):
    """Error, share of zeros and scales, from the matrix again."""
    matrix = quantized(weights, report.depth)
    wanted = weights.astype(np.float64)
    lost = np.square(wanted - dequantize(matrix)).sum()
    assert report.error == pytest.approx(lost / np.square(wanted).sum(), rel=1e-9)
    zeros = total = 0
    for q in matrix.q[:, :matrix.columns].ravel().tolist():
        for _ in range(matrix.depth):
            trit = (q + 1) % 3 - 1
            q = (q - trit) // 3
            zeros, total = zeros + (trit == 0), total + 1
    assert report.zero_share == zeros / total
    ends = min(matrix.table.tolist()), max(matrix.table.tolist())
    assert (report.scale_min, report.scale_max) == ends
    assert report.table_ratio == ends[1] / ends[0]


def test_warns_of_lost_scales(tmp_path):
    weights = np.zeros((3, 16), np.float32)
    weights[0], weights[1] = 1.0, 1e-6          # row 2 is zero, and has code 0 as row 1 has
    one_matrix(tmp_path / "m", weights)
    report = pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, method=method_of("tritllm-v2"))
    cure = "; `tritstream quantize --method search` fits the scales to the matrix"
    assert report.warnings == (
        "a: scales span a ratio of 1e+06, above 4000; integer products lose precision" + cure,
        "a: scale codes [0] are used but have mantissa 0; their groups, 50.0% of all that are not "
        "zero, count as zero in integer products" + cure)


def test_does_not_warn_of_a_ratio_that_does_no_harm(tmp_path):
    weights = np.full((2, 16), 1.0, np.float32)
    weights[1] = 1 / 3999
    one_matrix(tmp_path / "m", weights)
    assert pack_checkpoint(tmp_path / "m", tmp_path / "o", 2).warnings == ()


def test_does_not_name_codes_of_groups_of_zeros():
    table = np.ones(27, np.float32)
    table[[3, 5, 7]] = 1e-6
    q, codes = np.zeros((3, 16), np.int8), np.array([[3], [5], [0]], np.uint8)
    q[1:, 15] = 1
    ratio, mantissa = table_warnings("a", TritMatrix(2, (3, 16), q, codes, table))
    assert ratio.startswith("scales span a ratio of 1e+06")
    assert mantissa.startswith("scale codes [5] are used")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(tmp_path, value):
    weights = np.ones((3, 40), np.float32)
    weights[1, 17] = weights[2, 0] = value
    one_matrix(tmp_path / "m", weights)
    with pytest.raises(ValueError, match=message(
            f"a.weight must be finite, not {value} at row 1, column 17")):
        pack_checkpoint(tmp_path / "m", tmp_path / "o", 2)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("depth", [0, 5, -1, 2.5, 2.0, "2", None, True])
def test_wrong_depth(tmp_path, depth):
    make_checkpoint(tmp_path / "m")
    for arguments in ((depth,), (2, {"*": depth})):
        with pytest.raises(ValueError, match=message(f"depth must be 1..4, not {depth!r}")):
            pack_checkpoint(tmp_path / "m", tmp_path / "o", arguments[0],
                            overrides=dict(*arguments[1:]))
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("name", ["a.trits", "a.scales", "b.trits"])
def test_names_that_packed_matrices_take(tmp_path, name):
    (tmp_path / "m").mkdir()
    write_json(tmp_path / "m" / "config.json", {})
    path = tmp_path / "m" / "model.safetensors"
    save_file({"a.weight": np.ones((5, 16), np.float32), name: np.ones(27, np.float32)}, path)
    with pytest.raises(CheckpointError, match=message(
            f"{path}: {name} has a name that packed matrices take; rename it in the source")):
        pack_checkpoint(tmp_path / "m", tmp_path / "o", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_scales_of_no_matrix_are_kept(tmp_path):
    (tmp_path / "m").mkdir()
    write_json(tmp_path / "m" / "config.json", {})
    tensors = {"a.weight": np.ones((5, 16), np.float32), "b.scales": np.ones(27, np.float32)}
    save_file(tensors, tmp_path / "m" / "model.safetensors")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2)
    assert PackedCheckpoint(tmp_path / "o").kept.keys() == {"b.scales"}


def test_depth_of_a_matrix_that_is_not_there(tmp_path):
    make_checkpoint(tmp_path / "m")
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm'}: no matrix is named lm_head, for which depth 3 is requested; "
            "check the name")):
        pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, overrides={"lm_head": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
