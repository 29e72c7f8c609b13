import asyncio

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.device import Device
from tritstream.host.errors import DeviceError
from tritstream.host.layout.prepare import prepare
from tritstream.host.protocol import frames
from tritstream.host.protocol.records import Stats

from support.host_cases import (
    ACTIVATIONS,
    GEMV,
    IDENTIFY,
    SCALES,
    matrix_of,
    multiply,
    run_alone,
    vectors,
)
from support.peer import Peer


def check(peer, matrix, *batches, **options):
    """Check that products equal golden's; return the device and the stats of the last one."""
    device = Device(peer, **options)
    products, stats = asyncio.run(multiply(device, matrix, *batches))
    for product, x in zip(products, batches, strict=True):
        assert product.dtype == np.int64
        np.testing.assert_array_equal(product, gemv(matrix, x))
    assert not peer.out
    return device, stats


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("lanes", [1, 2, 8, 64])
def test_gemv_equals_golden(lanes, depth):
    peer = Peer(lanes)
    check(peer, matrix_of(57, 64, depth), vectors(64))
    assert peer.log == [IDENTIFY, SCALES, ACTIVATIONS, GEMV]


@pytest.mark.parametrize("value", [-128, 127])
def test_gemv_of_extreme_activations(value):
    check(Peer(), matrix_of(40, 64, 4), np.full(64, value, dtype=np.int8))


@pytest.mark.parametrize(("rows", "k"), [(1, 1), (5, 16), (6, 17), (41, 63)])
def test_gemv_pads_rows_and_columns(rows, k):
    check(Peer(), matrix_of(rows, k), vectors(k), vectors(2, k))


