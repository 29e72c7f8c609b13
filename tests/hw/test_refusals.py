import pytest

from support.wire import (
    ACK,
    ACTIVATIONS,
    DEPTH,
    GEMV,
    IDENTIFY,
    LENGTH,
    NO_HEADER,
    NOT_LOADED,
    OPCODE,
    RESET,
    SCALES,
    SIZE,
    STATUS,
    TRAILER,
    Job,
    error,
    frame,
)


def spoilt_mantissas(job, place):
    mantissas = job.mantissas.astype("<u4")
    mantissas[place] = 2**17
    return mantissas.tobytes()


#: Requests that are wrong in one way: their builder, the code and opcode of the ERROR.
REFUSED = {
    "opcode 6": (lambda job, config, **o: frame(6, **o), OPCODE, 6),
    "opcode of an answer": (
        lambda job, config, **o: frame(0x82, payload=bytes(100), **o), OPCODE, 0x82),
    "opcode 255": (lambda job, config, **o: frame(255, **o), OPCODE, 255),
    "payload of identify": (
        lambda job, config, **o: frame(IDENTIFY, payload=b"x", **o), LENGTH, IDENTIFY),
    "payload of status": (
        lambda job, config, **o: frame(STATUS, payload=bytes(64), **o), LENGTH, STATUS),
    "payload of reset": (
        lambda job, config, **o: frame(RESET, payload=bytes(1), **o), LENGTH, RESET),
    "too few activations": (
        lambda job, config, **o: frame(ACTIVATIONS, arg1=48, payload=bytes(32), **o),
        LENGTH, ACTIVATIONS),
    "too many activations": (
        lambda job, config, **o: frame(ACTIVATIONS, arg1=48, payload=bytes(64), **o),
        LENGTH, ACTIVATIONS),
    "no scales": (lambda job, config, **o: frame(SCALES, **o), LENGTH, SCALES),
    "26 scales": (
        lambda job, config, **o: frame(SCALES, payload=bytes(104), **o), LENGTH, SCALES),
    "28 scales": (
        lambda job, config, **o: frame(SCALES, payload=bytes(112), **o), LENGTH, SCALES),
    "no weights": (lambda job, config, **o: job.gemv(b"", **o), LENGTH, GEMV),
    "depth 0": (lambda job, config, **o: job.gemv(depth=0, **o), DEPTH, GEMV),
    "depth 5": (lambda job, config, **o: job.gemv(depth=5, **o), DEPTH, GEMV),
    "depth 255": (lambda job, config, **o: job.gemv(depth=255, **o), DEPTH, GEMV),
    "K 0": (lambda job, config, **o: frame(ACTIVATIONS, **o), SIZE, ACTIVATIONS),
    "K 24": (
        lambda job, config, **o: frame(ACTIVATIONS, arg1=24, payload=bytes(24), **o),
        SIZE, ACTIVATIONS),
    "K too large": (
        lambda job, config, **o: frame(
            ACTIVATIONS, arg1=config.max_k + 16, payload=bytes(config.max_k + 16), **o),
        SIZE, ACTIVATIONS),
    "column too large": (
        lambda job, config, **o: frame(
            ACTIVATIONS, arg0=config.columns, arg1=16, payload=bytes(16), **o),
        SIZE, ACTIVATIONS),
    "column of 32 bits": (
        lambda job, config, **o: frame(ACTIVATIONS, arg0=1 << 31, arg1=16, payload=bytes(16), **o),
        SIZE, ACTIVATIONS),
    "first mantissa 2^17": (
        lambda job, config, **o: frame(SCALES, payload=spoilt_mantissas(job, 0), **o),
        SIZE, SCALES),
    "last mantissa 2^17": (
        lambda job, config, **o: frame(SCALES, payload=spoilt_mantissas(job, 26), **o),
        SIZE, SCALES),
    "groups 0": (lambda job, config, **o: job.gemv(groups=0, **o), SIZE, GEMV),
    "groups too many": (
        lambda job, config, **o: job.gemv(groups=config.max_groups + 1, **o), SIZE, GEMV),
    "groups 65535": (lambda job, config, **o: job.gemv(groups=65535, **o), SIZE, GEMV),
    "columns 0": (lambda job, config, **o: job.gemv(columns=0, **o), SIZE, GEMV),
    "columns too many": (
        lambda job, config, **o: job.gemv(columns=config.columns + 1, **o), SIZE, GEMV),
    "columns 255": (lambda job, config, **o: job.gemv(columns=255, **o), SIZE, GEMV),
    "blocks 0": (lambda job, config, **o: job.gemv(blocks=0, **o), SIZE, GEMV),
    "fewer groups than K": (
        lambda job, config, **o: job.gemv(job.words[:1, :2].tobytes(), blocks=1, groups=2, **o),
        SIZE, GEMV),
    "more groups than K": (
        lambda job, config, **o: job.gemv(
            job.words[:1, [0, 1, 2, 2]].tobytes(), blocks=1, groups=4, **o),
        SIZE, GEMV),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_request_is_refused_with_its_code(wire, job, name):
    build, code, opcode = REFUSED[name]
    wire.load(job)
    request = build(job, wire.config, sequence=99)
    assert wire.ask(request) == error(code, opcode, 99)
    # A wrong trailer outranks what else is wrong.
    assert wire.ask(build(job, wire.config, spoil_trailer=1)) == error(TRAILER, opcode)
    assert wire.silent()
    wire.load(job)
    wire.check(job)


@pytest.mark.parametrize("opcode", [IDENTIFY, STATUS, RESET])
def test_wrong_trailer(wire, job, opcode):
    wire.load(job)
    assert wire.ask(frame(opcode, 5, spoil_trailer=1 << 31)) == error(TRAILER, opcode, 5)
    # A RESET that does not count has forgotten nothing.
    wire.check(job)


def test_wrong_trailer_of_a_gemv_stands_in_place_of_done(wire, job):
    wire.load(job)
    wire.send(job.gemv(spoil_trailer=1))
    assert wire.answers(job.blocks * job.columns) == job.results(range(job.blocks))
    assert wire.answer() == error(TRAILER, GEMV)
    wire.check(job)


@pytest.mark.parametrize("words", [-1, 1])
def test_gemv_with_a_word_too_few_or_too_many(wire, words):
    job = Job(wire.lanes, blocks=3, columns=wire.config.columns)
    wire.load(job)
    payload = job.words.tobytes()
    payload = payload + bytes(wire.lanes) if words > 0 else payload[:-wire.lanes]
    whole = 3 if words > 0 else 2
    wire.send(job.gemv(payload))
    assert wire.answers(whole * job.columns) == job.results(range(whole))
    assert wire.answer() == error(LENGTH, GEMV)
    assert wire.silent()
    wire.check(job)


@pytest.mark.parametrize("size", [1, 50, 51, 52, 3 * 51, 3 * 51 + 49, 5 * 51, 6 * 51 - 2,
                                  6 * 51 + 100, 12 * 51])
def test_gemv_of_any_wrong_length_leaves_the_next_one_right(wire, job, size):
    wire.load(job)
    payload = (2 * job.words.tobytes())[:size * wire.lanes]
    wire.send(job.gemv(payload, sequence=3))
    whole = min(size // (3 * 51), 2)
    assert wire.answers(whole * job.columns) == job.results(range(whole), 3)
    assert wire.answer() == error(LENGTH, GEMV, 3)
    wire.check(job)


def test_gemv_that_ends_within_a_word(wire, job):
    # With one lane there is no such length.
    wire.load(job)
    for cut in {1, wire.lanes - 1} - {0, wire.lanes}:
        assert wire.ask(job.gemv(job.words.tobytes()[:-cut])) == error(LENGTH, GEMV)
    wire.check(job)


def test_nothing_is_loaded_at_first(wire, job):
    assert wire.ask(job.gemv()) == error(NOT_LOADED, GEMV)
    wire.load(job)
    wire.check(job)


@pytest.mark.parametrize("missing", ["scales", "activations"])
def test_gemv_needs_both_loads(wire, job, missing):
    loads = {"scales": [job.scales()], "activations": list(map(job.activations,
                                                               range(job.columns)))}
    late = loads.pop(missing)
    for request in loads.popitem()[1]:
        assert wire.ask(request)[0] == ACK
    for request in late:
        assert wire.ask(job.gemv()) == error(NOT_LOADED, GEMV)
        assert wire.ask(request)[0] == ACK
    wire.check(job)


@pytest.mark.parametrize("load", ["scales", "activations"])
def test_damaged_load_unloads(wire, job, load):
    wire.load(job)
    build = getattr(job, load)
    assert wire.ask(build(spoil_trailer=1)) == error(TRAILER, SCALES if load == "scales" else
                                                     ACTIVATIONS)
    assert wire.ask(job.gemv()) == error(NOT_LOADED, GEMV)
    assert wire.ask(build())[0] == ACK
    wire.check(job)


def test_wrong_mantissa_unloads(wire, job):
    wire.load(job)
    assert wire.ask(frame(SCALES, payload=spoilt_mantissas(job, 3))) == error(SIZE, SCALES)
    assert wire.ask(job.gemv()) == error(NOT_LOADED, GEMV)


def test_words_that_are_no_header_are_one_error(wire, job):
    wire.load(job)
    garbage = 2 * wire.lanes * b"\xfe\x01"
    assert wire.ask(garbage) == error(NO_HEADER, sequence=0)
    # The hunt ends only at a valid header.
    wire.send(bytes(2 * wire.lanes) + garbage)
    assert wire.silent()
    wire.check(job)
    assert wire.ask(garbage) == error(NO_HEADER, sequence=0)


def test_frame_with_a_wrong_header_crc_is_one_error(wire, job):
    wire.load(job)
    assert wire.ask(job.scales(spoil_header=1)) == error(NO_HEADER, sequence=0)
    assert wire.silent()
    wire.check(job)


def test_zeros_between_frames_say_nothing(wire, job):
    wire.send(bytes(1024))
    wire.load(job)
    wire.send(bytes(320))
    assert wire.silent()
    wire.check(job)
