"""The driver on the compiled RTL: every integer is golden's."""

import asyncio

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.quantize import quantize
from tritstream.host.device import Device
from tritstream.host.layout.cost import gemv_cost
from tritstream.host.transports.native import NativeTransport
from tritstream.hw.config import DeviceConfig
from tritstream.sim.build import build_native, device_rtl
from tritstream.sim.native import NativeDevice

LANES = [1, 2, 8, 16]
#: Two columns and a short memory: batches and column ranges take several passes.
SMALL = DeviceConfig(lanes=8, columns=2, max_k=256)


def simulated(config):
    return NativeDevice(build_native(config.lanes, device_rtl(config)).library)


def random_matrix(rng, depth, rows, columns):
    scale = rng.lognormal(0, 0.5, (rows, 1))
    return quantize(rng.standard_normal((rows, columns)) * scale, depth)


def check(native, matrix, x, **options):
    """Compare one product row by row; returns what it cost."""
    async def run():
        device = Device(NativeTransport(native), **options)
        return await device.gemv(await device.prepare(matrix), x)

    sums, stats = asyncio.run(run())
    expected = gemv(matrix, x)
    wrong = np.argwhere(sums != expected)
    assert not len(wrong), (
        f"row {wrong[0]}: device {sums[tuple(wrong[0])]}, golden {expected[tuple(wrong[0])]}")
    return stats


@pytest.mark.parametrize("stalls", [0.0, 0.35])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("lanes", LANES)
def test_products_equal_golden(lanes, depth, stalls):
    rng = np.random.default_rng([lanes, depth])
    with simulated(DeviceConfig(lanes=lanes)) as native:
        native.stall(depth, stalls, stalls)
        for _ in range(6):
            # Neither whole tiles nor whole groups, from one row and column up.
            rows, columns = int(rng.integers(1, 12 * lanes)), int(rng.integers(1, 150))
            matrix = random_matrix(rng, depth, rows, columns)
            x = rng.integers(-128, 128, columns, np.int8)
            stats = check(native, matrix, x)
            assert stats.words == gemv_cost(matrix.shape, depth, lanes).words
            assert (stats.input_stalls > 0) == (stalls > 0)


@pytest.mark.long
@pytest.mark.parametrize("lanes, columns", [(4, 1), (8, 3), (32, 1), (64, 1), (64, 2)])
def test_products_of_other_devices_equal_golden(lanes, columns):
    rng = np.random.default_rng(lanes)
    with simulated(DeviceConfig(lanes=lanes, columns=columns, max_k=1024)) as native:
        for depth in (1, 2, 3, 4):
            for stalls in (0.0, 0.35):
                native.stall(depth, stalls, stalls)
                rows, k = int(rng.integers(1, 15 * lanes)), int(rng.integers(1, 300))
                matrix = random_matrix(rng, depth, rows, k)
                check(native, matrix, rng.integers(-128, 128, (columns + 1, k), np.int8))


@pytest.mark.parametrize("lanes", LANES)
def test_largest_numbers(lanes):
    rows, groups = 5 * lanes + 1, 3
    for sign in (-1, 1):
        matrix = TritMatrix(
            4, (rows, 16 * groups), np.full((rows, 16 * groups), 40 * sign, np.int8),
            np.full((rows, groups), 26, np.uint8), np.ones(27, np.float32))
        with simulated(DeviceConfig(lanes=lanes)) as native:
            check(native, matrix, np.full(16 * groups, -128, np.int8))


@pytest.mark.parametrize("stalls", [0.0, 0.35])
def test_batches_and_column_ranges(stalls):
    rng = np.random.default_rng(5)
    with simulated(SMALL) as native:
        native.stall(1, stalls, stalls)
        for depth, batch in ((1, 1), (2, 2), (3, 5), (4, 3)):
            matrix = random_matrix(rng, depth, 83, 700)
            x = rng.integers(-128, 128, (batch, 700), np.int8)
            # Small frames: a matrix goes out in several.
            stats = check(native, matrix, x, frame_bytes=5000)
            assert stats.frames > 3 * -(-batch // 2)


def test_narrow_matrices_wait_for_the_output_and_lose_nothing():
    rng = np.random.default_rng(6)
    with simulated(SMALL) as native:
        matrix = random_matrix(rng, 1, 40 * 30, 16)
        x = rng.integers(-128, 128, (2, 16), np.int8)
        stats = check(native, matrix, x)
        # 19 beats a block cannot hide two RESULT frames.
        assert stats.output_stalls > 0


@pytest.mark.parametrize("lanes", LANES)
def test_a_sink_that_hardly_takes_anything_gets_every_sum(lanes):
    # Blocks of 19 beats are over long before the sums of the last one have left.
    matrix = random_matrix(np.random.default_rng(8), 1, 5 * lanes * 8, 16)
    with simulated(DeviceConfig(lanes=lanes)) as native:
        native.stall(lanes, 0.0, 0.98)
        stats = check(native, matrix, np.arange(-8, 8, dtype=np.int8))
        assert stats.output_stalls > stats.words


def test_mixed_depths_share_a_device():
    rng = np.random.default_rng(7)
    with simulated(DeviceConfig(lanes=2)) as native:
        x = rng.integers(-128, 128, 48, np.int8)
        for depth in (3, 1, 4, 2, 3):
            check(native, random_matrix(rng, depth, 23, 48), x)


def test_damaged_requests_are_repeated():
    rng = np.random.default_rng(8)

    class Noisy(NativeTransport):
        """Flips a bit in every fifth buffer."""

        count = 0

        async def send(self, data):
            self.count += 1
            if self.count % 5 == 0:
                data = bytearray(data)
                data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
            await super().send(bytes(data))

    async def run():
        device = Device(Noisy(native), retries=8)
        total = 0
        for depth in (1, 2, 3, 4):
            matrix = random_matrix(rng, depth, 50, 96)
            x = rng.integers(-128, 128, 96, np.int8)
            sums, stats = await device.gemv(await device.prepare(matrix), x)
            np.testing.assert_array_equal(sums, gemv(matrix, x))
            total += stats.retries
        return total

    with simulated(DeviceConfig(lanes=8)) as native:
        assert asyncio.run(run()) > 0
