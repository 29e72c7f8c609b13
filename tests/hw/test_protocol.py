import struct

import numpy as np
import pytest

from tritstream.golden.fixed_point import GROUP, GROUP_SUM_BITS, half_range
from tritstream.golden.gemv import gemv
from tritstream.golden.tiles import unpack
from tritstream.hw.protocol import GemvArguments, longest_group

from support.wire import ACK, ACTIVATIONS, DONE, IDENTIFY, INFO, STATUS, Job, K, frame


def test_gemv_arguments_are_the_fields_of_the_document():
    arguments = GemvArguments(3, 0x123, 2, 0xABCDEF, 64, True)
    assert arguments.pack() == (0x02012303, 0xBFABCDEF)
    assert GemvArguments.unpack(*arguments.pack()) == arguments
    # Those of version 1: 16 columns per group, and codes.
    assert GemvArguments(1, 2, 3, 4).pack() == (0x03000201, 4)
    assert GemvArguments.unpack(0x03000201, 4) == GemvArguments(1, 2, 3, 4, 1, False)
    rng = np.random.default_rng(0)
    for arg0, arg1 in rng.integers(0, 1 << 32, (50, 2)).tolist():
        assert GemvArguments.unpack(arg0, arg1).pack() == (arg0, arg1)


@pytest.mark.parametrize("arguments, words", [
    (GemvArguments(1, 8, 1, 1, 8, True), 138), (GemvArguments(1, 63, 1, 1, 63), 1011),
    (GemvArguments(3, 5, 1, 9, 4, True), 5 * 48 + 20), (GemvArguments(2, 3, 1, 1), 3 * 35)])
def test_words_of_a_row_block(arguments, words):
    assert arguments.block_words == words


@pytest.mark.parametrize("field, values, bits", [
    ("depth", (-1, 256), 8), ("chunks", (-1, 1 << 16), 16), ("columns", (-1, 256), 8),
    ("blocks", (-1, 1 << 24), 24), ("length", (0, 129), 7)])
def test_values_that_fit_no_field_are_refused(field, values, bits):
    for value in values:
        message = rf"^{field}.* of a GEMV must fit {bits} bits, not -?\d"
        with pytest.raises(ValueError, match=message):
            GemvArguments(**{"depth": 1, "chunks": 1, "columns": 1, "blocks": 1, field: value})


def test_the_longest_group_is_the_longest_whose_sum_fits():
    assert [longest_group(depth) for depth in range(1, 5)] == [63, 15, 4, 1]
    for depth in range(1, 5):
        largest = [GROUP * (longest_group(depth) + more) * half_range(depth) * 128
                   for more in range(2)]
        assert largest[0] < 1 << GROUP_SUM_BITS - 1 <= largest[1]
    with pytest.raises(ValueError, match=r"^depth must be 1..4, not 5$"):
        longest_group(5)


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
