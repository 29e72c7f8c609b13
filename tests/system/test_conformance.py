"""The vectors: frozen, and what another implementation makes of the documents."""

import json
from fractions import Fraction
from pathlib import Path

import pytest

from tritstream.hw.config import LANE_COUNTS
from tritstream.scripts.assurance.vectors.replay import mismatch
from tritstream.scripts.assurance.vectors.vector_set import MANIFEST

from conformance import codec
from conformance.device import Device, build_frame
from conformance.files import DIGIT_FORMS, FORMS, Matrix, Rejected, read_checkpoint
from conformance.floats import F32, F64, from_bits
from support.vector_cases import all_vectors, described, paths, session_bytes

FROZEN = Path(__file__).parents[1] / "vectors" / MANIFEST
DEPTHS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Contents of each checkpoint, as read by the independent reader."""
    folder = tmp_path_factory.mktemp("vectors")
    for path in paths("packed/", ""):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(all_vectors()[path])
    return {place.name: read_checkpoint(place) for place in (folder / "packed").iterdir()}


def test_nothing_has_changed():
    """A change of any byte is a change of the contract: `tritstream vectors` makes the new ones."""
    frozen, now = json.loads(FROZEN.read_bytes()), described(MANIFEST)
    changed = [path for path in frozen["files"].keys() | now["files"].keys()
               if frozen["files"].get(path) != now["files"].get(path)]
    assert sorted(changed) == []
    assert FROZEN.read_bytes() == all_vectors()[MANIFEST]


def test_trits():
    known = described("trits.json")
    assert [list(digits) for digits in codec.DIGITS] == known["digits"]
    assert [codec.canonical(byte) for byte in range(256)] == known["canonical"]
    assert known["canonical"].count(True) == 243


def test_activations():
    for each in described("activations.json")["activations"]:
        assert codec.activations(each["floats"]) == (each["x"], each["x_scale"]), each["about"]


@pytest.mark.parametrize("depth", DEPTHS)
def test_products(packed, depth):
    matrices, kept = packed[f"d{depth}"]
    assert list(kept) == ["norm.weight"]
    expected = [described(path) for path in paths(f"products/d{depth}/")]
    assert {each["matrix"] for each in expected} == matrices.keys()
    for each in expected:
        check_product(matrices[each["matrix"]], each)


def check_product(matrix, expected):
    assert (matrix.depth, list(matrix.shape), matrix.table) == (
        expected["depth"], expected["shape"], expected["table"])
    scales = codec.mantissas(matrix.table)
    assert scales == expected["mantissas"]
    q, codes = codec.unpack(matrix)
    if "q" in expected:
        check_weights(matrix, q, codes, expected)
    for product in expected["products"]:
        if "floats" in product:
            assert codec.activations(product["floats"]) == (product["x"], product["x_scale"])
        assert codec.row_sums(q, codes, scales, product["x"]) == product["sums"]
        given = product["sums"], matrix.table, matrix.depth, product["x_scale"]
        assert codec.results(*given) == product["results"]
        if "bias" in expected:
            assert codec.results(*given, expected["bias"]) == product["results_with_bias"]


def check_weights(matrix, q, codes, expected):
    assert (q, codes) == (expected["q"], expected["codes"])
    assert codec.export(matrix, q, codes) == expected["weights"]


@pytest.mark.parametrize("depth", DEPTHS)
def test_ties_are_ties(depth):
    """Check that the cases contain ties."""
    ties = described(f"products/d{depth}/ties.json")
    product, = ties["products"]
    halves = [total for total in product["sums"]
              if 1 << 24 < abs(total) < 1 << 25 and total % 2]
    assert len(halves) > 8
    assert all(from_bits(bits, F64).denominator == 2 for bits in product["floats"][1:])
    assert ties["mantissas"][:2] == [131071, 65536]
    near = described(f"products/d{depth}/near.json")
    exact = [from_bits(bits, F32) / Fraction(262142) * 131071 for bits in near["table"]]
    assert [value.denominator for value in exact].count(2) == 26
    assert [round(value) for value in exact] == near["mantissas"]
    assert described(f"products/d{depth}/wide.json")["mantissas"][17:19] == [1, 0]


def test_ties_of_mantissas_are_exact():
    """Check the statement of the document for all ties."""
    assert all(odd / 262142 * 131071 == odd / 2 for odd in range(1, 262143, 2))


def weights_of(folder):
    """Descriptions of the matrices of a checkpoint of forms."""
    found = map(described, paths("weights/"))
    return {each["matrix"]: each for each in found if each["packed"] == folder}


def test_forms_that_add_up_digits(packed):
    matrices, kept = packed["digits"]
    expected = weights_of("packed/digits")
    assert expected.keys() == matrices.keys()
    assert {each["form"] for each in expected.values()} == DIGIT_FORMS
    for name, each in expected.items():
        matrix = matrices[name]
        assert (matrix.form, matrix.dtype, matrix.table) == (
            each["form"], each["dtype"], each["table"])
        check_weights(matrix, *codec.unpack(matrix), each)
    assert not kept


def test_slices_of_experts(packed):
    matrices, kept = packed["experts"]
    due = weights_of("packed/experts")
    assert due.keys() == matrices.keys() and not kept
    for name, each in due.items():
        matrix = matrices[name]
        assert (name, matrix.axes) == (f"{each['tensor']}.{each['index']}", each["axes"])
        check_weights(matrix, *codec.unpack(matrix), each)
        weights = codec.export(matrix, *codec.unpack(matrix))
        stored = [list(row) for row in zip(*weights, strict=True)]
        assert each["slice"] == {"NK": weights, "KN": stored}[matrix.axes]
    assert {each["axes"] for each in due.values()} == {"NK", "KN"}


def test_groups(packed):
    matrices, kept = packed["groups"]
    expected = {each["matrix"]: each for each in map(described, paths("groups/"))}
    assert expected.keys() == matrices.keys() and not kept
    for name, each in expected.items():
        matrix = matrices[name]
        assert (matrix.depth, list(matrix.shape), matrix.group, matrix.kind) == (
            each["depth"], each["shape"], each["group"], each["kind"])
        assert matrix.scales == (each["scales"] if "scales" in each else [each["table"]])
        q, scales = codec.unpack_grouped(matrix)
        assert q == each["q"]
        assert codec.grouped_export(matrix, q, scales) == each["weights"]
        found, units = codec.grouped_mantissas(matrix, scales)
        assert found == each["mantissas"]
        assert units == [from_bits(bits, F64) for bits in each["units"]]
        for product in each["products"]:
            given = product["x"], product["x_scale"]
            assert codec.grouped_products(matrix, q, found, units, *given) == (
                product["sums"], product["results"])
    assert {each["kind"] for each in expected.values()} == {"coded", "direct", "inverse"}


@pytest.mark.parametrize("lanes", LANE_COUNTS)
def test_words_of_groups(packed, lanes):
    for each in map(described, paths("groups/")):
        assert each["device_group"] <= {1: 1008, 2: 240, 3: 64, 4: 16}[each["depth"]]
        words = codec.grouped_words(packed["groups"][0][each["matrix"]], each["mantissas"],
                                    each["device_group"], lanes)
        assert words == all_vectors()[f"words/L{lanes}/groups-{each['case']}.bin"], each["case"]


@pytest.mark.parametrize("name", ["forms", "digits"])
def test_file_names_of_now(packed, name):
    assert packed[f"{name}-renamed"] == packed[name]


def test_forms(packed):
    matrices, kept = packed["forms"]
    expected = weights_of("packed/forms")
    assert expected.keys() == matrices.keys()
    for name, each in expected.items():
        matrix = matrices[name]
        assert (matrix.form, matrix.dtype, matrix.table) == (
            each["form"], each["dtype"], each["table"])
        check_weights(matrix, *codec.unpack(matrix), each)
    assert {name: len(data) for name, data in kept.items()} == {
        "model.embed_tokens.weight": 30, "note": 7, "counter": 8, "mask": 3, "empty": 0, "bias": 8}


def test_forms_differ(packed):
    """Check that no other form gives the weights of a matrix."""
    matrices, _ = packed["forms"]
    for name, matrix in matrices.items():
        rows = list(zip(*codec.unpack(matrix), strict=True))
        expected = [codec.export(matrix, [q], [codes]) for q, codes in rows]
        same = [form for form in FORMS if all(
            codec.export(matrix._replace(form=form), [q], [codes]) == weights
            for (q, codes), weights in zip(rows, expected, strict=True))]
        assert same == [matrix.form] or matrix.form == "s*q/h", name


def test_shards_are_those_of_a_writer():
    """Check the rules for writers that readers do not check."""
    sizes = {"I64": 8, "F32": 4, "BF16": 2, "F16": 2, "U8": 1, "BOOL": 1}
    for path in paths("packed/", ".safetensors"):
        data = all_vectors()[path]
        length = int.from_bytes(data[:8], "little")
        text = data[8:8 + length].decode("ascii")
        header = json.loads(text)
        assert (8 + length) % 8 == 0
        assert text.rstrip(" ") == json.dumps(header, separators=(",", ":"))
        (first, metadata), *tensors = header.items()
        assert first == "__metadata__"
        assert list(metadata) == ["format", "tritstream", "tritstream_header_crc32"]
        starts = [entry["data_offsets"][0] for _, entry in tensors]
        elements = [sizes[entry["dtype"]] for _, entry in tensors]
        assert (starts, elements) == (sorted(starts), sorted(elements, reverse=True))
        assert all(start % size == 0 for start, size in zip(starts, elements, strict=True))


@pytest.mark.parametrize("name", ["forms", "d3", "forms-renamed", "experts", "groups"])
def test_damage_is_found(packed, tmp_path, name):
    """A reader of the document takes no shard in which a bit is another."""
    source = paths(f"packed/{name}/", "")
    for path in source:
        (tmp_path / Path(path).name).write_bytes(all_vectors()[path])
    shard = tmp_path / next(Path(path).name for path in source if path.endswith(".safetensors"))
    whole = shard.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    for place in (0, 8, 30, 8 + size // 2, 7 + size, 8 + size, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 2
        shard.write_bytes(damaged)
        with pytest.raises((Rejected, ValueError)):
            read_checkpoint(tmp_path)
    shard.write_bytes(whole[:-1])
    with pytest.raises(Rejected):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("lanes", LANE_COUNTS)
def test_words(packed, lanes):
    expected = paths(f"words/L{lanes}/d", ".bin")
    for path in expected:
        depth, _, name = path.rpartition("/")[2].removesuffix(".bin").partition("-")
        assert codec.word_stream(packed[depth][0][name], lanes) == all_vectors()[path], path
    assert len(expected) == 4 * 9 + (lanes == 1)


@pytest.mark.parametrize("depth, lower", [(2, 1), (3, 1), (3, 2), (4, 1), (4, 2), (4, 3)])
def test_folds_by_the_document(packed, depth, lower):
    """Digits of a matrix as rows of a lower depth: the same sums."""
    matrix = packed[f"d{depth}"][0]["ragged"]
    expected = described(f"products/d{depth}/ragged.json")
    folds, tiles = -(-depth // lower), matrix.tiles
    size = 16 * depth + 3
    folded = b"".join(
        bytes(tiles[at + j * depth + lower * fold + i] if lower * fold + i < depth else 0
              for j in range(16) for i in range(lower)) + tiles[at + 16 * depth:at + size]
        for fold in range(folds) for at in range(0, len(tiles), size))
    rows = 5 * -(-matrix.shape[0] // 5)
    q, codes = codec.unpack(Matrix(
        lower, (folds * rows, matrix.shape[1]), folded, matrix.table, matrix.form, matrix.dtype,
        matrix.axes))
    for product in expected["products"]:
        sums = codec.row_sums(q, codes, expected["mantissas"], product["x"])
        total = [sum(3 ** (lower * fold) * sums[rows * fold + row] for fold in range(folds))
                 for row in range(matrix.shape[0])]
        assert total == product["sums"]


@pytest.mark.parametrize("lanes", LANE_COUNTS)
def test_sessions_by_the_document(lanes):
    for path in paths(f"frames/L{lanes}/"):
        requests, answers = session_bytes(path)
        device = Device(lanes, columns=2)
        # In pieces that are no words, and then whole again.
        got = b"".join(device.feed(requests[at:at + 4999]) for at in range(0, len(requests), 4999))
        assert mismatch(described(path), answers, got) is None, path


@pytest.mark.parametrize("lanes", [1, 8, 64])
def test_requests_by_the_document(packed, lanes):
    """Loads and words of a packed file, in frames of one's own."""
    for depth in DEPTHS:
        path = f"frames/L{lanes}/products-d{depth}.json"
        requests, _ = session_bytes(path)
        matrices, _ = packed[f"d{depth}"]
        known = {matrix: described(f"products/d{depth}/{matrix}.json") for matrix in matrices}
        for sequence, exchange in enumerate(described(path)["exchanges"]):
            start, size = exchange["request"]
            expected = own_request(exchange["about"], sequence, lanes, matrices, known)
            assert expected is None or expected == requests[start:start + size], exchange["about"]


def own_request(about, sequence, lanes, matrices, known):
    name, _, what = about.partition(": ")
    if name not in matrices:
        return None
    matrix = matrices[name]
    if what == "scales":
        payload = b"".join(m.to_bytes(4, "little") for m in codec.mantissas(matrix.table))
        return build_frame(64, 2, sequence, payload=payload)
    vectors_by_name = {each["vector"]: each["x"] for each in known[name]["products"]}
    groups = -(-matrix.shape[1] // 16)
    if " to column " in what:
        vector, _, column = what.partition(" to column ")
        payload = bytes(value & 255 for value in vectors_by_name[vector])
        payload += bytes(-len(payload) % 16)
        return build_frame(64, 1, sequence, int(column), len(payload), payload)
    first, last = map(int, what.partition(", row blocks ")[2].split(".."))
    block = groups * (16 * matrix.depth + 3) * lanes
    words = codec.word_stream(matrix, lanes)[first * block:(last + 1) * block]
    sizes = matrix.depth | groups << 8 | 1 << 24
    return build_frame(64, 3, sequence, sizes, last + 1 - first, words)
