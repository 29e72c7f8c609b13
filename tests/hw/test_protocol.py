import struct

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.golden.tiles import unpack

from support.wire import ACK, ACTIVATIONS, DONE, IDENTIFY, INFO, STATUS, Job, K, frame


def test_info_tells_how_the_device_was_built(wire):
    config = wire.config
    opcode, sequence, arg0, arg1, payload = wire.ask(frame(IDENTIFY, sequence=7))
    assert (opcode, sequence, arg0, arg1) == (INFO, 7, config.lanes, 0)
    assert struct.unpack("<6I", payload) == (
        2, config.lanes, config.columns, config.max_k, config.clock_hz, config.build_id)


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
        matrix = unpack(job.tiles(), job.depth, (5 * wire.lanes * job.blocks, K),
                        job.mantissas.astype(np.float32))
        job.sums = gemv(matrix, job.x).reshape(job.columns, job.blocks, -1)
        wire.check(job)


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
    matrix = unpack(job.tiles(), 4, (5 * lanes, 16 * groups), job.mantissas.astype(np.float32))
    job.sums = gemv(matrix, job.x).reshape(columns, 1, -1)
    assert job.sums[0, 0, 0] == groups * 81920 * (2**17 - 1)
    wire.load(job)
    wire.check(job)
