import asyncio

import numpy as np
import pytest

from tritstream.golden.fixed_point import row_blocks, row_tiles
from tritstream.golden.gemv import gemv
from tritstream.golden.tiles import pack
from tritstream.host import open_device as opening
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup, DeviceShare, SplitMatrix, joined
from tritstream.host.errors import DeviceError, TransportClosed
from tritstream.host.open_device import open_device
from tritstream.host.placement.work import Span, Work
from tritstream.host.protocol.records import Counters, Info, Stats

from support.host_cases import GEMV, matrix_of, multiply, vectors
from support.peer import Peer
from support.peer_faults import corrupt, drop, refuse


def group_of(*peers, **options):
    return DeviceGroup([Device(peer, name=f"peer {index}", **options)
                        for index, peer in enumerate(peers)])


def test_no_devices():
    with pytest.raises(ValueError, match=r"^a group needs at least one device$"):
        DeviceGroup([])


@pytest.mark.parametrize("lanes", [[8, 8], [1, 4, 2], [64, 1], [2, 64], [16, 16, 16, 16, 16]])
@pytest.mark.parametrize("rows", [1, 39, 40, 41, 200, 323])
def test_products_equal_golden(lanes, rows):
    peers = [Peer(count, columns=1 + count % 3) for count in lanes]
    matrix, x = matrix_of(rows, 64), vectors(3, 64)
    products, stats = asyncio.run(multiply(group_of(*peers), matrix, x, x[0]))
    for product, batch in zip(products, (x, x[0]), strict=True):
        assert product.dtype == np.int64
        np.testing.assert_array_equal(product, gemv(matrix, batch))
    blocks = row_blocks(rows, sum(lanes))
    taken = [sum(request.arg1 for request in peer.requests if request.opcode == GEMV)
             // (-(-3 // peer.columns) + 1) for peer in peers]
    assert max(taken) == blocks
    tiles = sum(count * each for count, each in zip(lanes, taken, strict=True))
    # Whole blocks on all devices but the last that has rows.
    assert tiles - row_tiles(rows) < max(lanes)
    assert stats.stream_bytes == tiles * 4 * 35


def test_stats_of_a_group():
    # 26 row tiles: three blocks for the one, one for the other.
    _, stats = asyncio.run(multiply(group_of(Peer(8), Peer(4)), matrix_of(130, 64), vectors(64)))
    block = 4 * 35
    assert stats == Stats(cycles=3 * block + 20, input_stalls=6, output_stalls=2, words=4 * block,
                          stream_bytes=3 * block * 8 + block * 4, frames=2, retries=0)


def test_cycles_are_those_of_the_device_that_takes_longest_for_all_matrices():
    """Of two devices, one takes longest for the first matrix, and the other for both together."""
    fast, slow = group_of(Peer(8), Peer(2)).devices

    def matrix(*devices, cut=False):
        spans = [Span(range(0, 2), range(place, place + 1)) if cut
                 else Span(range(2 * place, 2 * place + 2), range(1))
                 for place in range(len(devices))]
        work = Work("", (10 if cut else 10 * len(devices), 16 * (len(devices) if cut else 1)), 3)
        return SplitMatrix(None, work, [DeviceShare(device, span)
                                        for device, span in zip(devices, spans, strict=True)])

    def answer(value, cycles):
        return np.full((1, 10), value), Stats(cycles=cycles, words=10 * cycles, frames=1)

    matrices = [matrix(fast, slow), matrix(fast, slow, cut=True), matrix(fast)]
    found = joined(matrices, [[answer(1, 100), answer(2, 60)], [answer(3, 10), answer(4, 70)],
                              [answer(5, 15)]])
    assert [stats.cycles for _, stats in found] == [60, 70, 0]
    assert [stats.words for _, stats in found] == [1600, 800, 150]
    assert [stats.frames for _, stats in found] == [2, 2, 1]
    assert [sums.tolist() for sums, _ in found] == [[[1] * 10 + [2] * 10], [[7] * 10], [[5] * 10]]
    # Without the last 50 cycles of the slow device, the fast one takes longest.
    found = joined(matrices, [[answer(1, 100), answer(2, 60)], [answer(3, 10), answer(4, 20)],
                              [answer(5, 15)]])
    assert [stats.cycles for _, stats in found] == [100, 10, 15]
    assert joined([], []) == []


def test_a_group_accepts_packed_tiles():
    matrix, x = matrix_of(93, 60, 3), vectors(60)
    stored = pack(matrix), matrix.table, matrix.depth, matrix.shape
    (product,), _ = asyncio.run(multiply(group_of(Peer(2), Peer(8)), stored, x))
    np.testing.assert_array_equal(product, gemv(matrix, x))
    with pytest.raises(ValueError, match="tiles of a 93 x 60 matrix of depth 2 must be"):
        asyncio.run(multiply(group_of(Peer(2)), (stored[0], stored[1], 2, stored[3]), x))


def test_info_and_counters_of_a_group():
    async def ask(group):
        await group.reset()
        return await group.info(), await group.identify(), await group.status()

    peers = Peer(8, columns=2, max_k=512, build_id=5), Peer(4, columns=3, max_k=64, build_id=7)
    peers[1].flips = {320}
    info, same, counters = asyncio.run(ask(group_of(*peers)))
    assert info == same == Info(version=1, lanes=12, columns=2, max_k=64, clock_hz=0, build_id=5)
    assert counters == Counters(frames_good=4, frames_bad=1, last_error=6, cycles=640)


class Meeting(Peer):
    """A fake device that sends no result before every other one has got its request."""

    def __init__(self, barrier):
        super().__init__()
        self.barrier, self.waits = barrier, True

    async def recv(self, count):
        if self.waits and self.log[-1] == GEMV:
            self.waits = False
            await self.barrier.wait()
        return await super().recv(count)


def test_devices_work_in_parallel():
    async def meet():
        barrier = asyncio.Barrier(3)
        async with asyncio.timeout(300):
            return await multiply(group_of(*(Meeting(barrier) for _ in range(3))), matrix, x)

    matrix, x = matrix_of(300, 64), vectors(64)
    (product,), _ = asyncio.run(meet())
    np.testing.assert_array_equal(product, gemv(matrix, x))


def unplug(peer, request, answers):
    peer.closed = True
    return answers


class Endless(Peer):
    """A fake device that sends no result while it is ``held``."""

    held = True

    async def recv(self, count):
        while self.held and GEMV in self.log:
            await asyncio.sleep(0)
        return await super().recv(count)


@pytest.mark.parametrize(("fault", "error", "message"), [
    (unplug, TransportClosed, "the peer was unplugged"),
    (refuse(4), DeviceError, "device refused GEMV with error 4"),
    (drop, DeviceError, r"gave up after 1 try \(1: no answer within 1 s\)"),
])
def test_the_failure_of_one_device_cancels_the_others(fault, error, message):
    async def fail_and_go_on(group):
        prepared = await group.prepare(matrix, "layer.3")
        with pytest.raises(error, match=rf"^peer 1: layer\.3: GEMV of .*: {message}"):
            await group.gemv(prepared, ~x)
        assert len(asyncio.all_tasks()) == 1
        peers[0].held = peers[1].closed = False
        return (await group.gemv(prepared, x))[0]

    matrix, x = matrix_of(160, 64), vectors(64)
    peers = Endless(), Peer()
    peers[1].faults = {3: fault}
    product = asyncio.run(fail_and_go_on(group_of(*peers, retries=0)))
    np.testing.assert_array_equal(product, gemv(matrix, x))


def test_only_the_failed_device_retries():
    peers = Peer(), Peer()
    peers[0].faults = {3: corrupt(0, 30)}
    matrix, x = matrix_of(160, 64), vectors(64)
    (product,), stats = asyncio.run(multiply(group_of(*peers), matrix, x))
    np.testing.assert_array_equal(product, gemv(matrix, x))
    assert stats.retries == 1
    assert [peer.log.count(GEMV) for peer in peers] == [2, 1]


def test_a_cancelled_product_is_cancelled_on_every_device():
    async def cancel(group):
        prepared = await group.prepare(matrix)
        task = asyncio.create_task(group.gemv(prepared, ~x))
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for peer in peers:
            peer.held = False
        return (await group.gemv(prepared, x))[0]

    matrix, x, peers = matrix_of(160, 64), vectors(64), (Endless(), Endless())
    np.testing.assert_array_equal(asyncio.run(cancel(group_of(*peers))), gemv(matrix, x))


def test_simulated_devices_as_a_group():
    async def use():
        async with open_device("sim:lanes=4,sim:lanes=2,columns=2") as group:
            names = [device.name for device in group.devices]
            return names, await group.identify(), await multiply(group, matrix, x)

    matrix, x = matrix_of(145, 64, 3), vectors(3, 64)
    names, info, ((product,), stats) = asyncio.run(use())
    assert names == ["sim:lanes=4 (1 of 2)", "sim:lanes=2,columns=2 (2 of 2)"]
    assert (info.lanes, info.columns) == (6, 1)
    np.testing.assert_array_equal(product, gemv(matrix, x))
    assert stats.retries == 0


def test_responses_of_another_device_of_a_group_are_ignored(monkeypatch):
    def swap(peer, request, answers):
        others[:] = answers
        return []

    def take(peer, request, answers):
        return [*others, *answers]

    others, peers = [], [Peer(), Peer()]
    left = iter(peers)
    monkeypatch.setitem(opening._SCHEMES, "sim", lambda *_: [next(left)])
    group = open_device("sim,sim")
    peers[0].faults, peers[1].faults = {3: swap}, {3: take}
    matrix, x = matrix_of(80, 64), vectors(64)
    (product,), stats = asyncio.run(multiply(group, matrix, x))
    np.testing.assert_array_equal(product, gemv(matrix, x))
    assert len(others) == 2 and stats.retries == 1
