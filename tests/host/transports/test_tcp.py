import asyncio
import socket
from dataclasses import replace

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.device import Device
from tritstream.host.device_spec import parse_specs
from tritstream.host.errors import DeviceError, TransportClosed, TransportTimeout
from tritstream.host.open_device import open_device, simulate
from tritstream.host.protocol.frames import request
from tritstream.host.servers.tcp_device import DeviceServer
from tritstream.host.transports.tcp import SocketTransport
from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import Opcode

from support.host_cases import matrix_of, multiply, vectors
from support.served_device import IDENTIFY, listening, run_served, served

MATRIX, X = matrix_of(45, 64), vectors(3, 64)


@pytest.mark.parametrize("lanes", [1, 8])
def test_products_over_tcp_equal_golden(lanes):
    async def use(spec):
        async with open_device(spec) as device:
            assert (await device.identify()).lanes == lanes
            return await multiply(device, MATRIX, X, X[1])

    (first, second), stats = run_served(use, lanes=lanes)
    np.testing.assert_array_equal(first, gemv(MATRIX, X))
    np.testing.assert_array_equal(second, gemv(MATRIX, X[1]))
    assert stats.retries == 0


def test_frames_longer_than_one_read_of_the_server():
    async def use(spec):
        async with open_device(spec) as device:
            return await multiply(device, matrix, x)

    matrix, x = matrix_of(5000, 192, 1), vectors(192)
    (product,), stats = run_served(use)
    np.testing.assert_array_equal(product, gemv(matrix, x))
    assert stats.frames == 1 and stats.retries == 0
    assert stats.stream_bytes > 200_000


def test_each_client_gets_a_reset_device():
    async def take_turns(spec):
        for _ in range(3):
            async with open_device(spec) as device:
                (product,), _ = await multiply(device, MATRIX, X)
                np.testing.assert_array_equal(product, gemv(MATRIX, X))
                counters.append(await device.status())

    counters, log = [], []
    run_served(take_turns, log)
    # IDENTIFY, SCALES, three times ACTIVATIONS and GEMV, STATUS.
    assert [each.frames_good for each in counters] == [9] * 3
    assert [line.split()[-1] for line in log[:5]] == [*["here", "gone"] * 2, "here"]


def test_a_second_client_is_rejected():
    async def two(spec):
        async with open_device(spec) as device, open_device(spec) as late:
            await device.identify()
            with pytest.raises(TransportClosed, match=(
                    rf"^{spec}: IDENTIFY: the server closed the connection: it ended, or has "
                    r"another client; it takes one at a time$")):
                await late.identify()
            return await multiply(device, MATRIX, X)

    log = []
    (product,), _ = run_served(two, log)
    np.testing.assert_array_equal(product, gemv(MATRIX, X))
    assert log[1].endswith("sent away: another client is there")


@pytest.mark.parametrize("data", [
    IDENTIFY[:64], IDENTIFY[:37], b"\xff" * 640,
    b"".join(request(Opcode.GEMV, 3, 3 | 4 << 8 | 1 << 24, 9, bytes(9 * 4 * 51 * 4)))[:1000]])
