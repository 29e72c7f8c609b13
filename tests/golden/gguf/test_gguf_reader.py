import random
import struct

import numpy as np
import pytest
from gguf import GGUFReader

from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.gguf.reader import Gguf
from tritstream.golden.open_source import open_source

from support.gguf_bytes import ARRAY, FLOAT32, STRING, UINT32, field, info, made, text
from support.gguf_helpers import tiny_qwen2, write_random
from support.golden_helpers import message


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.gguf"


def refuses(path, data, fault):
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message(f"{path}: {fault}")):
        Gguf(path)


def test_reads_what_the_gguf_library_reads(file):
    tiny_qwen2(file, "Q8_0")
    mine, theirs = Gguf(file), GGUFReader(file)
    assert len(mine.metadata) == len(theirs.fields) - 3
    for key, value in mine.metadata.items():
        expected = theirs.get_field(key).contents()
        assert value == expected or np.float32(value) == np.float32(expected)
    assert len(mine.tensors) == len(theirs.tensors)
    for tensor in theirs.tensors:
        raw = mine.tensors[tensor.name]
        assert (raw.kind.name, raw.offset, raw.size) == (
            tensor.tensor_type.name, tensor.data_offset, tensor.n_bytes)
        assert raw.shape == tuple(tensor.shape.tolist()[::-1])


def test_values_of_every_type(file):
    values = {0: ("B", 200), 1: ("b", -5), 2: ("H", 60_000), 3: ("h", -300), 4: ("I", 2**32 - 1),
              5: ("i", -7), 6: ("f", 0.1), 7: ("?", True), 10: ("Q", 2**64 - 1), 11: ("q", -2**40),
              12: ("d", 0.1)}
    fields = [field(f"one.{kind}", kind, struct.pack(f"<{layout}", value))
              for kind, (layout, value) in values.items()]
    fields += [field(f"two.{kind}", ARRAY, struct.pack(f"<IQ2{layout}", kind, 2, value, value))
               for kind, (layout, value) in values.items()]
    fields.append(field("texts", ARRAY, struct.pack("<IQ", STRING, 2) + text("é") + text("")))
    file.write_bytes(made(fields))
    assert Gguf(file).metadata == {
        **{f"one.{kind}": value for kind, (_, value) in values.items()},
        **{f"two.{kind}": [value] * 2 for kind, (_, value) in values.items()},
        "texts": ["é", ""]}


def test_tensors_at_their_places(file):
    data = np.arange(80, dtype=np.float32).tobytes()
    fields = [field("general.alignment", UINT32, struct.pack("<I", 64))]
    infos = [info("b", (16,), 0, 256), info("a", (2, 32), 0, 0)]
    file.write_bytes(made(fields, infos, data, version=2, align=64))
    found = Gguf(file).tensors
    assert list(found) == ["a", "b"]
    assert found["a"].shape == (2, 32)
    assert file.read_bytes()[found["b"].offset:] == data[256:]


def test_headers_that_do_not_do(file):
    damaged = "cut short within its header, or damaged; copy the file again"
    huge = struct.pack("<Q", 2**63)
    for data, fault in (
            (b"", "empty; copy it again"),
            (b"GG", damaged),
            (b"GGUF", damaged),
            (b"GGML" + bytes(60), "not a GGUF file; give one, or a directory"),
            (made(version=1), "GGUF version 1 is not known, or the file is big-endian; convert it "
                              "with a current llama.cpp"),
            (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), damaged),
            (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), damaged),
            (made([huge + b"key"]), damaged),
            (made([field("a", STRING, huge)]), damaged),
            (made([field("a", ARRAY, struct.pack("<I", STRING) + huge)]), damaged),
            (made([field("a", ARRAY, struct.pack("<I", FLOAT32) + huge)]), damaged),
            (made([field("a", ARRAY, struct.pack("<IQIQ", ARRAY, 1, UINT32, 0))]),
             "its header has arrays of arrays; copy the file again"),
            (made([field("a", 13, b"")]),
             "its header has a value of unknown type 13; copy the file again"),
            (made([field("a", STRING, struct.pack("<Q", 1) + b"\xff")]),
             "its header holds text that is not UTF-8; copy the file again"),
            (made([field("a", 7, b"\1")] * 2), "a is twice in its header; copy the file again"),
            (made([field("general.alignment", UINT32, struct.pack("<I", 24))]),
             "general.alignment must be a power of two, not 24; copy the file again"),
            (made([field("general.alignment", STRING, text("x"))]),
             "general.alignment must be a power of two, not 'x'; copy the file again")):
        refuses(file, data, fault)


def test_tensors_that_do_not_do(file):
    two = [info("a"), info("b", offset=64)]
    for infos, data, fault in (
            ([info(shape=())], bytes(128), "a.weight has 0 dimensions; copy the file again"),
            ([info(shape=(1,) * 5)], bytes(128), "a.weight has 5 dimensions; copy the file again"),
            ([info(shape=(2, 0))], b"",
             "a.weight is F32 of shape (2, 0); copy the file again"),
            ([info(shape=(33,), kind=8)], bytes(128),
             "a.weight is Q8_0 of shape (33,); copy the file again"),
            ([info(kind=4)], bytes(128), "a.weight has ggml type 4, which is not known; update "
                                         "tritstream and gguf, or convert the model to another "
                                         "type"),
            ([info(shape=(2**62, 2**62))], bytes(128),
             f"cut short, 224 bytes, but a.weight ends at {96 + 4 * 2**124}; copy the "
             "file again"),
            ([info()], bytes(127), "cut short, 191 bytes, but a.weight ends at 192; copy the "
                                   "file again"),
            ([info(offset=2**63)], bytes(128), f"cut short, 192 bytes, but a.weight ends at "
                                               f"{64 + 2**63 + 128}; copy the file again"),
            ([info(offset=8)], bytes(256), "a.weight starts at byte 72, within another tensor or "
                                           "out of alignment; copy the file again"),
            (two, bytes(256), "b starts at byte 160, within another tensor or out of alignment; "
                              "copy the file again"),
            ([info("a"), info("a", offset=128)], bytes(256),
             "two tensors are named a; copy the file again")):
        refuses(file, made((), infos, data), fault)


def test_every_cut_is_noticed(file):
    write_random(file, "llama", "Q8_0")
    data = file.read_bytes()
    used = max(raw.offset + raw.size for raw in Gguf(file).tensors.values())
    for size in [*range(0, used, 97), used - 1]:
        file.write_bytes(data[:size])
        with pytest.raises(CheckpointError):
            open_source(file)


def test_no_damage_of_the_header_goes_beyond_an_error(file):
    tiny_qwen2(file, "F16")
    data, rng = file.read_bytes(), random.Random(0)
    start = min(raw.offset for raw in Gguf(file).tensors.values())
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(3):
            place = rng.randrange(start) if rng.random() < 0.5 else rng.randrange(600)
            damaged[place] = rng.randrange(256)
        file.write_bytes(damaged)
        try:
            source = open_source(file)
        except CheckpointError as error:
            assert "\n" not in str(error)
        else:
            source.tensors["model.norm.weight"].read()


def test_file_cut_while_it_is_read(file):
    write_random(file, "llama", "Q8_0")
    source = open_source(file)
    name, tensor = list(source.tensors.items())[-1]
    file.write_bytes(file.read_bytes()[:tensor.raw.offset + 3])
    with pytest.raises(CheckpointError, match=message(
            f"{file}: cut short while {tensor.raw.name} was read; copy it again")):
        source.read(name)
