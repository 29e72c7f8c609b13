"""A board on UDP: its Etherbone, the driver over it, and what a bad network does."""

import asyncio
import json
from zlib import crc32

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.board.etherbone import MOST_WORDS, answer, request
from tritstream.host.board.soc_bus import SocBus
from tritstream.host.board.transport import BoardTransport
from tritstream.host.board.udp_link import BoardLink
from tritstream.host.device import Device
from tritstream.host.errors import DeviceError, TransportClosed, TransportTimeout
from tritstream.host.layout.prepare import prepare
from tritstream.host.open_device import open_device
from tritstream.hw.soc.registers import MAGIC, MEMORY, register
from tritstream.sim.cable import Cable

from support.host_cases import matrix_of, vectors
from support.lossy import Faults, LossyProxy
from support.round_trips import RoundTrips
from support.soc_cases import MATRIX, X, run, served, simulated

#: Seconds after which a simulated board, which is slow, is asked again; how often; and seconds of
#: silence that only a hang takes.
REPEAT, TRIES, SILENCE = 0.1, 3000, 300


@pytest.fixture(scope="module")
def board():
    with simulated() as board:
        yield board


@pytest.fixture
def cable(board):
    return Cable(board)


def talk(cable, *packets, cycles=60_000):
    """Answers to packets that come at once."""
    for packet in packets:
        cable.send(packet)
    return [answer(found) for _ in range(cycles // 1000) for found in cable.run(1000)]


def words(count, start=0):
    return np.arange(start, start + count, dtype="<u4").tobytes()


def test_a_packet_writes_and_then_reads(cable):
    data = words(200, 1000)
    places = [MEMORY + 4 * word for word in range(30)]
    assert talk(cable, request(7, MEMORY, data, places)) == [(7, data[:120])]
    assert talk(cable, request(8, 0, b"", [register("magic"), *places[:2]])) == [
        (8, MAGIC.to_bytes(4, "little") + data[:8])]


def test_more_packets_than_there_is_room_for_are_dropped_whole(cable):
    reads = [[MEMORY + 4 * word for word in range(MOST_WORDS)]] * 40
    found = talk(cable, *(request(number, 0, b"", some) for number, some in enumerate(reads)),
                 cycles=400_000)
    numbers = [number for number, _ in found]
    assert 8 <= len(numbers) < 40 and numbers == sorted(set(numbers))
    assert all(data == found[0][1] for _, data in found)
    assert talk(cable, request(99, 0, b"", [register("magic")]))[0][0] == 99


@pytest.mark.parametrize("wrong", [
    pytest.param(lambda packet: packet[:-4], id="shorter than it says"),
    pytest.param(lambda packet: packet + bytes(4), id="longer than it says"),
    pytest.param(lambda packet: packet + bytes(1200), id="longer than LiteEth holds"),
    pytest.param(lambda packet: bytes(2) + packet[2:], id="not Etherbone"),
    pytest.param(lambda packet: packet[:8], id="no record"),
    pytest.param(lambda packet: b"", id="empty"),
])
def test_wrong_packets_are_dropped(cable, wrong):
    assert talk(cable, wrong(request(1, MEMORY, words(2, 77), [MEMORY])),
                request(2, 0, b"", [register("magic")])) == [(2, MAGIC.to_bytes(4, "little"))]


def test_a_frame_that_was_damaged_on_the_cable_is_dropped(board, cable):
    talk(cable, request(1, MEMORY, words(1, 5), [MEMORY]))
    frames = []
    board.frame_in, whole = frames.append, board.frame_in
    try:
        cable.send(request(2, MEMORY, words(1, 6), [MEMORY]))
    finally:
        board.frame_in = whole
    damaged = bytearray(frames[0])
    damaged[70] ^= 4
    board.frame_in(bytes(damaged))
    assert talk(cable, request(3, 0, b"", [MEMORY])) == [(3, words(1, 5))]


def test_packets_that_are_not_responses():
    good = request(5, 0, b"", [MEMORY])
    assert answer(good) is None
    assert answer(b"") is None
    # A response of a board with one word and number 5. Packets with another magic or version,
    # and cut packets, are not responses.
    found = bytes.fromhex("4e6f1044 00000000 000f0100 00000005 04030201")
    assert answer(found) == (5, bytes([1, 2, 3, 4]))
    for place in (0, 1, 2):
        assert answer(found[:place] + bytes([found[place] ^ 0x20]) + found[place + 1:]) is None
    assert answer(found[:-1]) is None
    with pytest.raises(ValueError, match=r"^a packet does not hold 241 words and 1 reads$"):
        request(5, 0, words(241), [MEMORY])


def test_a_board_that_does_not_answer():
    async def ask():
        link = BoardLink("127.0.0.1", 9, 0, timeout=0.01, tries=3)
        try:
            await link.get("magic")
        finally:
            link.close()
    with pytest.raises(TransportTimeout, match=r"^127\.0\.0\.1 port 9 does not answer, tried 3 "
                                               r"times in 0\.03 s$"):
        run(ask())


async def _device(port, **options):
    link = BoardLink("127.0.0.1", port, 0, timeout=REPEAT, tries=TRIES, **options)
    return Device(BoardTransport(SocBus(link), timeout=SILENCE)), link


def test_the_same_driver_over_udp(board):
    async def use(port):
        spec = (f"udp://127.0.0.1:{port},bind=0,repeat={REPEAT},tries={TRIES},"
                f"timeout={SILENCE}")
        async with open_device(spec) as device:
            info = await device.info()
            prepared = await device.prepare(MATRIX)
            batch = vectors(3, 256)
            return info, [await device.gemv(prepared, x) for x in (X, batch)], batch

    with served(board) as port:
        info, ((one, stats), (three, _)), batch = run(use(port))
    assert (info.lanes, info.max_k, info.clock_hz) == (4, 2048, 60_000_000)
    np.testing.assert_array_equal(one, gemv(MATRIX, X))
    np.testing.assert_array_equal(three, gemv(MATRIX, batch))
    assert stats.retries == 0


def test_stored_matrices_are_found_by_name_and_content(board):
    other = matrix_of(100, 256, seed=9)

    async def use(port):
        device, _ = await _device(port)
        async with device:
            info = await device.info()
            await device.store.erase()
            for name, matrix in (("a", MATRIX), ("b", other)):
                await device.store.add(prepare(matrix, 4, info.max_k, name), matrix)
            await device.store.publish()
        device, _ = await _device(port)
        async with device:                      # another client, who reads the directory
            stored = [await device.prepare(matrix, name) for name, matrix in
                      (("a", MATRIX), ("b", other), ("a", other), ("c", MATRIX))]
            return device.store.names, stored, [
                (await device.gemv(matrix, X))[0] for matrix in stored]

    with served(board) as port:
        names, stored, products = run(use(port))
    assert names == ["a", "b"]
    assert [hasattr(matrix.parts[0], "address") for matrix in stored] == [True, True, False, False]
    for found, matrix in zip(products, (MATRIX, other, other, MATRIX), strict=True):
        np.testing.assert_array_equal(found, gemv(matrix, X))


def test_matrices_with_the_same_input_take_one_round_trip(board):
    """All requests are handed over before an answer is awaited, stored words or not."""
    class Counted(RoundTrips, BoardTransport):
        pass

    async def use(port):
        link = BoardLink("127.0.0.1", port, 0, timeout=REPEAT, tries=TRIES)
        async with Device(transport := Counted(SocBus(link), timeout=SILENCE)) as device:
            info = await device.info()
            await device.store.erase()
            for name in names[:2]:
                await device.store.add(prepare(MATRIX, info.lanes, info.max_k, name,
                                               fold_words=None), MATRIX)
            held = [await device.prepare(MATRIX, name) for name in names]
            before = transport.round_trips
            return await device.gemv_all(held, X), transport.round_trips - before

    names = ["q", "k", "v"]
    with served(board) as port:
        found, trips = run(use(port))
    for sums, _ in found:
        np.testing.assert_array_equal(sums, gemv(MATRIX, X))
    assert trips == 1


def test_boards_do_not_fold(board):
    async def use(port):
        device, _ = await _device(port)
        async with device:
            sent = await device.prepare(narrow, "n")
            folded = prepare(narrow, 4, 2048, "n")
            with pytest.raises(ValueError, match=r"^n: folded rows are not stored; prepare it with "
                                                 r"fold_words=None$"):
                await device.store.add(folded, narrow)
            return sent, folded

    narrow = matrix_of(5, 2048, 3)
    with served(board) as port:
        sent, folded = run(use(port))
    assert [part.fold is None for part in sent.parts] == [True]
    assert [part.fold is None for part in folded.parts] == [False]


def test_damage_to_stored_matrices_is_reported(board):
    async def use(port):
        device, link = await _device(port)
        async with device:
            info = await device.info()
            await device.store.erase()
            await device.store.add(prepare(MATRIX, 4, info.max_k, "a"), MATRIX)
            stored = await device.prepare(MATRIX, "a")
            place = MEMORY + stored.parts[0].address + 400
            was = await link.read(place, 4)
            await link.write(place, bytes([was[0] ^ 16]) + was[1:])
            await device.gemv(stored, X)

    with served(board) as port, pytest.raises(
            DeviceError, match=r"^a: GEMV of row blocks 0\.\.4 \(depth 2, K = 256\): gave up after "
                               r"4 tries \(1: device refused GEMV with error 6 TRAILER: "):
        run(use(port))


def test_a_matrix_that_does_not_fit(board):
    async def use(port):
        device, _ = await _device(port)
        async with device:
            await device.info()
            device.store.end = device.store.end - device.store.free + 64
            await device.store.add(prepare(MATRIX, 4, 2048, "a"), MATRIX)

    with served(board) as port, pytest.raises(
            DeviceError, match=r"^a: takes 11200 bytes of memory, 64 are left on the board$"):
        run(use(port))


def test_two_clients_do_not_mix(board):
    async def use(port):
        first, _ = await _device(port)
        second, _ = await _device(port)
        async with first, second:
            await first.info()
            await second.info()
            await first.status()

    with served(board) as port, pytest.raises(
            TransportClosed, match=r"the board was restarted by someone else; it takes one at a "
                                   r"time$"):
        run(use(port))


@pytest.mark.parametrize("faults", [
    Faults(1, drop=0.2), Faults(2, repeat=0.5), Faults(3, swap=0.5), Faults(4, late=0.3),
    Faults(5, drop=0.1, repeat=0.2, swap=0.2, late=0.2)],
    ids=["dropped", "repeated", "reordered", "late", "all"])
def test_products_over_a_bad_network_equal_golden(board, faults):
    """Loading, products of what is stored and of what is sent; every row equals golden."""
    batch = vectors(3, 256, seed=faults.seed)

    async def use(port):
        async with LossyProxy(port, faults) as bad:
            device, link = await _device(bad, window=4)
            async with device:
                info = await device.info()
                await device.store.erase()
                await device.store.add(prepare(MATRIX, 4, info.max_k, "a"), MATRIX)
                await device.store.publish()
                stored = await device.prepare(MATRIX, "a")
                sent = await device.prepare(MATRIX, "not stored")
                assert hasattr(stored.parts[0], "address")
                return [(await device.gemv(matrix, x))[0] for x in batch
                        for matrix in (stored, sent)], link.repeated

    with served(board) as port:
        products, repeated = run(use(port))
    for found, x in zip(products, np.repeat(batch, 2, axis=0), strict=True):
        np.testing.assert_array_equal(found, gemv(MATRIX, x))
    assert all(faults.done[what] > 5 for what in ("drop", "repeat", "swap", "late")
               if getattr(faults, what))
    assert repeated > 0 or not faults.drop
    print(json.dumps({**faults.done, "sent again": repeated}))


def test_late_duplicates_of_an_ended_session_change_nothing(board):
    """Send all packets of a client again, in random order, while the next client works."""
    async def use(port):
        device, link = await _device(port)
        async with device:
            prepared = await device.prepare(MATRIX)
            packets, send = [], link._endpoint.sendto
            link._endpoint.sendto = lambda data: (packets.append(data), send(data))
            await device.gemv(prepared, X)
            link._endpoint.sendto = send
        device, link = await _device(port)
        async with device:
            prepared = await device.prepare(MATRIX)
            work = asyncio.ensure_future(device.gemv(prepared, ~X))
            for at in np.random.default_rng(3).permutation(len(packets)):
                await asyncio.sleep(0.005)
                link._endpoint.sendto(packets[at])
            return (await work)[0], (await device.gemv(prepared, X))[0], len(packets)

    with served(board) as port:
        product, again, count = run(use(port))
    assert count > 15
    np.testing.assert_array_equal(product, gemv(MATRIX, ~X))
    np.testing.assert_array_equal(again, gemv(MATRIX, X))


def test_crc_of_two_runs():
    from tritstream.host.protocol.crc import crc32_combine
    rng = np.random.default_rng(0)
    for first, second in ((0, 0), (1, 0), (0, 1), (64, 5), (33, 100_000)):
        a, b = rng.bytes(first), rng.bytes(second)
        assert crc32_combine(crc32(a), crc32(b), len(b)) == crc32(a + b)
