import re

import numpy as np
import pytest
from amaranth.back import rtlil

from tritstream.hw.primitives.cells import BlockRam, Multiplier, PairRam
from tritstream.hw.primitives.ecp5 import Ecp5
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


@pytest.mark.parametrize("width", [16, 17, 18])
def test_pair_ram_reads_each_half(width):
    dut, rng = PairRam(width, 64), np.random.default_rng(width)
    rows = [int(value) for value in rng.integers(0, 1 << width, 128)]
    order = [int(row) for row in rng.permutation(128)]
    seen = []

    async def drive(ctx):
        ctx.set(dut.write_en, 1)
        for pair in range(64):
            ctx.set(dut.write_addr, pair)
            ctx.set(dut.write_data, rows[2 * pair] | rows[2 * pair + 1] << width)
            await ctx.tick()
        ctx.set(dut.write_en, 0)
        ctx.set(dut.write_data, 0)
        for row in order + [0] * BlockRam.LATENCY:
            ctx.set(dut.read_en, 0)
            for _ in range(rng.integers(0, 3)):
                await ctx.tick()
            seen.append(ctx.get(dut.read_data))
            ctx.set(dut.read_en, 1)
            ctx.set(dut.read_addr, row)
            await ctx.tick()

    simulate(dut, drive, cycles=1000)
    assert seen[BlockRam.LATENCY:] == [rows[row] for row in order]


def test_a_pair_ram_is_one_block_of_an_ecp5():
    text = rtlil.convert(PairRam(17, 64), platform=Ecp5())
    assert re.findall(r"DATA_WIDTH_([AB]) (\d+)", text) == [("A", "36"), ("B", "18")]


def test_multiplier_after_its_latency():
    dut = Multiplier()
    rng = np.random.default_rng(5)
    ends = [-2**17, 2**17 - 1]
    pairs = [(a, b) for a in ends for b in ends] + rng.integers(*ends, (50, 2)).tolist()

    async def drive(ctx):
        expected = []
        for a, b in pairs + [(0, 0)] * Multiplier.LATENCY:
            if len(expected) == Multiplier.LATENCY:
                assert ctx.get(dut.product) == expected.pop(0)
            ctx.set(dut.a, a)
            ctx.set(dut.b, b)
            await ctx.tick()
            expected.append(a * b)

    simulate(dut, drive)


@pytest.mark.parametrize("depth, bits", [
    (2, 18), (1024, 18), (1025, 9), (2048, 9), (2049, 4), (4096, 4), (4097, 2), (8192, 2),
    (8193, 1), (16384, 1)])
def test_a_memory_of_an_ecp5_uses_the_widest_blocks_with_enough_rows(depth, bits):
    text = rtlil.convert(BlockRam(20, depth), platform=Ecp5())
    assert re.findall(r"DATA_WIDTH_[AB] (\d+)", text) == -(-20 // bits) * 2 * [str(bits)]


def test_a_memory_too_deep_for_a_block_of_an_ecp5_is_inferred():
    text = rtlil.convert(BlockRam(8, 16385), platform=Ecp5())
    assert "DP16KD" not in text and 'ram_style "block"' in text


@pytest.mark.parametrize("depth, platform, forced", [
    (64, None, False), (65, None, True), (16, object(), True)])
def test_small_memories_of_an_exported_core_are_left_to_synthesis(depth, platform, forced):
    assert ("ram_style" in rtlil.convert(BlockRam(8, depth), platform=platform)) == forced
