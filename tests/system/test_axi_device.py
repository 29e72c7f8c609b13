"""The driver on a simulated memory-mapped core: placement, stored matrices, errors, commands."""

import asyncio
import json
import re

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.board.axi_bus import LEAST_BYTES, AxiBus
from tritstream.host.board.core import Buffer
from tritstream.host.errors import DeviceError, TransportClosed
from tritstream.host.failover import FailoverWarning
from tritstream.host.layout.prepare import prepare
from tritstream.host.layout.stored import take_tiles
from tritstream.host.open_device import open_device, open_transport
from tritstream.hw.axi.registers import register
from tritstream.hw.soc.registers import DESCRIPTORS

from support.axi_cases import CORE, core_of, use
from support.cli_helpers import MODEL, command_fails, run_command
from support.host_cases import matrix_of, vectors

MATRIX, X = matrix_of(700, 256, 3), vectors(1, 256)[0]


def test_channels_share_a_matrix():
    """17 row blocks and a half: some are cut between columns."""
    batch = vectors(3, 256)

    async def work(device):
        info = await device.info()
        prepared = await device.prepare(MATRIX)
        return info, prepared.shares, [await device.gemv(prepared, x) for x in (X, batch)]

    info, shares, ((one, stats), (three, _)) = use(work)
    assert (info.lanes, info.max_k, len({share.device for share in shares})) == (32, 1024, 4)
    assert any(len(share.span.chunks) < 16 for share in shares)
    np.testing.assert_array_equal(one, gemv(MATRIX, X))
    np.testing.assert_array_equal(three, gemv(MATRIX, batch))
    assert stats.retries == 0


def test_more_requests_than_the_area_for_them_and_results_than_the_ring_hold():
    """A matrix of 860 KB per channel, whose results are four rings."""
    matrix, x = matrix_of(32_000, 256, 1), vectors(1, 256)[0]

    async def work(device):
        return await device.gemv(await device.prepare(matrix), x)

    found, stats = use(work, CORE.replace("channels=4", "channels=2"))
    np.testing.assert_array_equal(found, gemv(matrix, x))
    assert stats.retries == 0 and stats.stream_bytes > 1_700_000


def test_a_list_of_more_descriptors_than_can_wait():
    async def work(device):
        one = device.devices[0]
        await one.info()
        bus = one._transport._bus
        tail, = bus._get("tail")
        taken = await bus.push([(0, 1 << 16)] * (DESCRIPTORS + 40), tail) - tail
        again = await bus.push([(0, 64)] * 40, tail) - tail
        return taken, again

    taken, again = use(work)
    assert DESCRIPTORS <= taken < DESCRIPTORS + 40
    assert taken == again       # descriptors that were taken before are not taken again


def test_polling_finds_the_same():
    from tritstream.host.board.simulated import open_simulated
    from tritstream.host.device import Device
    from tritstream.hw.axi.config import AxiConfig
    from tritstream.hw.config import DeviceConfig

    async def work():
        config = AxiConfig(DeviceConfig(8, 1, 1024, build_id=None), 4)
        *others, transport = open_simulated(config, 2, interrupts=False)
        async with Device(transport) as device:
            found, _ = await device.gemv(await device.prepare(MATRIX), X)
        for other in others:
            other.close()
        return found

    np.testing.assert_array_equal(asyncio.run(work()), gemv(MATRIX, X))


def test_a_channel_that_is_halted_names_the_error():
    """Where the core has no memory, reads are answered by DECERR."""
    async def work(device):
        one = device.devices[2]
        one._transport._bus._buffer.address += 1 << 40
        await one.info()

    with pytest.raises(DeviceError, match=(
            r"stalls=0\.1 channel 2: IDENTIFY: gave up after 4 tries \(1: channel 2 was halted by "
            r"READ_DECERR \(DECERR answered a read\); 2: ")):
        use(work)


def test_a_channel_goes_on_after_an_error():
    """The memory is elsewhere in the session of the first attempt, and in the ring of the third."""
    async def work(device):
        one = device.devices[1]
        bus, places = one._transport._bus, iter((1 << 40, -(1 << 40), 0, 0))
        restart, put = bus.restart, bus._put

        async def moved():
            bus._buffer.address += next(places)
            return await restart()

        bus.restart = moved
        info = await one.info()
        prepared = await one.prepare(MATRIX)
        bus._put = lambda **values: put(**values | {"ring_high": 77} if "ring" in values
                                        else values)
        one._transport._session = None      # as after silence
        found = asyncio.create_task(one.gemv(prepared, X))
        while not bus._get("error")[0]:
            await asyncio.sleep(0)
        bus._put = put
        return info, *await found

    info, found, stats = use(work)
    assert info.lanes == 8 and stats.retries == 1
    np.testing.assert_array_equal(found, gemv(MATRIX, X))


def test_the_rows_of_a_channel_that_fails_go_to_the_other_channels():
    async def work(device):
        prepared = await device.prepare(MATRIX)
        before, _ = await device.gemv(prepared, X)
        broken = device.devices[3]._transport
        broken._bus._buffer.address += 1 << 40
        broken._session = None              # begins another session, in memory that is not there
        with pytest.warns(FailoverWarning, match=r"channel 3: .*halted by READ_DECERR .*; its rows "
                                                 r"go to .* channel 0 and .* and .* channel 2$"):
            after, _ = await device.gemv(prepared, X)
        return before, after, len(device.devices)

    before, after, left = use(work)
    np.testing.assert_array_equal(before, gemv(MATRIX, X))
    np.testing.assert_array_equal(after, before)
    assert left == 3


