import asyncio

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.device import Device
from tritstream.host.errors import DeviceError, TransportClosed
from tritstream.host.protocol.records import Counters, Info

from support.host_cases import ACTIVATIONS, GEMV, IDENTIFY, RESET, SCALES, matrix_of, vectors
from support.peer import Peer


@pytest.mark.parametrize("retries", [-1, 1.5, None])
def test_wrong_retries(retries):
    with pytest.raises(ValueError, match=rf"^retries must be a non-negative integer, not "
                                         rf"{retries!r}$"):
        Device(Peer(), retries=retries)


@pytest.mark.parametrize("size", [0, -5, 4e6])
def test_wrong_frame_bytes(size):
    with pytest.raises(ValueError, match=rf"^frame_bytes must be a positive integer, not {size!r}$"
                       .replace("+", r"\+")):
        Device(Peer(), frame_bytes=size)


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16, 32, 64])
def test_identify(lanes):
    peer = Peer(lanes, columns=3, max_k=512, build_id=0x1234)
    info = asyncio.run(Device(peer).identify())
    assert info == Info(version=1, lanes=lanes, columns=3, max_k=512, clock_hz=0, build_id=0x1234)
    assert peer.log == [IDENTIFY]


def test_identify_asks_again():
    async def twice(device, peer):
        await device.identify()
        peer.lanes = 16
        return await device.identify()

    peer = Peer(8)
    assert asyncio.run(twice(Device(peer), peer)).lanes == 16
    assert peer.log == [IDENTIFY, IDENTIFY]


def test_identify_wrong_version():
    with pytest.raises(DeviceError, match=r"^IDENTIFY: device speaks protocol version 3, this "
                                          r"driver versions 1 to 2: take driver and gateware of the"
                                          r"same release$"):
        asyncio.run(Device(Peer(version=3)).identify())


@pytest.mark.parametrize(("columns", "max_k"), [(0, 64), (256, 64), (1, 8)])
def test_identify_impossible_sizes(columns, max_k):
    peer = Peer()
    peer.columns, peer.max_k = columns, max_k
    with pytest.raises(DeviceError, match=rf"^IDENTIFY: device reports impossible sizes: 8 "
                                          rf"lanes, {columns} columns, max K {max_k}$"):
        asyncio.run(Device(peer).identify())


def test_loads_are_used_by_gemv():
    async def load_first(device, matrix, x):
        prepared = await device.prepare(matrix)
        await device.load_scales(prepared.mantissas)
        await device.load_activations(x)
        return (await device.gemv(prepared, x))[0]

    peer, matrix, x = Peer(columns=2), matrix_of(40, 60), vectors(2, 60)
    product = asyncio.run(load_first(Device(peer), matrix, x))
    np.testing.assert_array_equal(product, gemv(matrix, x))
    assert peer.log == [IDENTIFY, SCALES, ACTIVATIONS, ACTIVATIONS, GEMV]


@pytest.mark.parametrize(("x", "message"), [
    (np.zeros(80, np.int8), r"^x is 1 columns of K = 80, the device holds 2 of K = 64$"),
    (np.zeros((3, 16), np.int8), r"^x is 3 columns of K = 16, the device holds 2 of K = 64$"),
    (np.zeros(16, np.int16), r"^x must be an int8 array, not int16$"),
    (np.zeros((), np.int8), r"^x must have shape \(K,\) or \(B, K\), not \(\)$"),
])
def test_load_activations_wrong_x(x, message):
    with pytest.raises(ValueError, match=message):
        asyncio.run(Device(Peer(columns=2)).load_activations(x))


@pytest.mark.parametrize(("mantissas", "message"), [
    (np.zeros(26, int), r"^mantissas must be 27 integers, not int64 \(26,\)$"),
    (np.zeros(27), r"^mantissas must be 27 integers, not float64 \(27,\)$"),
    (np.full(27, 1 << 17), r"^mantissas must be 0\.\.131071, not 131072\.\.131072$"),
    (np.arange(-1, 26), r"^mantissas must be 0\.\.131071, not -1\.\.25$"),
])
def test_load_scales_wrong_mantissas(mantissas, message):
    with pytest.raises(ValueError, match=message):
        asyncio.run(Device(Peer()).load_scales(mantissas))


@pytest.mark.parametrize(("method", "opcode"), [("reset", RESET), ("identify", IDENTIFY)])
def test_loads_are_repeated_after_a_reset_or_identify(method, opcode):
    async def between(device, matrix, x):
        prepared = await device.prepare(matrix)
        await device.gemv(prepared, x)
        await getattr(device, method)()
        return await device.gemv(prepared, x)

    peer, matrix, x = Peer(), matrix_of(40, 64), vectors(64)
    product, stats = asyncio.run(between(Device(peer), matrix, x))
    np.testing.assert_array_equal(product, gemv(matrix, x))
    assert peer.log == [IDENTIFY, *[SCALES, ACTIVATIONS, GEMV, opcode] * 2][:-1]
    assert stats.retries == 0


def test_status():
    peer = Peer()
    counters = asyncio.run(Device(peer).status())
    assert counters == Counters(frames_good=2, frames_bad=0, last_error=0, cycles=256)


def test_sequence_numbers_start_over_without_zero():
    async def ask_often(device):
        for _ in range(300):
            await device.status()

    peer = Peer()
    asyncio.run(ask_often(Device(peer)))
    expected = [number % 255 + 1 for number in range(301)]
    assert [request.sequence for request in peer.requests] == expected


def test_unplugged_device():
    peer = Peer()
    peer.closed = True
    with pytest.raises(TransportClosed, match=r"^IDENTIFY: the peer was unplugged$"):
        asyncio.run(Device(peer).identify())
