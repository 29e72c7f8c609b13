import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from tritstream.golden.checkpoints.safetensors_reader import Shard, is_file_name, load_json
from tritstream.golden.errors import CheckpointError

from support.golden_helpers import message, save_sealed


def write_shard(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype="U8", shape=(4,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        Shard(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_reads_what_the_library_wrote(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {
        "a": rng.standard_normal((3, 5)).astype(ml_dtypes.bfloat16),
        "b": rng.standard_normal((2, 2, 2)).astype(np.float16),
        "c": rng.standard_normal(7).astype(np.float32),
        "d": rng.integers(-9, 9, (4, 1)), "e": rng.integers(0, 2, 5).astype(bool),
        "f": np.zeros((0, 3), np.float32),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt", "who": "me"})
    shard = Shard(tmp_path / "x.safetensors")
    assert shard.metadata == {"format": "pt", "who": "me"}
    assert shard.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        read = shard.tensors[name].read()
        assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
        assert read.tobytes() == tensor.tobytes() == b"".join(shard.tensors[name].pieces())


def test_pieces_are_a_few_megabytes(tmp_path):
    data = np.random.default_rng(0).integers(0, 256, 9 << 20, dtype=np.uint8)
    save_file({"x": data}, tmp_path / "x.safetensors")
    pieces = list(Shard(tmp_path / "x.safetensors").tensors["x"].pieces())
    assert [len(piece) >> 20 for piece in pieces] == [4, 4, 1]
    assert b"".join(pieces) == data.tobytes()


def test_bytes_of_an_unknown_dtype_can_be_copied_but_not_read(tmp_path):
    path = write_shard(tmp_path / "x", {"t": entry("F4", (8,))}, b"abcd")
    tensor = Shard(path).tensors["t"]
    assert b"".join(tensor.pieces()) == b"abcd"
    with pytest.raises(CheckpointError, match=message(
            f"{path}: t is F4, which numpy cannot hold; convert it first")):
        tensor.read()


@pytest.mark.parametrize("data", [b"", b"1234567", (99).to_bytes(8, "little") + b"{}"])
def test_wrong_header_length(tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(data)
    assert refusal(path) == (f"{path}: cut short within its header, or not safetensors; "
                             "copy the file again")


@pytest.mark.parametrize("header", [b"{", b"\xff{}", b"[]", b"[" * 100000, b'{"t":1}x'])
def test_wrong_header_text(tmp_path, header):
    path = write_shard(tmp_path / "x", header)
    assert refusal(path) == f"{path}: its header is not a JSON object; copy the file again"


@pytest.mark.parametrize("metadata", [[], "x", {"a": 1}, {"a": None}])
def test_wrong_metadata(tmp_path, metadata):
    path = write_shard(tmp_path / "x", {"__metadata__": metadata})
    assert refusal(path) == f"{path}: __metadata__ must map text to text; copy the file again"


def test_sealed_header(tmp_path):
    tensors = {"t": np.arange(4, dtype=np.uint8)}
    save_sealed(tensors, tmp_path / "x", {"format": "pt"})
    assert Shard(tmp_path / "x").tensors["t"].read().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("checksum", ["00000000", "", "1234567x", '"', "\u00e9"])
def test_header_that_does_not_fit_its_checksum(tmp_path, checksum):
    save_file({"t": np.arange(4, dtype=np.uint8)}, tmp_path / "x",
              {"tritstream_header_crc32": checksum})
    assert refusal(tmp_path / "x") == (f"{tmp_path / 'x'}: its header does not fit its CRC-32; "
                                       "copy the file again")


@pytest.mark.parametrize("wrong", [
    None, [], {}, entry(dtype=3), entry(shape=(-4,)), entry(shape=("4",)), entry(shape=(True,)),
    entry(offsets=(0,)), entry(offsets=(0, 4, 4)), entry(offsets=(4, 0)), entry(offsets=(0, 4.0)),
    {"dtype": "U8", "shape": 4, "data_offsets": [0, 4]},
])
def test_wrong_entry(tmp_path, wrong):
    path = write_shard(tmp_path / "x", {"t": wrong}, b"abcd")
    assert refusal(path) == f"{path}: the header's entry of t is damaged; copy the file again"


@pytest.mark.parametrize(("dtype", "shape"), [("U8", (5,)), ("F32", (2,)), ("BF16", (4, 1))])
def test_wrong_size_for_the_shape(tmp_path, dtype, shape):
    path = write_shard(tmp_path / "x", {"t": entry(dtype, shape)}, b"abcd")
    assert refusal(path) == (f"{path}: t has 4 bytes, which is not {dtype} {shape}; "
                             "copy the file again")


@pytest.mark.parametrize("second", [(2, 6), (5, 9)])
def test_overlap_and_gap(tmp_path, second):
    path = write_shard(tmp_path / "x", {"t": entry(), "u": entry(offsets=second)}, bytes(9))
    start = path.stat().st_size - 9
    assert refusal(path) == (f"{path}: u starts at byte {start + second[0]}, not {start + 4}; "
                             "copy the file again")


@pytest.mark.parametrize(("data", "fault"), [(b"abc", "cut short"), (b"abcde", "too long")])
def test_wrong_file_size(tmp_path, data, fault):
    path = write_shard(tmp_path / "x", {"t": entry()}, data)
    size = path.stat().st_size
    assert refusal(path) == (f"{path}: {fault}, {size} bytes instead of {size - len(data) + 4}; "
                             "copy the file again")


def test_file_cut_short_after_it_was_opened(tmp_path):
    path = write_shard(tmp_path / "x", {"t": entry()}, b"abcd")
    tensor = Shard(path).tensors["t"]
    path.write_bytes(path.read_bytes()[:-1])
    pattern = message(f"{path}: cut short while t was read; copy it again")
    with pytest.raises(CheckpointError, match=pattern):
        tensor.read()
    with pytest.raises(CheckpointError, match=pattern):
        list(tensor.pieces())


@pytest.mark.parametrize(("text", "fault"), [
    ("[]", "must hold a JSON object"),
    ("{", "not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
])
def test_wrong_json(tmp_path, text, fault):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=message(f"{path}: {fault}; copy the file again")):
        load_json(path)


def test_file_names_stay_in_their_directory():
    assert is_file_name("model-00001-of-00002.safetensors")
    for name in ("", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\0", None, 3):
        assert not is_file_name(name)
