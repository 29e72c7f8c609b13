"""Groups whose devices have parts of matrices by a plan: every split equals golden."""

import asyncio

import numpy as np
import pytest

from tritstream.golden.fixed_point import GROUP, group_count
from tritstream.golden.gemv import gemv
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup
from tritstream.host.failover import FailoverGroup, FailoverWarning
from tritstream.host.layout.stored import stored_of
from tritstream.host.placement.forecast import forecast
from tritstream.host.placement.plan import PlacementError, place
from tritstream.host.placement.targets import Target
from tritstream.host.placement.work import Step, Work
from tritstream.scripts.running import board

from support.board_peer import BoardPeer
from support.golden_cases import direct_matrix, integer_matrix
from support.grouped import write_grouped
from support.host_cases import GEMV, vectors
from support.peer import Peer


def random_matrix(rng):
    """A matrix of any depth, group length and kind of scales."""
    depth, rows, columns = (int(rng.integers(*ends)) for ends in ((1, 5), (1, 260), (1, 400)))
    group = GROUP * int(rng.integers(1, group_count(columns) + 1))
    if rng.integers(2):
        return integer_matrix(rows, columns, depth, seed=int(rng.integers(99)), group=group)
    single = group == GROUP * group_count(columns) and bool(rng.integers(2))
    return direct_matrix(rows, columns, depth, group, seed=int(rng.integers(99)), single=single,
                         inverse=bool(rng.integers(2)))


def devices_of(peers):
    return [Device(peer, name=f"peer {place}") for place, peer in enumerate(peers)]


def steps_of(matrices):
    """A layer per matrix."""
    return [Step(f"layer {name}", (Work.of_stored(stored_of(matrix), name),))
            for name, matrix in matrices.items()]


async def multiply_all(group, matrices, x, checkpoint=None):
    """Products of matrices by name, and their shares; every product is compared with golden."""
    shares = {}
    for name, matrix in matrices.items():
        prepared = await group.prepare(checkpoint.stored(name) if checkpoint else matrix, name)
        own = x[:, :matrix.columns]
        sums, _ = await group.gemv(prepared, own)
        np.testing.assert_array_equal(sums, gemv(matrix, own))
        shares[name] = prepared.shares
    return shares


@pytest.mark.parametrize("seed", range(24))
def test_every_split_equals_golden(seed):
    """Rows, columns and layers, uneven lanes, speeds and memory, for some vectors."""
    rng = np.random.default_rng(seed)
    matrices = {f"m{place}": random_matrix(rng) for place in range(4)}
    peers = []
    for _ in range(rng.integers(1, 6)):
        sizes = {"lanes": int(rng.choice([1, 2, 8, 16])), "columns": int(rng.integers(1, 4)),
                 "max_k": GROUP * int(rng.integers(4, 26)), "version": 2}
        peers.append(BoardPeer(int(rng.integers(5_000, 90_000)), **sizes) if rng.integers(2)
                     else Peer(**sizes))
    layers = seed % 3 == 0
    group = DeviceGroup(devices_of(peers), int(rng.choice([1, 30, 256])), layers)

    async def work():
        plan = await group.place(steps_of(matrices))
        found = await multiply_all(group, matrices, vectors(3, 400, seed=seed))
        return plan, found

    plan, found = asyncio.run(work())
    for name, shares in found.items():
        assert [(share.device.name, share.span) for share in shares] == [
            (plan.units[share.unit].name, share.span) for share in plan.shares[name]]
        if layers:
            assert len({share.device for share in shares}) == 1


