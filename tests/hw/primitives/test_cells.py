import numpy as np
import pytest

from tritstream.hw.primitives.cells import BlockRam, Multiplier
from tritstream.sim.harness import simulate


@pytest.mark.parametrize("width, depth", [(46, 16), (17, 64), (64, 4096), (8, 32768)])
def test_block_ram_reads_what_was_written(width, depth):
    dut = BlockRam(width, depth)
    rng = np.random.default_rng([width, depth])
    rows = rng.permutation(depth)[:16]
    data = [int(value) for value in rng.integers(0, 1 << min(width, 62), len(rows))]

    async def drive(ctx):
        ctx.set(dut.write_en, 1)
        for row, value in zip(rows, data, strict=True):
            ctx.set(dut.write_addr, int(row))
            ctx.set(dut.write_data, value)
            await ctx.tick()
        ctx.set(dut.write_en, 0)
        ctx.set(dut.write_data, 0)
        await ctx.tick()
        waiting = []
        for row, value in [*zip(rows, data, strict=True), *[(0, None)] * BlockRam.LATENCY]:
            # Nothing moves while the port is not enabled.
            ctx.set(dut.read_en, 0)
            for _ in range(rng.integers(0, 3)):
                await ctx.tick()
            if len(waiting) == BlockRam.LATENCY:
                assert ctx.get(dut.read_data) == waiting.pop(0)
            ctx.set(dut.read_en, 1)
            ctx.set(dut.read_addr, int(row))
            await ctx.tick()
            waiting.append(value)

    simulate(dut, drive, cycles=2000)


def test_multiplier_after_its_latency():
    dut = Multiplier()
    rng = np.random.default_rng(5)
    ends = [-2**17, 2**17 - 1]
    pairs = [(a, b) for a in ends for b in ends] + rng.integers(*ends, (50, 2)).tolist()

    async def drive(ctx):
        due = []
        for a, b in pairs + [(0, 0)] * Multiplier.LATENCY:
            if len(due) == Multiplier.LATENCY:
                assert ctx.get(dut.product) == due.pop(0)
            ctx.set(dut.a, a)
            ctx.set(dut.b, b)
            await ctx.tick()
            due.append(a * b)

    simulate(dut, drive)
