"""A device with groups of every length and both kinds of scales, compared in every sum."""

import struct

import numpy as np
import pytest

from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import GemvArguments, longest_group
from tritstream.sim.build import build_native, device_rtl
from tritstream.sim.native import NativeDevice

from support.wire import (
    ACK,
    DONE,
    GEMV,
    LENGTH,
    NOT_LOADED,
    RESET,
    SIZE,
    ModeJob,
    Wire,
    error,
    frame,
)

#: Depth and chunks per group: the shortest, some between, the longest.
LENGTHS = [(1, 1), (1, 2), (1, 8), (1, 63), (2, 1), (2, 3), (2, 15), (3, 1), (3, 4), (4, 1)]


def some_job(wire, depth, length, direct, chunks=None, blocks=3, columns=None, **options):
    """A job of a few groups, of which the last is shorter, if the device holds so many columns."""
    most = wire.config.max_k // 16
    chunks = min(most, 2 * length + (length > 1)) if chunks is None else chunks
    columns = wire.config.columns if columns is None else columns
    return ModeJob(wire.lanes, GemvArguments(depth, chunks, columns, blocks, length, direct),
                   **options)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("source, sink", [(0, 0), (0.4, 0), (0, 0.4), (0.4, 0.4)])
def test_row_sums_are_those_of_numpy(wire, direct, source, sink):
    for number, (depth, length) in enumerate(LENGTHS):
        job = some_job(wire, depth, length, direct, seed=number)
        wire.device.stall(number, source, sink)
        wire.load(job)
        wire.check(job)


@pytest.mark.parametrize("depth, direct", [(1, False), (1, True), (2, True), (3, True)])
def test_rows_of_every_length(wire, depth, direct):
    # Of one chunk up to three groups: the last group has any number of chunks.
    length = {1: 5, 2: 4, 3: 3}[depth]
    for chunks in range(1, 3 * length + 1):
        job = some_job(wire, depth, length, direct, chunks, blocks=2, seed=chunks)
        wire.load(job)
        wire.check(job)


