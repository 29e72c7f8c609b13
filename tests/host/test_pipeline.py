"""Requests of several matrices under way together."""

import asyncio

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host import pipeline
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup
from tritstream.host.errors import DeviceError
from tritstream.host.layout.prepare import prepare
from tritstream.host.protocol.exchange import SEQUENCES
from tritstream.host.protocol.records import Stats

from support.host_cases import ACTIVATIONS, GEMV, IDENTIFY, SCALES, STATUS, matrix_of, vectors
from support.peer import Peer
from support.peer_faults import corrupt, drop, refuse
from support.round_trips import RoundTrips

MATRICES = [matrix_of(rows, 48, seed=seed) for seed, rows in enumerate((90, 40, 35))]
ONE = [SCALES, GEMV]


class Counted(RoundTrips, Peer):
    """A peer that counts round trips."""


class Line(Counted):
    """A peer that cannot hold the driver back."""

    flow_control = False


def multiply(device, x, matrices=MATRICES):
    """Multiply, compare with golden, and return the stats."""
    async def products():
        prepared = [await device.prepare(matrix, f"m{place}")
                    for place, matrix in enumerate(matrices)]
        return await device.gemv_all(prepared, x)

    found = asyncio.run(products())
    for matrix, (sums, _) in zip(matrices, found, strict=True):
        np.testing.assert_array_equal(sums, gemv(matrix, x))
    return [stats for _, stats in found]


@pytest.mark.parametrize("x", [vectors(48), vectors(1, 48), vectors(2, 48), vectors(5, 48)],
                         ids=lambda x: str(x.shape))
def test_one_round_trip_for_all_matrices(x):
    peer = Counted(columns=2)
    stats = multiply(Device(peer), x)
    assert peer.round_trips == 2        # one is for IDENTIFY
    assert peer.log.count(ACTIVATIONS) == x.size // 48
    assert peer.log.count(GEMV) == sum(each.frames for each in stats)


def test_the_order_of_requests():
    peer = Peer()
    multiply(Device(peer), vectors(48))
    assert peer.log == [IDENTIFY, SCALES, ACTIVATIONS, GEMV, *ONE, *ONE]
    assert [request.sequence for request in peer.requests] == list(range(1, 9))


def test_without_flow_control_every_answer_is_awaited():
    peer = Line()
    multiply(Device(peer), vectors(48))
    assert peer.round_trips == len(peer.log)


def test_few_bytes_are_under_way(monkeypatch):
    monkeypatch.setattr(pipeline, "_AHEAD", 5000)
    peer = Counted()
    multiply(Device(peer), vectors(48))
    assert 2 < peer.round_trips < 5


@pytest.mark.parametrize(("numbers", "trips"), [(255, 2), (24, 2), (23, 3), (9, 4), (1, 8)])
def test_few_sequence_numbers(numbers, trips):
    """A number must not come again before every answer to its last request has come."""
    peer = Counted()
    multiply(Device(peer, sequences=SEQUENCES[:numbers]), vectors(48))
    assert peer.round_trips == trips


FAULTS = [corrupt(0, 2), corrupt(-1, 26), drop, refuse(1), refuse(6, forget=True),
          refuse(7, forget=True)]


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", range(1, 8))
def test_a_failure_repeats_what_follows_it(fault, at, eager):
    """Also if the device executed what follows on other activations or scales than it should."""
    x, old = vectors(48), vectors(48, seed=5)

    async def products(device):
        prepared = [await device.prepare(matrix) for matrix in MATRICES]
        await device.gemv_all(prepared, old)
        peer.faults = {len(peer.log) + at - 1: fault}
        return await device.gemv_all(prepared, x)

    peer = Peer()
    peer.eager = eager
    found = asyncio.run(products(Device(peer)))
    for matrix, (sums, _) in zip(MATRICES, found, strict=True):
        np.testing.assert_array_equal(sums, gemv(matrix, x))
    assert sum(stats.retries for _, stats in found) == 1
    # All seven frames, then those of the failed one and what follows; one attempt is enough.
    assert peer.log[8:15] == [SCALES, ACTIVATIONS, GEMV, *ONE, *ONE]


