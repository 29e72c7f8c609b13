import asyncio

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.golden.model_sizes import Sizes
from tritstream.host.device import Device
from tritstream.host.device_spec import parse_specs
from tritstream.host.layout.cost import (
    Cost,
    activations_cost,
    gemv_cost,
    gemv_cycles,
    model_cost,
    scales_cost,
)
from tritstream.host.layout.shapes import ModelShape, WeightForm
from tritstream.host.open_device import simulate
from tritstream.host.protocol.records import Stats
from tritstream.host.transports.base import Transport
from tritstream.hw.config import DeviceConfig

from support.host_cases import matrix_of, vectors


class Counted(Transport):
    """A transport that counts bytes both ways."""

    def __init__(self, transport):
        self._transport = transport
        self.sent = self.received = 0

    async def send(self, data):
        self.sent += memoryview(data).nbytes
        await self._transport.send(data)

    async def recv(self, count):
        self.received += count
        return await self._transport.recv(count)

    def close(self):
        self._transport.close()


def test_cycles_by_hand():
    # L = 8: a RESULT is 3 + 40 + 1 words, the next follows after three cycles.
    assert gemv_cycles(8, 3, 304, 23) == 23 * 304 * 51 + 50 + 47
    assert gemv_cycles(8, 1, 1, 4) == 19 + 4 * 47 + 50
    assert gemv_cycles(8, 1, 1, 4, columns=3) == 19 + 4 * 3 * 47 + 50


def test_costs_add_up():
    assert Cost(1, 2, 3, 4) + Cost(10, 20, 30, 40) * 2 == Cost(21, 42, 63, 84)


def test_bytes_by_hand():
    assert scales_cost(8) == Cost(sent=64 + 128 + 64, received=24 + 8)
    assert activations_cost(100, 1) == Cost(sent=64 + 128 + 64, received=20 + 4)
    # Two row blocks in one frame: 51 * 4 words each.
    assert gemv_cost((80, 64), 3, 8) == Cost(
        408, gemv_cycles(8, 3, 4, 2), 128 + 3264, 2 * (24 + 320 + 8) + 24 + 32 + 8)


@pytest.mark.parametrize("shape", [(80, 64), (128, 896), (41, 1000), (5, 16), (600, 32)])
@pytest.mark.parametrize(("depth", "vectors_"), [(1, 1), (3, 1), (4, 1), (3, 3)])
def test_costs_equal_the_rtl(shape, depth, vectors_):
    check(shape, depth, vectors_, FRAME)


def test_costs_of_many_frames():
    check((600, 256), 2, 1, 4000)


def test_cost_of_a_model_is_the_sum_of_its_layers():
    sizes = Sizes(3, 64, 112, 2, 1, 32, 100)
    sent, received, stats = asyncio.run(run_layer(sizes))
    cost = model_cost(ModelShape("small", sizes, WeightForm()), 8)
    assert cost == Cost(3 * stats.words, 3 * stats.cycles, 3 * sent, 3 * received)


async def run_layer(sizes):
    """Return bytes both ways and stats of a layer, whose modules get their inputs in order."""
    transport, total = Counted(simulate(parse_specs("sim:lanes=8")[0], DeviceConfig())), Stats()
    inputs = {name: vectors(shape[1], seed=seed) for seed, names in enumerate(INPUTS)
              for name in names for shape in [sizes.linear()[name]]}
    async with Device(transport) as device:
        await device.info()
        before = transport.sent, transport.received
        for seed, (name, shape) in enumerate(sizes.linear().items()):
            prepared = await device.prepare(matrix_of(*shape, 3, seed))
            total += (await device.gemv(prepared, inputs[name]))[1]
    return transport.sent - before[0], transport.received - before[1], total


INPUTS = [["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.o_proj"],
          ["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"]]
FRAME = 1 << 22


def check(shape, depth, count, frame_bytes):
    """Check that words, cycles and bytes of a product on the native device equal the computed."""
    matrix, x = matrix_of(*shape, depth), vectors(count, shape[1])
    stats, sent, received = asyncio.run(measure(matrix, x, frame_bytes))
    cost = gemv_cost(shape, depth, 8, frame_bytes=frame_bytes)
    loads = activations_cost(shape[1], 8)
    assert (stats.words, stats.cycles) == (count * cost.words, count * cost.cycles)
    total = (cost + loads) * count + scales_cost(8)
    assert (sent, received) == (total.sent, total.received)


async def measure(matrix, x, frame_bytes):
    transport = Counted(simulate(parse_specs("sim:lanes=8")[0], DeviceConfig()))
    async with Device(transport, frame_bytes=frame_bytes) as device:
        prepared = await device.prepare(matrix)
        before = transport.sent, transport.received
        product, stats = await device.gemv(prepared, x)
    np.testing.assert_array_equal(product, gemv(matrix, x))
    return stats, transport.sent - before[0], transport.received - before[1]
