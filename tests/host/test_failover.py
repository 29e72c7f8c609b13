"""Devices that fail, and others that multiply their rows."""

import asyncio
import re
import warnings

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup
from tritstream.host.device_spec import parse_specs
from tritstream.host.errors import DeviceError
from tritstream.host.failover import FailoverGroup, FailoverWarning
from tritstream.host.open_device import open_device

from support.host_cases import GEMV, IDENTIFY, matrix_of, vectors
from support.peer import Peer

MATRICES = [matrix_of(rows, 48, seed=seed) for seed, rows in enumerate((230, 40, 7))]


def unplug(peer, request, answers):
    peer.closed = True
    return answers


def fall_silent(peer, request, answers):
    peer.silent = True
    return answers


def rave(peer, request, answers):
    """From now on, every answer is damaged."""
    peer.faults = dict.fromkeys(range(10_000), rave)
    return [bytes(len(answer)) for answer in answers]


FAILURES = [unplug, fall_silent, rave]


def devices_of(peers, first=0):
    return [Device(peer, name=f"peer {first + place}") for place, peer in enumerate(peers)]


async def passes(group, count=4):
    """Multiply in several passes, as a model does; compare with golden."""
    held = [await group.prepare(matrix, f"m{place}") for place, matrix in enumerate(MATRICES)]
    for step in range(count):
        x = vectors(48, seed=step)
        for some in ([0, 1], [2]):
            found = await group.gemv_all([held[place] for place in some], x)
            for place, (sums, _) in zip(some, found, strict=True):
                np.testing.assert_array_equal(sums, gemv(MATRICES[place], x))


@pytest.mark.filterwarnings("error")
def test_without_a_failure_the_requests_are_those_of_a_group():
    logs = []
    for kind in (DeviceGroup, FailoverGroup):
        peers = [Peer(8), Peer(4)]
        asyncio.run(passes(kind(devices_of(peers))))
        logs.append([peer.log for peer in peers])
    assert logs[0] == logs[1]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("at", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("lanes", [(8, 8), (2, 16)])
def test_a_spare_takes_the_rows_of_a_device_that_fails(failure, at, lanes):
    peers, spare = [Peer(each) for each in lanes], Peer(4)
    peers[1].faults = {at: failure}
    with pytest.warns(FailoverWarning, match=r"^peer 1: m\d: .*; its rows go to peer 2$") as seen:
        asyncio.run(passes(FailoverGroup(devices_of(peers), devices_of([spare], 2))))
    assert len(seen) == 1
    assert spare.log[0] == IDENTIFY and GEMV in spare.log
    assert peers[0].log.count(IDENTIFY) == 1


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("at", [1, 2, 3, 6, 8])
def test_without_a_spare_the_others_take_its_rows(failure, at):
    peers = [Peer(8), Peer(8), Peer(4)]
    peers[0].faults = {at: failure}
    with pytest.warns(FailoverWarning, match="; its rows go to peer 1 and peer 2$") as seen:
        asyncio.run(passes(FailoverGroup(devices_of(peers))))
    assert len(seen) == 1


@pytest.mark.parametrize("seed", range(8))
def test_all_but_one_fail_one_after_the_other(seed):
    """Some of them with rows that they got from others, some as spares."""
    rng = np.random.default_rng(seed)
    peers = [Peer(int(rng.choice([2, 4, 8]))) for _ in range(5)]
    for peer, at in zip(peers[:4], rng.integers(1, 12, 4), strict=True):
        peer.faults = {int(at): FAILURES[rng.integers(3)]}
    group = FailoverGroup(devices_of(peers[2:]), devices_of(peers[:2], 3))
    with pytest.warns(FailoverWarning):
        asyncio.run(passes(group, 12))
    assert len(group.devices) < 3


def test_a_spare_that_does_not_respond_is_passed_over():
    peers, spares = [Peer()], [Peer(), Peer()]
    peers[0].faults, spares[0].closed = {3: unplug}, True
    with pytest.warns(FailoverWarning, match="; its rows go to peer 2$"):
        asyncio.run(passes(FailoverGroup(devices_of(peers), devices_of(spares, 1))))


def test_no_device_is_left():
    async def work():
        with pytest.raises(DeviceError, match=message):
            await passes(group)
        with pytest.raises(DeviceError, match=message):
            await group.gemv(await DeviceGroup(devices_of([Peer()])).prepare(MATRICES[0]),
                             vectors(48))
        await group.close()

    peers = [Peer(), Peer()]
    for peer in peers:
        peer.faults = {3: unplug}
    group = FailoverGroup(devices_of(peers))
    message = (r"^no device is left \(peer 0: m0: GEMV of .*: the peer was unplugged; peer 1: m0: "
               r"GEMV of .*: the peer was unplugged\)$")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FailoverWarning)
        asyncio.run(work())


def test_errors_of_the_caller_are_no_failures():
    async def work():
        held = await group.prepare(MATRICES[0])
        with pytest.raises(ValueError, match=r"^x must have shape \(48,\)"):
            await group.gemv(held, vectors(47))

    group = FailoverGroup(devices_of([Peer(), Peer()]))
    asyncio.run(work())
    assert len(group.devices) == 2


def test_devices_and_spares_by_text():
    specs = parse_specs("tcp://a:1,timeout=2,spare:tcp://b:2,timeout=3,sim")
    assert [(spec.text, spec.spare) for spec in specs] == [
        ("tcp://a:1,timeout=2", False), ("tcp://b:2,timeout=3", True), ("sim", False)]
    with pytest.raises(ValueError, match=re.escape(
            "spare:tcp://a:1: a spare needs a device that it can replace")):
        open_device("spare:tcp://a:1")
