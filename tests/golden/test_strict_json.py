import json
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritstream.golden.checkpoints.safetensors_reader import Shard, load_json
from tritstream.golden.errors import CheckpointError, is_printable, one_line
from tritstream.golden.quantizers.moments import Moment, Moments, write_moments
from tritstream.golden.strict_json import parse_json

from support.golden_helpers import message, save_sealed

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-2**70, 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(string.printable), inner,
                                                                max_size=4), max_leaves=20)


@given(PLAIN)
def test_json_is_read_as_it_was_written(value):
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False, indent=1).encode()) == value


@given(st.binary(max_size=60))
def test_json_that_is_read_can_be_written(data):
    try:
        value = parse_json(data)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert parse_json(json.dumps(value, ensure_ascii=False, allow_nan=False).encode()) == value


@pytest.mark.parametrize(("text", "fault"), [
    (b'{"a":1,"a":1}', "'a' is twice in it"), (b'{"b":{"a":1,"b":2,"a":3}}', "'a' is twice in it"),
    (b"[NaN]", "NaN is no number of JSON"), (b"-Infinity", "-Infinity is no number of JSON"),
    (b"1e999", "1e999 is too large"),
    (b"[" * 66 + b"]" * 66, "more than 64 levels of objects and lists"),
    (b"[" * 100000, "more than 64 levels of objects and lists"),
])
def test_json_that_parsers_read_differently(text, fault):
    with pytest.raises(ValueError, match=message(fault)):
        parse_json(text)


@pytest.mark.parametrize("text", [
    b"", b"{", b"\xff", '"a"'.encode("utf-16"), b'\xef\xbb\xbf""', rb'"\ud800"', rb'{"\udfff":1}',
    b"9" * 5000,
])
def test_text_that_is_not_json_in_utf8(text):
    with pytest.raises(ValueError, match=r"\A.+\Z"):      # one line
        parse_json(text)


def test_infinities_where_they_may_be():
    assert parse_json(b'{"a":[0.0,Infinity,-Infinity,1e999]}', finite=False) == {
        "a": [0.0, float("inf"), float("-inf"), float("inf")]}


def test_levels_that_are_taken():
    assert parse_json(b"[" * 64 + b"]" * 64)


@given(st.text())
def test_messages_are_one_line(text):
    line = str(CheckpointError(text))
    assert is_printable(line)
    assert line == text or not text.isprintable() or len(text) > 1000
    assert len(line) <= 10 * 1006


def test_messages_have_an_end():
    assert one_line("a" * 400 + "b" * 4000 + "c" * 400) == (
        "a" * 400 + "b" * 100 + " ... " + "b" * 100 + "c" * 400)
    assert one_line("x\n\x1b[2J\ud800") == r"x\n\x1b[2J\ud800"


def header(path, text, data=b""):
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize("entry", [
    {"dtype": "U8", "shape": [0, 1 << 70], "data_offsets": [0, 0]},
    {"dtype": "U8", "shape": [0] + [1 << 20] * 3, "data_offsets": [0, 0]},
    {"dtype": "U8", "shape": [1] * 65, "data_offsets": [0, 1]},
    {"dtype": "F4", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 0]},
])
def test_shapes_that_numpy_cannot_have(tmp_path, entry):
    path = header(tmp_path / "x", json.dumps({"t": entry}).encode(), bytes(1))
    with pytest.raises(CheckpointError, match=message(
            f"{path}: the header's entry of t is damaged; copy the file again")):
        Shard(path)


def test_empty_tensors_are_read(tmp_path):
    entry = {"dtype": "F32", "shape": [0, 1 << 50], "data_offsets": [0, 0]}
    path = header(tmp_path / "x", json.dumps({"t": entry}).encode())
    assert Shard(path).tensors["t"].read().shape == (0, 1 << 50)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2Jx", "\u202ex", "a\0"])
def test_names_that_cannot_be_shown(tmp_path, name):
    entry = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    path = header(tmp_path / "x", json.dumps({name: entry}).encode(), b"x")
    with pytest.raises(CheckpointError, match="'s entry of .* is damaged; copy the file again$"):
        Shard(path)


@pytest.mark.parametrize("text", [
    b'{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
    b'"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
    '{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.encode("utf-16-le"),
])
def test_headers_that_another_reader_takes_differently(tmp_path, text):
    path = header(tmp_path / "x", text, b"x")
    with pytest.raises(CheckpointError, match="its header is not a JSON object; copy the file "
                                              "again$"):
        Shard(path)


def test_a_header_above_the_limit_of_the_format(tmp_path):
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.write((100_000_001).to_bytes(8, "little"))
        file.truncate(200_000_000)
    with pytest.raises(CheckpointError, match="cut short within its header"):
        Shard(path)


def test_a_configuration_that_could_not_be_written_again(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"a": ' + "[" * 500 + "]" * 500 + "}")
    with pytest.raises(CheckpointError, match=message(
            f"{path}: not JSON (more than 64 levels of objects and lists); copy the file again")):
        load_json(path)


ONES = Moment(np.ones((16, 16), np.float32), np.ones(4, np.float32))


def test_moments_that_are_views_are_written_as_they_are(tmp_path):
    inputs = np.arange(512, dtype=np.float32).reshape(16, 32)[:, ::2]
    write_moments(tmp_path / "m", {"a": Moment(inputs, ONES.results)}, {})
    assert (Moments(tmp_path / "m").of("a", (4, 16)).inputs == inputs).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
@pytest.mark.parametrize("where", ["inputs", "results"])
def test_files_that_are_not_moments(tmp_path, where, value):
    parts = {"inputs": ONES.inputs.copy(), "results": ONES.results.copy()}
    parts[where][(3,) * parts[where].ndim] = value
    save_sealed({f"a.{end}": part for end, part in parts.items()}, tmp_path / "m",
                {"tritstream_moments": "{}"})
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm'}: moments of a are no means of squares; calibrate again with this "
            "model")):
        Moments(tmp_path / "m").of("a", (4, 16))


@pytest.mark.parametrize("text", ["", "3", "[" * 10000, '{"a": NaN}'])
def test_moments_made_of_nothing(tmp_path, text):
    save_sealed({"a.inputs": ONES.inputs}, tmp_path / "m", {"tritstream_moments": text})
    with pytest.raises(CheckpointError, match="in its metadata cannot be read; calibrate again$"):
        Moments(tmp_path / "m")
