import struct
import zlib

import numpy as np
import pytest

from golden.gemv import gemv
from golden.tiles import unpack, word_stream
from hw.config import DeviceConfig
from sim.build import build_native, device_rtl
from sim.native import NativeDevice

CONFIGS = {
    "1 lane":    DeviceConfig(lanes=1),
    "2 lanes":   DeviceConfig(lanes=2),
    "8 lanes":   DeviceConfig(lanes=8),
    "16 lanes":  DeviceConfig(lanes=16),
    "2 columns": DeviceConfig(lanes=8, columns=2, max_k=256),
}
IDENTIFY, ACTIVATIONS, SCALES, GEMV, STATUS, RESET = range(6)
INFO, ACK, RESULT, DONE, COUNTERS, ERROR = 0x80, 0x81, 0x82, 0x83, 0x84, 0xFF
NO_HEADER, OPCODE, LENGTH, DEPTH, SIZE, TRAILER, NOT_LOADED = range(1, 8)

K = 48


def pad(data, size):
    return data + bytes(-len(data) % size)


def frame(opcode, sequence=1, arg0=0, arg1=0, payload=b"", spoil_header=0, spoil_trailer=0):
    """Bytes of a request: header, payload, trailer, each of whole 64 bytes."""
    header = struct.pack("<HBBIII", 0x3354, opcode, sequence, arg0, arg1, len(payload))
    header += struct.pack("<I", zlib.crc32(header) ^ spoil_header)
    covered = pad(header, 64) + pad(payload, 64)
    return covered + pad(struct.pack("<I", zlib.crc32(covered) ^ spoil_trailer), 64)


class Job:
    """A random matrix, its scales and activations: bytes to send and sums to get."""

    def __init__(self, lanes, depth=3, blocks=2, columns=1, k=K, seed=0):
        rng = np.random.default_rng([seed, lanes, depth])
        rows, groups = 5 * lanes * blocks, k // 16
        tiles = rng.integers(0, 256, (lanes * blocks, groups, 16 * depth + 3), np.uint8)
        self.mantissas = rng.integers(1, 2**17, 27)
        self.mantissas[rng.integers(27)] = 2**17 - 1
        matrix = unpack(tiles, depth, (rows, k), self.mantissas.astype(np.float32))
        self.x = rng.integers(-128, 128, (columns, k), np.int8)
        self.words = word_stream(tiles, lanes)
        self.sums = gemv(matrix, self.x).reshape(columns, blocks, 5 * lanes)
        self.depth, self.blocks, self.columns, self.groups = depth, blocks, columns, groups

    def activations(self, column=0, **options):
        payload = self.x[column].tobytes()
        return frame(ACTIVATIONS, arg0=column, arg1=len(payload), payload=payload, **options)

    def scales(self, **options):
        return frame(SCALES, payload=self.mantissas.astype("<u4").tobytes(), **options)

    def loads(self):
        return b"".join(map(self.activations, range(self.columns))) + self.scales()

    def gemv(self, payload=None, depth=None, groups=None, columns=None, blocks=None, **options):
        def pick(value, default):
            return default if value is None else value

        arg0 = (pick(depth, self.depth) | pick(groups, self.groups) << 8
                | pick(columns, self.columns) << 24)
        return frame(GEMV, arg0=arg0, arg1=pick(blocks, self.blocks),
                     payload=pick(payload, self.words.tobytes()), **options)

    def results(self, blocks, sequence=1):
        """The RESULT answers of these blocks."""
        return [(RESULT, sequence, block, column, self.sums[column, block].astype("<i8").tobytes())
                for block in blocks for column in range(self.columns)]