def test_results_on_activations_that_never_came_are_not_used():
    """The load is lost with its answer, and the products behind it look like good ones."""
    x, old = vectors(48), vectors(48, seed=5)

    async def products(device):
        prepared = [await device.prepare(matrix) for matrix in MATRICES]
        await device.gemv_all(prepared, old)
        vector = peer._model._vectors[0]

        def lost(peer, request, answers):
            peer._model._vectors[0] = vector
            return []

        peer.faults = {len(peer.log) + 1: lost}
        return await device.gemv_all(prepared, x)

    peer = Peer()
    found = asyncio.run(products(Device(peer)))
    assert [request.opcode for request in peer.requests[8:16]] == [
        SCALES, ACTIVATIONS, GEMV, *ONE, *ONE, STATUS]
    assert not peer.errors
    for matrix, (sums, _) in zip(MATRICES, found, strict=True):
        np.testing.assert_array_equal(sums, gemv(matrix, x))


def test_damaged_answers_of_several_frames_cost_one_retry():
    peer = Peer()
    peer.faults = dict.fromkeys(range(1, 8), corrupt(0, 2))
    stats = multiply(Device(peer, retries=1), vectors(48))
    assert [each.retries for each in stats] == [1, 0, 0]


def test_the_matrix_and_frame_that_fail_are_named():
    peer = Peer()
    peer.faults = {5: refuse(4)}
    with pytest.raises(DeviceError, match=r"^board: m1: GEMV of row blocks 0\.\.0 \(depth 2, "
                                          r"K = 48\): device refused GEMV with error 4 DEPTH"):
        multiply(Device(peer, name="board"), vectors(48))


def test_words_that_change_after_preparation_are_refused_by_the_device():
    async def product(device):
        prepared = await device.prepare(MATRICES[0])
        await device.gemv(prepared, x)
        prepared.parts[0].stream[0, 0, 0, 0] ^= 1
        await device.gemv(prepared, x)

    peer, x = Peer(), vectors(48)
    with pytest.raises(DeviceError, match=r"gave up after 4 tries \(1: device refused GEMV with "
                                          r"error 6 TRAILER"):
        asyncio.run(product(Device(peer)))
    assert peer.errors == [6] * 4


def test_matrices_of_other_widths_are_refused():
    peer = Peer()
    both = [prepare(MATRICES[0], 8, 64), prepare(matrix_of(40, 64), 8, 64)]
    with pytest.raises(ValueError, match=r"^x must have shape \(64,\) or \(B, 64\), not \(48,\)$"):
        asyncio.run(Device(peer).gemv_all(both, vectors(48)))
    assert peer.log == []


def test_no_matrix():
    assert asyncio.run(Device(Peer()).gemv_all([], vectors(48))) == []


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_group(count):
    """A narrow matrix has no rows on some devices."""
    matrices = [*MATRICES, matrix_of(5, 48)]
    peers = [Counted() for _ in range(count)]
    group = DeviceGroup([Device(peer, sequences=SEQUENCES[place::count])
                         for place, peer in enumerate(peers)])
    stats = multiply(group, vectors(48), matrices)
    assert [peer.round_trips for peer in peers] == [2] * count
    assert sum(stats, Stats()).frames == sum(peer.log.count(GEMV) for peer in peers)


def test_a_device_that_wakes_up_late():
    """It answers all requests of a call that was given up, while the next one is under way."""
    async def products(device):
        prepared = [await device.prepare(matrix) for matrix in MATRICES]
        peer.silent, held = True, peer.out
        with pytest.raises(DeviceError, match="gave up after 4 tries"):
            await device.gemv_all(prepared, ~x)
        peer.silent = False
        peer.out = held + late
        return await device.gemv_all(prepared, x)

    def keep(peer, request, answers):
        late.extend(b"".join(answers))
        return answers

    x, late, peer = vectors(48), bytearray(), Peer()
    peer.faults = dict.fromkeys(range(1, 100), keep)
    found = asyncio.run(products(Device(peer)))
    for matrix, (sums, _) in zip(MATRICES, found, strict=True):
        np.testing.assert_array_equal(sums, gemv(matrix, x))
