"""The vectors: frozen, what another implementation makes of the documents, what the RTL does."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from conformance import codec
from conformance.device import Device, build_frame
from conformance.files import FORMS, Rejected, read_checkpoint
from vector_cases import all_vectors
from wire import CONFIGS

from hw.config import LANE_COUNTS, DeviceConfig
from scripts.vectors.replay import mismatch
from scripts.vectors.vector_set import MANIFEST
from sim.build import build_native, device_rtl
from sim.native import NativeDevice

FROZEN = Path(__file__).parent / "vectors" / MANIFEST
DEPTHS = (1, 2, 3, 4)


def described(path):
    return json.loads(all_vectors()[path])


def paths(start, end=".json"):
    return [path for path in all_vectors() if path.startswith(start) and path.endswith(end)]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """What the independent reader finds in each checkpoint."""
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
    due = [described(path) for path in paths(f"products/d{depth}/")]
    assert {each["matrix"] for each in due} == matrices.keys()
    for each in due:
        check_product(matrices[each["matrix"]], each)


def check_product(matrix, due):
    assert (matrix.depth, list(matrix.shape), matrix.table) == (
        due["depth"], due["shape"], due["table"])
    scales = codec.mantissas(matrix.table)
    assert scales == due["mantissas"]
    q, codes = codec.unpack(matrix)
    if "q" in due:
        check_weights(matrix, q, codes, due)
    for product in due["products"]:
        if "floats" in product:
            assert codec.activations(product["floats"]) == (product["x"], product["x_scale"])
        assert codec.row_sums(q, codes, scales, product["x"]) == product["sums"]
        given = product["sums"], matrix.table, matrix.depth, product["x_scale"]
        assert codec.results(*given) == product["results"]
        if "bias" in due:
            assert codec.results(*given, due["bias"]) == product["results_with_bias"]


def check_weights(matrix, q, codes, due):
    assert (q, codes) == (due["q"], due["codes"])
    assert codec.export(matrix, q, codes) == due["weights"]


def test_forms(packed):
    matrices, kept = packed["forms"]
    due = {each["matrix"]: each for each in map(described, paths("weights/"))}
    assert due.keys() == matrices.keys()
    for name, each in due.items():
        matrix = matrices[name]
        assert (matrix.form, matrix.dtype, matrix.table) == (
            each["form"], each["dtype"], each["table"])
        check_weights(matrix, *codec.unpack(matrix), each)
    assert {name: len(data) for name, data in kept.items()} == {
        "model.embed_tokens.weight": 30, "note": 7, "counter": 8, "mask": 3, "empty": 0, "bias": 8}


def test_forms_differ(packed):
    """No other form would give the weights of a matrix that names one."""
    matrices, _ = packed["forms"]
    for name, matrix in matrices.items():
        rows = list(zip(*codec.unpack(matrix), strict=True))
        due = [codec.export(matrix, [q], [codes]) for q, codes in rows]
        same = [form for form in FORMS if all(
            codec.export(matrix._replace(form=form), [q], [codes]) == weights
            for (q, codes), weights in zip(rows, due, strict=True))]
        assert same == [matrix.form] or matrix.form == "s*q/h", name


@pytest.mark.parametrize("name", ["forms", "d3"])
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
    due = paths(f"words/L{lanes}/", ".bin")
    for path in due:
        depth, _, name = path.rpartition("/")[2].removesuffix(".bin").partition("-")
        assert codec.word_stream(packed[depth][0][name], lanes) == all_vectors()[path], path
    assert len(due) == 4 * 9 + (lanes == 1)


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
            due = own_request(exchange["about"], sequence, lanes, matrices, known)
            assert due is None or due == requests[start:start + size], exchange["about"]


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


def session_bytes(path):
    start = path.removesuffix(".json")
    return all_vectors()[f"{start}.requests.bin"], all_vectors()[f"{start}.answers.bin"]


def check_rtl(config):
    """All sessions that a device can be given, on the RTL; how many."""
    library = build_native(config.lanes, device_rtl(config)).library
    checked = 0
    for path in paths(f"frames/L{config.lanes}/"):
        session, (requests, answers) = described(path), session_bytes(path)
        if all(getattr(config, name) >= least for name, least in session["needs"].items()):
            with NativeDevice(library) as device:
                got = spoken(device, requests, len(answers))
            assert mismatch(session, answers, got) is None, path
            checked += 1
    return checked


def spoken(device, requests, due):
    """What a device answers; all it says, though ``due`` bytes may be enough."""
    device.push(requests)
    answers = device.pull(due)
    device.idle(1000)
    return answers + device.ready()


@pytest.mark.parametrize("name", CONFIGS)
def test_sessions_on_the_rtl(name):
    config = CONFIGS[name]
    longest = config.lanes == 1 and config.max_k == 32768
    assert check_rtl(config) == 3 + 4 * min(config.columns, 2) + longest


@pytest.mark.long
@pytest.mark.parametrize("lanes", LANE_COUNTS)
def test_all_sessions_on_the_rtl(lanes):
    assert check_rtl(DeviceConfig(lanes=lanes, columns=2)) == 11 + (lanes == 1)


def soup(rng, lanes):
    """Requests of all kinds in any order, some damaged, with garbage and zeros in between."""
    kinds = (product, product, any_load, any_gemv, any_gemv, any_other, any_other, garbage)
    return b"".join(damaged(rng, data) for _ in range(60) for data in rng.choice(kinds)(rng, lanes))


def product(rng, lanes):
    groups, blocks, depth = rng.randrange(1, 3), rng.randrange(1, 4), rng.randrange(1, 5)
    yield build_frame(64, 1, rng.randrange(256), 0, 16 * groups, rng.randbytes(16 * groups))
    yield scales(rng, 17)
    yield gemv_frame(rng, lanes, depth, groups, 1, blocks)


def any_load(rng, lanes):
    k = rng.choice([16, 32, 48, 24])
    yield build_frame(64, 1, rng.randrange(256), rng.randrange(2), k, rng.randbytes(k))
    yield scales(rng, rng.choice([17, 18]))


def any_gemv(rng, lanes):
    yield gemv_frame(rng, lanes, rng.randrange(6), rng.randrange(4), rng.randrange(3),
                     rng.randrange(4), rng.choice([0, 0, 0, 1, lanes]))


def any_other(rng, lanes):
    yield build_frame(64, rng.choice([0, 4, 4, 4, 5, 6, 255]), rng.randrange(256),
                      payload=rng.choice([b"", b"", b"x"]))


def garbage(rng, lanes):
    yield rng.choice([b"\x54", b"\x33", b"\0", b"\x54\x33"]) * 64 + rng.randbytes(64)


def scales(rng, bits):
    payload = b"".join(rng.randrange(1 << bits).to_bytes(4, "little") for _ in range(27))
    return build_frame(64, 2, rng.randrange(256), payload=payload)


def gemv_frame(rng, lanes, depth, groups, columns, blocks, more=0):
    words = rng.randbytes(blocks * groups * (16 * depth + 3) * lanes + more)
    sizes = depth | groups << 8 | columns << 24
    return build_frame(64, 3, rng.randrange(256), sizes, blocks, words)


def damaged(rng, data):
    """Data, or in one of eight cases with a bit inverted, often of a header or a trailer."""
    if rng.randrange(8):
        return data
    wrong = bytearray(data)
    wrong[rng.choice([rng.randrange(20), rng.randrange(len(data)), -64])] ^= 1 << rng.randrange(8)
    return bytes(wrong)


def frames_of(answers, lanes):
    """Answers, with what only hardware can know set to 0."""
    found = []
    while answers:
        opcode, sequence = answers[2:4]
        arg0, arg1, length = (int.from_bytes(answers[at:at + 4], "little") for at in (4, 8, 12))
        head = 20 + -20 % lanes
        payload = answers[head:head + length]
        fields = {0x80: slice(8, 24), 0x83: slice(0, 24), 0x84: slice(24, 32)}.get(opcode, slice(0))
        payload = bytearray(payload)
        payload[fields] = bytes(len(payload[fields]))
        found.append((opcode, sequence, arg0, arg1, bytes(payload)))
        answers = answers[head + length + -length % lanes + 4 + -4 % lanes:]
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_rtl_and_document_agree_on_anything(name):
    config = CONFIGS[name]
    rng = random.Random(config.lanes + config.columns)
    library = build_native(config.lanes, device_rtl(config)).library
    seen = Counter()
    for _ in range(3):
        requests = soup(rng, config.lanes)
        # A candidate that begins at the end takes no more than zeros.
        requests += bytes(64) + build_frame(64, 4, 9)
        due = Device(config.lanes, config.columns, config.max_k).feed(requests)
        with NativeDevice(library) as device:
            got = spoken(device, requests, len(due))
        assert frames_of(got, config.lanes) == frames_of(due, config.lanes)
        seen.update((opcode, arg0) if opcode == 255 else opcode
                    for opcode, _, arg0, _, _ in frames_of(due, config.lanes))
    assert seen.keys() >= {0x80, 0x81, 0x82, 0x83, 0x84, *((255, code) for code in range(1, 8))}