def test_unfinished_requests_of_a_client_are_dropped(data):
    async def leave(spec):
        _, writer = await asyncio.open_connection(*spec.removeprefix("tcp://").split(":"))
        writer.write(data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with open_device(spec) as device:
            return await multiply(device, MATRIX, X), await device.status()

    ((product,), stats), counters = run_served(leave)
    np.testing.assert_array_equal(product, gemv(MATRIX, X))
    assert stats.retries == 0 and counters.frames_bad == 0


def test_a_cancelled_product_leaves_the_connection_usable():
    async def cancel(spec):
        async with open_device(spec) as device:
            prepared = await device.prepare(MATRIX)
            for delay in (0, 0.001, 0.005, 0.02):
                task = asyncio.create_task(device.gemv(prepared, ~X))
                await asyncio.sleep(delay)
                task.cancel()
                await asyncio.wait([task])
                product, _ = await device.gemv(prepared, X)
                np.testing.assert_array_equal(product, gemv(MATRIX, X))

    run_served(cancel)


def test_nothing_is_written_after_the_server_has_ended(caplog):
    """asyncio would warn of every further write."""
    async def end():
        async with served() as spec:
            device = open_device(spec)
            prepared = await device.prepare(MATRIX)
        await asyncio.sleep(0.05)
        for _ in range(20):
            with pytest.raises(TransportClosed, match="the server closed the connection"):
                await device.gemv(prepared, X)
        await device.close()

    asyncio.run(end())
    assert not caplog.records


def test_the_server_ends_during_a_product():
    async def end():
        async with served() as spec:
            device = open_device(spec)
            prepared = await device.prepare(matrix, "layer.3")
            task = asyncio.create_task(device.gemv(prepared, x))
            for _ in range(5):
                await asyncio.sleep(0)
        with pytest.raises(TransportClosed, match=rf"^{spec}: layer\.3: GEMV of row blocks .*: the "
                                                  r"server closed the connection: it ended"):
            await task
        await device.close()

    matrix, x = matrix_of(20_000, 64), vectors(64)
    asyncio.run(end())


def test_no_server():
    with socket.socket() as unused:         # the port is taken, and no server listens
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(TransportClosed, match=(
                rf"^tcp://localhost:{port}: IDENTIFY: cannot connect to localhost port {port}: .*; "
                r"is `tritstream share-device` running there\?$")):
            asyncio.run(open_device(f"tcp://localhost:{port}").identify())


def test_a_silent_server():
    async def ask():
        async with listening(lambda reader, writer: asyncio.sleep(60)) as transport:
            await Device(transport, retries=1, name="far").identify()

    with pytest.raises(DeviceError, match=r"^far: IDENTIFY: gave up after 2 tries \(1: silent for "
                                          r"1 s; 2: silent for 1 s\)$"):
        asyncio.run(ask())


def test_bytes_before_silence_are_kept():
    async def half(reader, writer):
        writer.write(b"abcd")
        await reader.readexactly(64)
        writer.write(b"efgh")

    async def ask():
        async with listening(half) as transport:
            with pytest.raises(TransportTimeout, match=r"^silent for 1 s$"):
                await transport.recv(8)
            transport._timeout = 300
            await transport.send(bytes(64))
            return await transport.recv(8)

    assert asyncio.run(ask()) == b"abcdefgh"


def test_a_server_that_reads_slowly_is_not_silent():
    async def slow(reader, writer):
        while len(await reader.read(1 << 20)):
            await asyncio.sleep(0.02)
            if reader.at_eof():
                break
        writer.write(b"done")

    async def ask():
        # The complete response takes several seconds, and each part a fraction of the timeout.
        async with listening(slow, timeout=5) as transport:
            for _ in range(3):
                await transport.send(bytes(8 << 20))
            transport._streams[1].write_eof()
            return await transport.recv(4)

    assert asyncio.run(ask()) == b"done"


def test_a_group_of_served_and_simulated_devices():
    async def use(spec):
        async with open_device(f"{spec},timeout=300,sim:lanes=2") as group:
            return await group.identify(), await multiply(group, MATRIX, X)

    info, ((product,), stats) = run_served(use)
    assert info.lanes == 6
    np.testing.assert_array_equal(product, gemv(MATRIX, X))
    assert stats.retries == 0


@pytest.mark.parametrize("timeout", [0, -1])
def test_wrong_timeout(timeout):
    with pytest.raises(ValueError, match=rf"^timeout must be above 0 s, not {timeout}$"):
        SocketTransport("localhost", 1, timeout)


def test_use_of_a_shared_device_is_counted():
    async def use():
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        server = DeviceServer(simulate(parse_specs("sim:lanes=4")[0], DeviceConfig()), print)
        task = asyncio.create_task(server.serve(listener))
        async with open_device(f"tcp://127.0.0.1:{listener.getsockname()[1]}") as device:
            await multiply(device, MATRIX, X)
            during = replace(server.use)
        while server.use.client:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        server.close()
        listener.close()
        return during, server.use

    during, after = asyncio.run(use())
    assert during.client.startswith("127.0.0.1 port ") and after.client is None
    assert during.clients == after.clients == 1
    assert after.request_bytes > 1000 and after.response_bytes > 300 and after.busy_s > 0