def test_two_drivers_of_a_channel_do_not_mix():
    async def work(device):
        one = device.devices[0]
        await one.info()
        bus = one._transport._bus
        bus._put(restart=bus._session + 1)
        await one.status()

    with pytest.raises(TransportClosed, match=r"the board was restarted by someone else"):
        use(work)


def test_a_closed_channel_leaves_the_memory_alone():
    async def work(device):
        one = device.devices[0]
        await one.info()
        bus, core = one._transport._bus, core_of(one)
        bus._put(address=0, length=1 << 10, index=bus._get("tail")[0])
        await one.close()
        written = core.read(register("written", 0))
        core.wait(20_000)
        assert core.read(register("written", 0)) == written
        bus._core._users += 1               # closed again with the group
        return core.read(register("head", 0)) == core.read(register("tail", 0))

    assert use(work)


def test_stored_matrices_stay_in_the_file_of_the_memory(tmp_path):
    spec = f"{CORE},file={tmp_path / 'memory'}"

    async def load(device):
        matrix = await device.prepare(MATRIX, "a")
        for one in device.devices:
            await one.store.erase()
        for share in matrix.shares:
            tiles, chunks = share.span.tiles, share.span.chunks
            part = take_tiles(matrix.stored, slice(tiles.start, tiles.stop))
            await share.device.store.add(prepare(part, 8, 1024, "a", None, chunks), part,
                                         share.span)
        for one in device.devices:
            await one.store.publish()

    async def find(device):
        prepared = await device.prepare(MATRIX, "a")
        assert all(hasattr(share.prepared.parts[0], "address") for share in prepared.shares)
        return (await device.gemv(prepared, X))[0]

    use(load, spec)
    np.testing.assert_array_equal(use(find, spec), gemv(MATRIX, X))


def test_load_run_and_generate(tmp_path):
    """A token of the shipped model on four channels, from matrices that stay in a file."""
    def report(*arguments):
        code, out, err = run_command(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    packed, device = tmp_path / "packed", ("--device", f"{CORE},file={tmp_path / 'memory'}")
    report("quantize", MODEL, "-o", packed, "-d", 2)
    loaded = report("load", packed, *device)
    assert loaded["matrices"] == loaded["written"] > 0 and loaded["kept"] == 0

    found = report("run", packed, *device)
    assert found["totals"]["mismatches"] == 0 and found["totals"]["compared"] > 0
    assert len(found["devices"]) == 4
    assert sum(matrix["stream_bytes"] for matrix in found["matrices"]) == loaded["bytes"]

    again = report("load", packed, *device)
    assert (again["written"], again["kept"], again["bytes"]) == (0, loaded["matrices"], 0)

    asked = ("generate", packed, "--prompt", "A", "--tokens", 1)
    golden = report(*asked, "--backend", "golden")
    assert report(*asked, *device)["token_ids"] == golden["token_ids"]


def test_selftest(tmp_path):
    code, out, err = run_command("hw", "selftest", "--device", CORE, "--jobs", 2, "--size", 4000,
                                "--json", "-o", tmp_path / "report.json")
    assert code == 0, err
    reports = json.loads(out)["devices"]
    assert [(one["refusals"], one["known"], one["soak"]["jobs"], one["retries"])
            for one in reports] == [(5, 5, 2, 0)] * 4
    assert command_fails("hw", "selftest") == command_fails(
        "hw", "selftest", "--device", "sim", "--port", "x") == "give --port or --device"


@pytest.mark.parametrize(("spec", "message"), [
    ("axi-sim://x", "axi-sim://x: a simulated core has no address; write axi-sim"),
    ("axi-sim:channels=0", "channels must be 1..32, not 0"),
    ("axi-sim:lanes=4", "a channel has 8, 16, 32 or 64 lanes, not 4"),
    ("axi-sim:channels=x", "axi-sim:channels=x: channels must be a number, not 'x'"),
    ("axi-sim:chips=2", "axi-sim:chips=2: no option 'chips'; there are channels, lanes, columns, "
                        "max_k, memory, file, latency, stalls, seed"),
    ("axi-sim:memory=0", "memory=0 is too small: a channel needs 1 MB or more"),
    (f"{CORE},latency=0", "the latency must be at least 1 cycle, not 0"),
    (CORE.replace("0.1", "1"), "the share of stalls must be in [0, 1), not 1"),
])
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        open_device(spec)


def test_a_file_of_another_size(tmp_path):
    (tmp_path / "memory").write_bytes(bytes(100))
    with pytest.raises(ValueError, match=r"memory: has 100 bytes, and the channels have 8388608; "
                                         r"give another file, or the same channels and memory as "
                                         r"before$"):
        open_device(f"{CORE},file={tmp_path / 'memory'}")


def test_one_channel_is_wanted():
    with pytest.raises(ValueError, match=r": has 4 channels; give a device with one$"):
        open_transport(CORE)


def test_memory_that_does_not_suit_a_channel():
    with pytest.raises(ValueError, match=rf"^channel 3 gets 4096 bytes of memory; it needs at "
                                         rf"least {LEAST_BYTES}, and more to hold matrices$"):
        AxiBus(None, 3, Buffer(memoryview(b""), 0), 0, 4096)
    with pytest.raises(ValueError, match=r"^the memory of channel 0, 1048576 bytes at 0x40, must "
                                         r"consist of pages of 4096 bytes$"):
        AxiBus(None, 0, Buffer(memoryview(b""), 0x40), 0, 1 << 20)