def test_few_rows_are_split_by_columns_in_every_mode():
    modes = {"tiles": integer_matrix(30, 512, 3), "coded": integer_matrix(30, 512, 2, group=64),
             "row": integer_matrix(30, 500, 3, group=512),
             "direct": direct_matrix(30, 512, 2, 128), "inverse": direct_matrix(
                 30, 512, 1, 32, inverse=True),
             "scale per row": direct_matrix(30, 500, 1, 512), "single": direct_matrix(
                 30, 500, 1, 512, single=True)}
    peers = [Peer(8, max_k=512, version=2) for _ in range(4)]
    group = DeviceGroup(devices_of(peers), cut_words=1)
    found = asyncio.run(multiply_all(group, modes, vectors(2, 512)))
    for name, shares in found.items():
        assert len(shares) == 4, name
        assert len({(share.span.tiles, share.span.chunks) for share in shares}) == 4
        assert all(len(share.span.tiles) == 6 for share in shares)
    # Each device got its columns only.
    assert all(max(request.arg1 for request in peer.requests if request.opcode == 1) < 512
               for peer in peers)


def test_a_matrix_without_a_place_is_split_between_all():
    matrices = {"m0": integer_matrix(100, 64, 2)}
    other = integer_matrix(60, 64, 2)

    async def work():
        await group.place(steps_of(matrices))
        # A matrix of another form has no place either, whatever its name is.
        return (await multiply_all(group, {"new": other, "m0": other}, vectors(1, 64)))

    group = DeviceGroup(devices_of([Peer(2), Peer(2)]))
    assert [len(shares) for shares in asyncio.run(work()).values()] == [2, 2]


@pytest.mark.parametrize("at", [2, 4, 7])
@pytest.mark.parametrize("spare", [False, True])
def test_columns_of_a_device_that_fails_go_to_others(at, spare):
    def unplug(peer, request, answers):
        peer.closed = True
        return answers

    matrices = {"m0": integer_matrix(30, 512, 3), "m1": direct_matrix(30, 512, 2, 128),
                "m2": integer_matrix(400, 512, 1)}
    peers = [Peer(8, max_k=512, version=2) for _ in range(3)]
    peers[1].faults = {at: unplug}
    spares = [Device(Peer(2, max_k=208, version=2), name="spare")] if spare else []
    group = FailoverGroup(devices_of(peers), spares, cut_words=1)

    async def work():
        await group.place(steps_of(matrices))
        await multiply_all(group, matrices, vectors(2, 512))
        await multiply_all(group, matrices, vectors(2, 512, seed=8))

    heirs = "spare" if spare else "peer 0 and peer 2"
    with pytest.warns(FailoverWarning, match=f"; its rows go to {heirs}$") as seen:
        asyncio.run(work())
    assert len(seen) == 1


def test_words_and_cycles_are_those_of_the_plan():
    """What a plan counts for each unit is what devices get."""
    matrices = {"m0": integer_matrix(30, 512, 3), "m1": direct_matrix(100, 512, 2, 128)}
    target = Target(channels=3, memory=1 << 22, bandwidth=8.0, share=1.0, lanes=8, clock=1.0,
                    max_k=512)
    peers = [Peer(8, max_k=512, version=2) for _ in range(3)]
    for peer in peers:
        peer.fold_words = None
    group = DeviceGroup(devices_of(peers), cut_words=1)

    async def work():
        await group.place(steps_of(matrices))
        return [(await group.gemv(await group.prepare(matrix, name), vectors(512)))[1]
                for name, matrix in matrices.items()]

    stats = asyncio.run(work())
    plan = place(steps_of(matrices), target.units(1), least=1)
    assert plan.shares == group.plan.shares
    held = [sum(len(request.payload) for request in peer.requests if request.opcode == GEMV)
            for peer in peers]
    assert held == [sum(8 * unit.words(share.work, share.span) for shares in plan.shares.values()
                        for share in shares if share.unit == place)
                    for place, unit in enumerate(plan.units)]
    assert sum(each.stream_bytes for each in stats) == sum(held) == forecast(plan, target).words


@pytest.fixture
def packed(tmp_path):
    matrices = {f"model.layers.{layer}.{name}": matrix for layer in (0, 1) for name, matrix in {
        "self_attn.q_proj": integer_matrix(120, 128, 3),
        "self_attn.k_proj": integer_matrix(20, 128, 3),
        "mlp.down_proj": direct_matrix(100, 256, 2, 64)}.items()}
    write_grouped(tmp_path / "model", tmp_path / "packed", matrices)
    return tmp_path / "packed", matrices