class Wire:
    """A device spoken to in bytes; its answers are checked whole."""

    def __init__(self, device, config):
        self.device = device
        self.config = config
        self.lanes  = config.lanes
        self.pulled = 0

    def send(self, *parts):
        """Queue bytes; return the span of each part."""
        return [self.device.push(part) for part in parts]

    def answer(self):
        """(opcode, sequence, arg0, arg1, payload) of the next answer."""
        head = self._pull(20)
        magic, *fields, length, crc = struct.unpack("<HBBIIII", head[:20])
        assert magic == 0x3354
        assert crc == zlib.crc32(head[:16])
        body = self._pull(length)
        tail = self._pull(4)
        assert struct.unpack("<I", tail[:4])[0] == zlib.crc32(head + body)
        assert not any(head[20:] + body[length:] + tail[4:])
        return *fields, body[:length]

    def ask(self, *requests):
        """The first answer to what is sent."""
        self.send(*requests)
        return self.answer()

    def answers(self, count):
        return [self.answer() for _ in range(count)]

    def load(self, job):
        self.send(job.loads())
        for _ in range(job.columns + 1):
            assert self.answer() == (ACK, 1, 0, 0, b"")

    def silent(self, cycles=300):
        """Whether no answer comes; stalls end here."""
        self.device.stall(0)
        self.device.idle(cycles)
        return self.device.words_out * self.lanes == self.pulled

    def check(self, job):
        """A GEMV gives its row sums and DONE."""
        self.send(job.gemv())
        assert self.answers(job.blocks * job.columns) == job.results(range(job.blocks))
        assert self.answer()[:2] == (DONE, 1)

    def counters(self):
        opcode, _, _, _, payload = self.ask(frame(STATUS))
        assert opcode == COUNTERS
        return struct.unpack("<4Q", payload)

    def _pull(self, count):
        size = -(-count // self.lanes) * self.lanes
        self.pulled += size
        return self.device.pull(size)


@pytest.fixture(scope="module", params=CONFIGS)
def build(request):
    config = CONFIGS[request.param]
    return config, build_native(config.lanes, device_rtl(config)).library


@pytest.fixture
def wire(build):
    config, library = build
    with NativeDevice(library) as device:
        wire = Wire(device, config)
        yield wire
        assert wire.silent()


@pytest.fixture
def job(wire):
    return Job(wire.lanes, columns=wire.config.columns)


def error(code, opcode=0, sequence=1):
    return ERROR, sequence, code, opcode, b""


# Answers

def test_info_tells_how_the_device_was_built(wire):
    config = wire.config
    opcode, sequence, arg0, arg1, payload = wire.ask(frame(IDENTIFY, sequence=7))
    assert (opcode, sequence, arg0, arg1) == (INFO, 7, config.lanes, 0)
    assert struct.unpack("<6I", payload) == (
        1, config.lanes, config.columns, config.max_k, config.clock_hz, config.build_id)


def test_identify_of_the_protocol_document(wire):
    request = bytes.fromhex("5433000700000000000000000000000046027a50").ljust(64, b"\0")
    assert wire.ask(request + bytes.fromhex("95b388f2").ljust(64, b"\0"))[:2] == (INFO, 7)


def test_sequence_numbers_come_back(wire, job):
    for sequence in (0, 1, 127, 255):
        requests = [frame(IDENTIFY, sequence), job.activations(sequence=sequence),
                    job.scales(sequence=sequence), frame(STATUS, sequence), frame(6, sequence)]
        wire.send(*requests)
        assert [answer[1] for answer in wire.answers(len(requests))] == [sequence] * len(requests)
    for column in range(wire.config.columns):
        wire.ask(job.activations(column))
    wire.send(job.gemv(sequence=200))
    assert {answer[1] for answer in wire.answers(job.blocks * job.columns + 1)} == {200}


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("source, sink", [(0, 0), (0.3, 0), (0, 0.3), (0.5, 0.5)])
def test_row_sums_equal_golden(wire, depth, source, sink):
    job = Job(wire.lanes, depth, blocks=5, columns=wire.config.columns)
    wire.device.stall(depth, source, sink)
    wire.load(job)
    wire.check(job)


def test_loads_serve_any_number_of_gemvs(wire):
    jobs = [Job(wire.lanes, depth, blocks, wire.config.columns)
            for depth, blocks in ((1, 1), (4, 3), (2, 2))]
    for job in jobs[1:]:
        job.x, job.mantissas = jobs[0].x, jobs[0].mantissas
    wire.load(jobs[0])
    wire.check(jobs[0])
    for job in jobs[1:]:
        matrix = unpack(tiles_of(job), job.depth, (5 * wire.lanes * job.blocks, K),
                        job.mantissas.astype(np.float32))
        job.sums = gemv(matrix, job.x).reshape(job.columns, job.blocks, -1)
        wire.check(job)


def tiles_of(job):
    """Reverse of the word stream."""
    return job.words.transpose(0, 3, 1, 2).reshape(-1, job.groups, 16 * job.depth + 3)


def test_matrix_in_several_gemvs(wire):
    job = Job(wire.lanes, blocks=4, columns=wire.config.columns)
    wire.load(job)
    for low, high in ((0, 1), (1, 4)):
        wire.send(job.gemv(job.words[low:high].tobytes(), blocks=high - low))
        answers = wire.answers((high - low) * job.columns)
        assert [payload for *_, payload in answers] == [
            payload for *_, payload in job.results(range(low, high))]
        assert [block for _, _, block, _, _ in answers[::job.columns]] == list(range(high - low))
        assert wire.answer()[0] == DONE


def test_a_new_load_replaces_the_one_before(wire, job):
    wire.load(Job(wire.lanes, columns=wire.config.columns, k=16, seed=5))
    wire.load(job)
    wire.check(job)


def test_used_columns_may_be_fewer_than_built(wire, job):
    # The other column may even hold another length.
    other = Job(wire.lanes, k=16)
    wire.load(job)
    if wire.config.columns > 1:
        assert wire.ask(frame(ACTIVATIONS, arg0=1, arg1=16, payload=other.x[0].tobytes()))[0] == ACK
    job.columns = 1
    wire.check(job)


def test_largest_vector_and_row_sums(wire):
    groups, lanes = wire.config.max_k // 16, wire.lanes
    columns = wire.config.columns
    job = Job(lanes, 4, 1, columns, k=wire.config.max_k)
    # All trits of lane 0 are -1 and its codes 26; all activations are -128.
    job.words[..., 0] = 0x7E
    job.x[:] = -128
    job.mantissas[:] = 2**17 - 1
    matrix = unpack(tiles_of(job), 4, (5 * lanes, 16 * groups), job.mantissas.astype(np.float32))
    job.sums = gemv(matrix, job.x).reshape(columns, 1, -1)
    assert job.sums[0, 0, 0] == groups * 81920 * (2**17 - 1)
    wire.load(job)
    wire.check(job)


# Errors

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
    # The hunt goes on until a header counts.
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


# RESET and STATUS

def test_reset_forgets_loads_and_counters(wire, job):
    wire.load(job)
    wire.ask(frame(9))
    assert wire.ask(frame(RESET, 4)) == (ACK, 4, 0, 0, b"")
    assert wire.counters()[:3] == (1, 0, 0)
    assert wire.ask(job.gemv()) == error(NOT_LOADED, GEMV)
    for column in range(job.columns):
        wire.ask(job.activations(column))
    assert wire.ask(job.gemv()) == error(NOT_LOADED, GEMV)
    wire.ask(job.scales())
    wire.check(job)


def test_reset_in_a_payload_is_payload(wire, job):
    wire.load(job)
    # Sixteen lanes and more could not tell a frame of 128 bytes from other weights.
    job.words.reshape(-1)[:128] = np.frombuffer(frame(RESET), np.uint8)
    matrix = unpack(tiles_of(job), job.depth, (5 * wire.lanes * job.blocks, K),
                    job.mantissas.astype(np.float32))
    job.sums = gemv(matrix, job.x).reshape(job.columns, job.blocks, -1)
    wire.check(job)
    assert wire.ask(frame(9, payload=3 * frame(RESET))) == error(OPCODE, 9)
    wire.check(job)


def test_status_counts_frames_and_tells_the_last_error(wire, job):
    assert wire.counters()[:3] == (1, 0, 0)
    wire.load(job)
    good = 1 + job.columns + 1
    assert wire.counters()[:3] == (good + 1, 0, 0)
    wire.check(job)
    wire.ask(frame(IDENTIFY))
    assert wire.counters()[:3] == (good + 4, 0, 0)
    for bad, (request, code) in enumerate([
            (frame(7), OPCODE), (b"\xff" * wire.lanes, NO_HEADER), (job.gemv(depth=0), DEPTH),
            (job.gemv(b""), LENGTH), (job.gemv(blocks=0), SIZE),
            (frame(IDENTIFY, spoil_trailer=1), TRAILER), (job.scales(spoil_trailer=1), TRAILER),
            (job.gemv(), NOT_LOADED)], 1):
        assert wire.ask(request)[2] == code
        assert wire.counters()[:3] == (good + 4 + bad, bad, code)


def test_status_counts_cycles(wire):
    def ask():
        span, = wire.send(frame(STATUS))
        *_, cycles = struct.unpack("<4Q", wire.answer()[4])
        return cycles, span.last

    first, first_taken = ask()
    wire.device.idle(1000)
    second, second_taken = ask()
    assert second_taken - first_taken >= 1000
    assert second - first == second_taken - first_taken
    span, = wire.send(frame(RESET))
    wire.answer()
    third, third_taken = ask()
    assert 0 <= third_taken - span.last - third <= 1


# Silence

@pytest.mark.parametrize("part", [0.05, 0.2, 0.5, 0.8, 0.95])
def test_silence_in_the_middle_of_a_frame_only_waits(wire, job, part):
    for request, opcode in ((frame(IDENTIFY), INFO), (job.scales(), ACK)):
        cut = int(part * len(request)) // wire.lanes * wire.lanes
        wire.send(request[:cut])
        assert wire.silent(5_000)
        assert wire.ask(request[cut:])[0] == opcode
    for column in range(job.columns):
        wire.ask(job.activations(column))
    request = job.gemv()
    cut = int(part * len(request)) // wire.lanes * wire.lanes
    wire.send(request[:cut])
    wire.device.idle(5_000)
    wire.send(request[cut:])
    assert wire.answers(job.blocks * job.columns) == job.results(range(job.blocks))
    assert wire.answer()[0] == DONE


# DONE

def run_gemv(wire, job, source=0.0, sink=0.0):
    """DONE's counters and the span of the payload; the device waits for its first word."""
    request = job.gemv()
    end = 64 + job.words.size
    wire.send(request[:64])
    assert wire.silent(50)
    wire.device.stall(1, source, sink)
    span, = wire.send(request[64:end])
    assert wire.answers(job.blocks * job.columns) == job.results(range(job.blocks))
    elapsed = wire.device.cycles - span.first
    wire.send(request[end:])    # only now: a run goes on while requests are queued
    opcode, *_, payload = wire.answer()
    assert opcode == DONE
    counters = struct.unpack("<4Q", payload)
    if not sink:
        assert abs(counters[0] - elapsed) <= 3
    return counters, span


def test_done_counts_what_the_handshakes_tell(wire):
    # Long enough that no result waits for the one before.
    tails = set()
    for blocks, source in ((1, 0), (3, 0), (3, 0.3), (2, 0.7)):
        job = Job(wire.lanes, 4, blocks, wire.config.columns, k=256, seed=blocks)
        wire.load(job)
        (cycles, input_stalls, output_stalls, words), span = run_gemv(wire, job, source)
        assert words == job.words.size // wire.lanes
        assert output_stalls == 0
        assert bool(input_stalls) == bool(source)
        assert words + input_stalls == span.last - span.first + 1
        tails.add(cycles - words - input_stalls)
    # What is left is the way of the last row block to its RESULTs' last word.
    assert len(tails) == 1


def test_done_counts_output_stalls(wire):
    # A narrow matrix waits for its results, the more so when the sink does.
    job = Job(wire.lanes, 1, 12, wire.config.columns, k=16)
    wire.load(job)
    stalls = []
    for sink in (0, 0.5):
        (cycles, input_stalls, output_stalls, words), span = run_gemv(wire, job, sink=sink)
        assert words == job.words.size // wire.lanes
        # Its last word may wait inside the device, for the bank of its row block.
        taken = words + input_stalls + output_stalls
        assert span.last - span.first + 1 <= taken < cycles
        stalls.append(output_stalls)
    assert 0 < stalls[0] < stalls[1]


def test_done_does_not_count_how_long_the_trailer_takes(wire, job):
    wire.load(job)
    counters, _ = run_gemv(wire, job)
    request = job.gemv()
    wire.send(request[:64])
    assert wire.silent(50)
    wire.send(request[64:64 + job.words.size])
    assert wire.answers(job.blocks * job.columns) == job.results(range(job.blocks))
    assert wire.silent(5_000)
    opcode, *_, payload = wire.ask(request[64 + job.words.size:])
    assert opcode == DONE
    assert struct.unpack("<4Q", payload) == counters


def test_done_starts_anew_with_each_gemv(wire, job):
    wire.load(job)
    assert run_gemv(wire, job)[0] == run_gemv(wire, job)[0]
