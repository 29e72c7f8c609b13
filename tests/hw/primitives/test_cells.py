import re

import numpy as np
import pytest
from amaranth.back import rtlil

from tritstream.hw.primitives.cells import BlockRam, Multiplier
from tritstream.hw.primitives.ecp5 import Ecp5
from tritstream.sim.harness import simulate

from support.ecp5_cells import on_ecp5


def generic(component):
    return component


@pytest.mark.parametrize("form, width, depth", [
    *((generic, *size) for size in [(46, 16), (17, 64), (64, 4096), (8, 32768)]),
    *((on_ecp5, *size) for size in [(46, 16), (36, 1024), (20, 2048), (9, 4096), (3, 8192),
                                   (3, 16384), (2, 32768)])])
def test_block_ram_reads_what_was_written(form, width, depth):
    dut = BlockRam(width, depth)
    rng = np.random.default_rng([width, depth])
    # Rows that differ in one bit, and any others.
    rows = [*{0, depth - 1, *(1 << np.arange(depth.bit_length() - 1)),
              *rng.integers(0, depth, 8)}]
    data = [int.from_bytes(rng.bytes(8)) % (1 << width) for _ in rows]

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

    simulate(form(dut), drive, cycles=2000)


@pytest.mark.parametrize("form", [generic, on_ecp5])
def test_multiplier_after_its_latency(form):
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

    simulate(form(dut), drive)


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
