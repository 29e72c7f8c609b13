import struct

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.golden.tiles import unpack

from support.wire import (
    ACK,
    DEPTH,
    DONE,
    GEMV,
    IDENTIFY,
    INFO,
    LENGTH,
    NO_HEADER,
    NOT_LOADED,
    OPCODE,
    RESET,
    SIZE,
    STATUS,
    TRAILER,
    Job,
    K,
    error,
    frame,
)


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
    matrix = unpack(job.tiles(), job.depth, (5 * wire.lanes * job.blocks, K),
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
    wire.send(request[end:])    # only now, because a simulation continues while requests are queued
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