@pytest.mark.parametrize("depth, direct", [(1, False), (1, True), (2, True), (3, False)])
def test_groups_of_every_length(wire, depth, direct):
    for length in range(1, longest_group(depth) + 1):
        job = some_job(wire, depth, length, direct, min(wire.config.max_k // 16, length + 1),
                       blocks=1, seed=length)
        wire.load(job)
        wire.check(job)


def test_modes_follow_each_other_on_one_table(wire):
    # Scales are loaded once. What is loaded before direct mantissas is there after them.
    rng, jobs = np.random.default_rng(3), []
    modes = [(*LENGTHS[int(rng.integers(len(LENGTHS)))], bool(number % 3)) for number in range(12)]
    for number, mode in enumerate([*modes, (1, 1, False)]):
        jobs.append(some_job(wire, *mode, chunks=16, blocks=2, seed=number,
                             table=jobs[0].mantissas if jobs else None))
    assert wire.ask(jobs[0].scales())[0] == ACK
    for job in jobs:
        for column in range(job.columns):
            assert wire.ask(job.activations(column))[0] == ACK
        wire.check(job)


def test_requests_of_different_modes_without_a_pause(wire):
    jobs = [some_job(wire, 1, 4, False, 9), some_job(wire, 1, 4, True, 9),
            some_job(wire, 3, 2, True, 9), some_job(wire, 2, 9, False, 9)]
    for job in jobs[1:]:
        job.x, job.mantissas = jobs[0].x, jobs[0].mantissas
    wire.load(jobs[0])
    # The same activations and table: the sums of a job alone and of a job in a row agree.
    alone = []
    for job in jobs:
        wire.send(job.gemv())
        alone.append(wire.answers(job.blocks * job.columns + 1)[:-1])
    wire.send(b"".join(job.gemv() for job in jobs))
    for job, results in zip(jobs, alone, strict=True):
        assert wire.answers(job.blocks * job.columns + 1)[:-1] == results
    assert alone[0] == jobs[0].results(range(jobs[0].blocks))


@pytest.mark.parametrize("depth, length", LENGTHS)
@pytest.mark.parametrize("direct", [False, True])
def test_a_word_is_taken_in_every_cycle(wire, depth, length, direct):
    # A row block takes longer than its results.
    chunks = min(wire.config.max_k // 16, max(2 * length, 9))
    job = some_job(wire, depth, length, direct, chunks)
    wire.load(job)
    request, size = job.gemv(), job.words.size
    wire.device.push(request[:64])
    wire.device.idle(50)
    span = wire.device.push(request[64:64 + size])
    wire.device.push(request[64 + size:])
    assert wire.answers(job.blocks * job.columns) == job.results(range(job.blocks))
    opcode, _, _, _, payload = wire.answer()
    assert opcode == DONE
    assert struct.unpack("<4Q", payload)[1:] == (0, 0, size // wire.lanes)
    assert span.last - span.first + 1 == size // wire.lanes


@pytest.mark.parametrize("depth, sign", [(1, -1), (1, 1), (2, 1), (3, -1), (4, 1)])
def test_largest_sums_of_direct_mantissas(wire, depth, sign):
    length = longest_group(depth)
    job = some_job(wire, depth, length, True, chunks=wire.config.max_k // 16, blocks=1)
    # Trits of one sign, and bytes of 255: every mantissa is the largest.
    group = 16 * depth * length + 10
    job.words[:] = 0x7E if sign < 0 else 0xB5
    for place in range(10):
        job.words[:, group - 10 + place::group] = 0xFF
        job.words[:, place - 10] = 0xFF
    job.x[:] = -128
    value = -sign * job.x.shape[1] * (3**depth - 1) // 2 * 128 * (2**16 - 1)
    job.sums[:] = value
    wire.load(job)
    wire.send(job.gemv())
    results = [struct.unpack(f"<{5 * wire.lanes}q", answer[-1])
               for answer in wire.answers(job.columns)]
    assert {one for sums in results for one in sums} == {value}
    assert wire.answer()[0] == DONE


def test_direct_mantissas_need_no_scales(wire):
    job = some_job(wire, 2, 3, True)
    assert wire.ask(frame(RESET))[0] == ACK
    assert wire.ask(job.gemv()) == error(NOT_LOADED, GEMV)
    for column in range(job.columns):
        assert wire.ask(job.activations(column))[0] == ACK
    wire.check(job)
    assert wire.ask(job.gemv(mode=0)) == error(NOT_LOADED, GEMV)


@pytest.mark.parametrize("direct", [0, 1])
def test_longer_groups_than_the_depth_allows_are_refused(wire, direct):
    job = some_job(wire, 1, 1, False)
    wire.load(job)
    for depth in range(1, 5):
        for length in (longest_group(depth) + 1, 128):
            request = job.gemv(depth=depth, mode=direct << 7 | length - 1)
            assert wire.ask(request) == error(SIZE, GEMV)
    assert wire.ask(job.gemv(blocks=0, mode=direct << 7)) == error(SIZE, GEMV)
    wire.check(job)


@pytest.mark.parametrize("more", [-10, -7, -1, 1, 7])
def test_words_for_another_kind_of_scales_are_refused(wire, more):
    job = some_job(wire, 1, 2, True, chunks=3, blocks=1)
    wire.load(job)
    payload = (2 * job.words.tobytes())[:(job.words.shape[1] + more) * wire.lanes]
    wire.send(job.gemv(payload))
    if more > 0:
        assert wire.answers(job.columns) == job.results([0])
    assert wire.answer() == error(LENGTH, GEMV)
    wire.check(job)


@pytest.mark.long
@pytest.mark.parametrize("lanes, columns", [(4, 2), (32, 1), (64, 1), (64, 2)])
@pytest.mark.parametrize("direct", [False, True])
def test_other_devices(lanes, columns, direct):
    config = DeviceConfig(lanes, columns, 4096)
    with NativeDevice(build_native(lanes, device_rtl(config)).library) as device:
        wire = Wire(device, config)
        for number, (depth, length) in enumerate(LENGTHS):
            for share in (0, 0.35):
                device.stall(number, share, share)
                job = some_job(wire, depth, length, direct, seed=number)
                wire.load(job)
                wire.check(job)