@pytest.mark.parametrize("columns", [1, 3, 4])
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_gemv_of_a_batch_takes_passes(columns, batch):
    peer = Peer(columns=columns)
    check(peer, matrix_of(45, 48), vectors(batch, 48))
    assert peer.log.count(GEMV) == -(-batch // columns)
    assert peer.log.count(ACTIVATIONS) == batch
    used = [request.arg0 >> 24 for request in peer.requests if request.opcode == GEMV]
    assert sum(used) == batch and max(used) <= columns


@pytest.mark.parametrize(("k", "groups"), [(32, [2]), (33, [2, 1]), (100, [2, 2, 2, 1])])
def test_gemv_beyond_max_k_adds_parts(k, groups):
    peer = Peer(columns=2, max_k=48)
    peer.max_k = 40     # no multiple of a group
    check(peer, matrix_of(45, k), vectors(3, k))
    used = [request.arg0 >> 8 & 0xffff for request in peer.requests if request.opcode == GEMV]
    assert used == [part for part in groups for _ in range(2)]
    assert peer.log.count(SCALES) == 1


@pytest.mark.parametrize(("limit", "frames"), [(1, 5), (1119, 5), (1120, 5), (2240, 3), (9999, 1)])
def test_gemv_in_several_frames(limit, frames):
    peer = Peer(8)
    _, stats = check(peer, matrix_of(161, 64), vectors(64), frame_bytes=limit)
    sizes = [len(request.payload) for request in peer.requests if request.opcode == GEMV]
    assert len(sizes) == stats.frames == frames
    assert sum(sizes) == 5 * 4 * 35 * 8
    assert all(size <= max(limit, 4 * 35 * 8) for size in sizes)
    assert peer.log.count(ACTIVATIONS) == peer.log.count(SCALES) == 1


def test_gemv_adds_up_stats():
    peer = Peer(8, columns=2)
    _, stats = check(peer, matrix_of(90, 64), vectors(3, 64), frame_bytes=1120)
    words = 6 * 4 * 35
    assert stats == Stats(cycles=words + 6 * 20, input_stalls=6 * 3, output_stalls=6,
                          words=words, stream_bytes=8 * words, frames=6, retries=0)


def test_matrices_share_one_load_of_activations():
    async def attention(device, matrices, x):
        return [(await device.gemv(await device.prepare(m), x))[0] for m in matrices]

    peer, x = Peer(columns=2), vectors(2, 64)
    matrices = [matrix_of(40, 64, seed=seed) for seed in range(3)]
    products = asyncio.run(attention(Device(peer), matrices, x))
    for matrix, product in zip(matrices, products, strict=True):
        np.testing.assert_array_equal(product, gemv(matrix, x))
    assert peer.log == [IDENTIFY, SCALES, ACTIVATIONS, ACTIVATIONS, GEMV, SCALES, GEMV,
                        SCALES, GEMV]


def test_loads_that_the_device_holds_are_not_sent_again():
    peer, x = Peer(columns=2), vectors(2, 64)
    other = x.copy()
    other[1, 63] ^= 1
    check(peer, matrix_of(40, 64), x, x.copy(), x[0], other)
    assert peer.log == [IDENTIFY, SCALES, ACTIVATIONS, ACTIVATIONS, GEMV, GEMV, GEMV,
                        ACTIVATIONS, GEMV]
    assert peer.requests[-2].arg0 == 1


def test_gemv_does_not_copy_the_stream(monkeypatch):
    monkeypatch.setattr(frames, "_SHORT", 1000)

    async def stream_of(device, x):
        prepared = await device.prepare(matrix_of(161, 64))
        await device.gemv(prepared, x)
        return prepared.parts[0].stream

    peer = Peer()
    stream = asyncio.run(stream_of(Device(peer, frame_bytes=2240), vectors(64)))
    views = [np.frombuffer(data, np.uint8) for data in peer.sent if isinstance(data, memoryview)]
    shared = [len(view) for view in views if np.shares_memory(view, stream)]
    assert shared == [2240, 2240, 1088]


def test_gemv_without_an_event_loop():
    matrix, x = matrix_of(45, 64), vectors(3, 64)
    (product,), _ = run_alone(multiply(Device(Peer(columns=2)), matrix, x))
    np.testing.assert_array_equal(product, gemv(matrix, x))


def test_gemv_wrong_lanes():
    x = vectors(64)
    with pytest.raises(DeviceError, match=r"^device has L = 8 lanes, the stream was prepared for "
                                          r"L = 16: prepare the matrix for this device$"):
        asyncio.run(Device(Peer(8)).gemv(prepare(matrix_of(40, 64), 16, 64), x))


def test_gemv_wrong_max_k():
    x = vectors(64)
    with pytest.raises(DeviceError, match=r"^device holds K = 32, the stream was prepared for "
                                          r"K = 64: prepare the matrix for this device$"):
        asyncio.run(Device(Peer(8, max_k=32)).gemv(prepare(matrix_of(40, 64), 8, 64), x))


@pytest.mark.parametrize(("x", "message"), [
    (np.zeros(64, np.float32), r"^x must be an int8 array, not float32$"),
    (np.zeros(64, np.uint8), r"^x must be an int8 array, not uint8$"),
    ([0] * 64, r"^x must be an int8 array, not list$"),
    (np.zeros(63, np.int8), r"^x must have shape \(64,\) or \(B, 64\), not \(63,\)$"),
    (np.zeros((64, 2), np.int8), r"^x must have shape \(64,\) or \(B, 64\), not \(64, 2\)$"),
    (np.zeros((0, 64), np.int8), r"^x must have shape \(64,\) or \(B, 64\), not \(0, 64\)$"),
    (np.zeros((1, 1, 64), np.int8), r"^x must have shape \(64,\) or \(B, 64\), not \(1, 1, 64\)$"),
    (np.int8([[1]])[0, 0], r"^x must be an int8 array, not int8$"),
])
def test_gemv_wrong_x(x, message):
    peer = Peer()
    with pytest.raises(ValueError, match=message):
        asyncio.run(Device(peer).gemv(prepare(matrix_of(40, 64), 8, 64), x))
    assert peer.log == []