@pytest.fixture
def boards(monkeypatch):
    """Opens boards with so many bytes as one device, for the commands too."""
    def opened(*sizes, lanes=8):
        peers = [BoardPeer(size, lanes, max_k=512, version=2) for size in sizes]
        monkeypatch.setattr(board, "open_device", lambda _: group_of(peers))
        return peers
    return opened


def group_of(peers):
    return FailoverGroup(devices_of(peers), cut_words=1)


def loaded(checkpoint):
    return asyncio.run(board._load("boards", checkpoint, list(checkpoint.matrices)))


def test_boards_store_their_parts_and_no_more(packed, boards):
    path, matrices = packed
    checkpoint, peers = PackedCheckpoint(path), boards(60_000, 25_000, 14_000)
    report = loaded(checkpoint)
    assert (report["matrices"], report["written"], report["kept"]) == (6, 6, 0)
    assert [peer.store.free for peer in peers] == [each["free"] for each in report["boards"]]
    assert min(peer.store.free for peer in peers) < 6000

    async def products():
        group = group_of(peers)
        plan = await group.place(board.steps_of_checkpoint(checkpoint, checkpoint.matrices))
        assert [peer.store.capacity - peer.store.free for peer in peers] == plan.nbytes
        before = [peer.memory.written for peer in peers]
        for peer in peers:
            peer.stored = 0
        await multiply_all(group, matrices, vectors(2, 256), checkpoint)
        assert [peer.memory.written for peer in peers] == before
        return plan

    plan = asyncio.run(products())
    # All words came from memory, each of them once per vector.
    words = sum(8 * plan.units[share.unit].words(share.work, share.span)
                for shares in plan.shares.values() for share in shares)
    assert sum(peer.stored for peer in peers) == 2 * words
    again = loaded(checkpoint)
    assert (again["written"], again["kept"], again["bytes"]) == (0, 6, 0)


def test_a_board_that_fails_loses_nothing(packed, boards):
    def unplug(peer, request, answers):
        peer.closed = True
        return answers

    path, matrices = packed
    checkpoint, peers = PackedCheckpoint(path), boards(60_000, 60_000)
    loaded(checkpoint)
    peers[1].faults = {len(peers[1].requests) + 6: unplug}

    async def products():
        group = group_of(peers)
        await group.place(board.steps_of_checkpoint(checkpoint, checkpoint.matrices))
        await multiply_all(group, matrices, vectors(2, 256), checkpoint)

    with pytest.warns(FailoverWarning, match="its rows go to peer 0$"):
        asyncio.run(products())


def test_a_model_that_does_not_fit_is_refused_before_anything_is_written(packed, boards):
    checkpoint, peers = PackedCheckpoint(packed[0]), boards(20_000, 10_000)
    with pytest.raises(PlacementError, match=r"^44\.9 kB of weights and their padding do not fit "
                       r"30\.0 kB of memory; what fits: \d+ such boards, or depth 1 on what is "
                       r"there$"):
        loaded(checkpoint)
    assert [peer.memory.written for peer in peers] == [0, 0]


def test_a_part_of_other_columns_is_not_found(packed, boards):
    """A directory that names one part and lists the words of another."""
    path, matrices = packed
    checkpoint, (peer,) = PackedCheckpoint(path), boards(90_000)
    loaded(checkpoint)
    name = next(iter(matrices))
    entry = peer.store._entries[name]
    half = Work.of_stored(stored_of(matrices[name])).span
    span = type(half)(half.tiles, range(4))
    peer.store._entries[f"{name}{span}"] = entry
    device = Device(peer)

    async def find():
        info = await device.info()
        stored = checkpoint.stored(name)
        return (await peer.store.find(stored, name, info, span),
                await peer.store.find(stored, name, info))

    missing, found = asyncio.run(find())
    assert missing is None and found is not None
