import zlib

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tritstream.golden.checkpoints.safetensors_reader import Shard
from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.verify import Finding, verify

from support.golden_helpers import linear_names, make_checkpoint, quantized, rewrite, write_json

UP = "model.layers.1.mlp.up_proj"


@pytest.fixture
def packed(tmp_path):
    make_checkpoint(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2)
    return tmp_path / "o"


@pytest.fixture
def tiny(tmp_path):
    """A checkpoint of so few bytes that each can be flipped: a matrix and a bias."""
    (tmp_path / "m").mkdir()
    write_json(tmp_path / "m" / "config.json", {})
    rng = np.random.default_rng(0)
    save_file({"a.weight": rng.standard_normal((6, 17)).astype(ml_dtypes.bfloat16),
               "a.bias": rng.standard_normal(3).astype(np.float16)},
              tmp_path / "m" / "model.safetensors")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 1)
    return tmp_path / "o"


def flip(data, place):
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1:]


@pytest.mark.parametrize("sharded", [True, False])
def test_nothing_to_find(tmp_path, sharded):
    tensors = make_checkpoint(tmp_path / "m", sharded=sharded)
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, overrides={UP: 4})
    names = []
    assert verify(tmp_path / "o", progress=names.append) == []
    assert sorted(names) == sorted(linear_names(tensors) + [
        name for name in tensors if name.removesuffix(".weight") not in linear_names(tensors)])
    assert verify(tmp_path / "o", tmp_path / "m") == []


def test_finds_every_flipped_byte_of_the_tensors(tiny):
    path = tiny / "packed.safetensors"
    data = path.read_bytes()
    owners = [tensor.name for tensor in Shard(path).tensors.values() for _ in range(tensor.size)]
    start = len(data) - len(owners)
    assert set(owners) == {"a.trits", "a.scales", "a.bias"}
    for place, owner in enumerate(owners, start):
        path.write_bytes(flip(data, place))
        assert any(finding.kind == "error" and finding.tensor == owner and "CRC" in finding.message
                   for finding in verify(tiny)), place
    path.write_bytes(data)
    assert verify(tiny) == []


def test_finds_every_flipped_byte_of_the_header(tiny):
    path = tiny / "packed.safetensors"
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    for place in range(header):
        for mask in (0x01, 0x20):
            path.write_bytes(data[:place] + bytes([data[place] ^ mask]) + data[place + 1:])
            try:
                found = verify(tiny)
            except CheckpointError as error:
                found = [str(error)]
                assert str(error).startswith(str(tiny))
                assert "\n" not in str(error)
            assert found, (place, mask)


def test_names_the_damage(packed):
    path = packed / "packed.safetensors"
    tensor = Shard(path).tensors[f"{UP}.trits"]
    data = path.read_bytes()
    path.write_bytes(data[:tensor.offset] + b"\xff" + data[tensor.offset + 1:])
    good = zlib.crc32(data[tensor.offset:tensor.offset + tensor.size])
    bad = zlib.crc32(b"\xff" + data[tensor.offset + 1:tensor.offset + tensor.size])
    assert Finding(f"{UP}.trits", f"CRC-32 is {bad:08x}, not {good:08x}: damaged in "
                                  "packed.safetensors") in verify(packed)


def test_finds_second_codes(packed):
    def change(tensors, _):
        tensors[f"{UP}.trits"].flat[[0, 99]] = 0xfe, 0xff

    rewrite(packed, change)
    assert Finding(f"{UP}.trits", "2 bytes are the second code of their trits",
                   "warning") in verify(packed)


@pytest.mark.parametrize(("name", "place"), [
    # 37 rows: rows 37..39 of the last tile are D2..D4; 27 = (0, 0, 0, 1, 0) has D3 = 1 only.
    ("model.layers.1.mlp.down_proj", (-1, 0, 0)),
    ("model.layers.1.mlp.down_proj", (-1, 0, 34)),
    # 37 columns: weights 5.. of the last group.
    (UP, (0, -1, 10)), (UP, (9, -1, 31)),
])
def test_finds_padding_that_is_not_zero(packed, name, place):
    def change(tensors, _):
        tensors[f"{name}.trits"][place] = 0x20

    rewrite(packed, change)
    assert Finding(f"{name}.trits", "the padding is not zero") in verify(packed)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_finds_invalid_scales(packed, value):
    def change(tensors, _):
        tensors[f"{UP}.scales"][7] = value

    rewrite(packed, change)
    assert verify(packed) == [Finding(
        f"{UP}.scales", f"table must be finite and positive, not {value} at code 7")]


def test_warns_of_lost_scales(packed):
    def change(tensors, _):
        tensors[f"{UP}.scales"][:] = np.geomspace(1e-6, 1, 27)

    rewrite(packed, change)
    ratio, mantissa = verify(packed)
    cure = f"`tritstream quantize --exclude {UP}` leaves the matrix unquantized"
    assert ratio == Finding(
        f"{UP}.scales", "scales span a ratio of 1e+06, above 4000; integer products lose "
        f"precision; {cure}", "warning")
    codes = quantized(load_file(packed.parent / "m" / "model.safetensors")[
        f"{UP}.weight"], 2).codes
    # The mantissa of code 3 is not 0: 10 ** (-6 + 6 * 3 / 26) > 2 ** -18
    lost = [int(code) for code in np.unique(codes) if code < 3]
    assert lost
    share = np.isin(codes, lost).mean()
    assert mantissa == Finding(
        f"{UP}.scales", f"scale codes {lost} are used but have mantissa 0; their groups, "
        f"{share:.1%} of all that are not zero, count as zero in integer products; {cure}",
        "warning")


def test_against_another_source(packed, tmp_path):
    def change(tensors, _):
        tensors[f"{UP}.trits"][2, 1, 3] ^= 0x01
        tensors[f"{UP}.trits"][7, 0, 0] ^= 0x01
        tensors[f"{UP}.scales"][9] *= np.float32(1.5)
        tensors["model.norm.weight"].view(np.uint8)[11] ^= 0x80

    rewrite(packed, change)
    errors = [finding for finding in verify(packed, tmp_path / "m") if finding.kind == "error"]
    assert errors == [
        Finding(UP, "its scale table is not that of the source"),
        Finding(UP, "2 tiles are not those of the source, the first at row 10, column 16"),
        Finding("model.norm.weight", "its bytes are not those of the source"),
    ]
    assert [finding for finding in verify(packed) if finding.kind == "error"] == []


def test_against_a_source_with_other_tensors(packed, tmp_path):
    path = tmp_path / "m" / "model.safetensors"
    tensors = load_file(path)
    tensors["extra.bias"] = tensors.pop("model.norm.weight")
    tensors[f"{UP}.weight"] = tensors[f"{UP}.weight"][:, :36].copy()
    tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(37, np.float32)
    save_file(tensors, path)
    assert verify(packed, tmp_path / "m") == [
        Finding("extra.bias", f"missing, but in {tmp_path / 'm'}"),
        Finding("model.norm.weight", f"not in {tmp_path / 'm'}"),
        Finding(UP, "shape is (50, 37), not (50, 36)"),
        Finding("model.layers.0.self_attn.q_proj.bias", "is BF16 (37,), not F32 (37,)"),
    ]


def test_compared_with_a_file_that_is_not_a_source(packed, tmp_path):
    with pytest.raises(CheckpointError, match="^[^\n]*: has no config.json; [^\n]*$"):
        verify(packed, tmp_path)
