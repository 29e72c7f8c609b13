import re

import numpy as np
import pytest
from amaranth.back import rtlil

from tritstream.hw.compute.lane import Lane
from tritstream.hw.primitives.cells import BlockRam, Multiplier, MultiplyAdd, PairRam
from tritstream.hw.primitives.ecp5 import Ecp5
from tritstream.hw.primitives.xilinx import XC7, XCUP
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


@pytest.mark.parametrize("platform, cell", [(XC7, "RAMB18E1"), (XCUP, "RAMB18E2")])
def test_a_pair_ram_is_one_block_of_an_amd_fpga(platform, cell):
    text = rtlil.convert(PairRam(17, 64), platform=platform)
    assert text.count(f"cell \\{cell} ") == 1
    assert dict(re.findall(r"(READ_WIDTH_A|WRITE_WIDTH_B) (\d+)", text)) == {
        "READ_WIDTH_A": "18", "WRITE_WIDTH_B": "36"}


def test_a_pair_ram_is_one_block_of_an_ecp5():
    text = rtlil.convert(PairRam(17, 64), platform=Ecp5())
    assert re.findall(r"DATA_WIDTH_([AB]) (\d+)", text) == [("A", "36"), ("B", "18")]


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


def test_multiplier_with_adder_after_its_latencies():
    dut = MultiplyAdd(46)
    rng = np.random.default_rng(6)
    ends = [-2**17, 2**17 - 1]
    factors = [(a, b) for a in ends for b in ends] + rng.integers(*ends, (40, 2)).tolist()
    addends = [(int(value), int(rng.random() < 0.3))
               for value in rng.integers(-2**44, 2**44, len(factors))]
    late = MultiplyAdd.LATENCY - MultiplyAdd.ADDEND_LATENCY

    async def drive(ctx):
        for cycle in range(len(factors) + MultiplyAdd.LATENCY):
            done = cycle - MultiplyAdd.LATENCY
            if done >= 0:
                (a, b), (addend, clear) = factors[done], addends[done]
                assert ctx.get(dut.total) == a * b + (0 if clear else addend)
            a, b = factors[cycle] if cycle < len(factors) else (0, 0)
            addend, clear = addends[cycle - late] if late <= cycle < len(addends) + late else (0, 0)
            for port, value in ((dut.a, a), (dut.b, b), (dut.addend, addend), (dut.clear, clear)):
                ctx.set(port, value)
            await ctx.tick()

    simulate(dut, drive)


@pytest.mark.parametrize("platform, cell, others", [
    (XC7, "DSP48E1", []), (XCUP, "DSP48E2", []), (Ecp5(), "MULT18X18D", ["$add"])])
def test_row_sums_are_added_in_the_multiplier_where_it_can(platform, cell, others):
    text = rtlil.convert(MultiplyAdd(46), platform=platform)
    assert text.count(f"cell \\{cell} ") == 1
    assert re.findall(r"cell (\$add|\$dff|\$sdff) ", text)[:1] == others


@pytest.mark.parametrize("depth, bits", [
    (2, 18), (1024, 18), (1025, 9), (2048, 9), (2049, 4), (4096, 4), (4097, 2), (8192, 2),
    (8193, 1), (16384, 1)])
def test_a_memory_of_an_ecp5_uses_the_widest_blocks_with_enough_rows(depth, bits):
    text = rtlil.convert(BlockRam(20, depth), platform=Ecp5())
    assert re.findall(r"DATA_WIDTH_[AB] (\d+)", text) == -(-20 // bits) * 2 * [str(bits)]


@pytest.mark.parametrize("platform, cell", [(XC7, "RAMB18E1"), (XCUP, "RAMB18E2")])
@pytest.mark.parametrize("depth, bits", [
    (2, 36), (512, 36), (513, 18), (1024, 18), (1025, 9), (4096, 4), (8192, 2), (16384, 1)])
def test_a_memory_of_an_amd_fpga_uses_the_widest_blocks_with_enough_rows(platform, cell, depth,
                                                                         bits):
    text = rtlil.convert(BlockRam(40, depth), platform=platform)
    assert re.findall(r"(?:READ_WIDTH_A|WRITE_WIDTH_B) (\d+)", text) == -(-40 // bits) * 2 * [
        str(bits)]
    assert text.count(f"cell \\{cell} ") == -(-40 // bits)


@pytest.mark.parametrize("platform", [Ecp5(), XC7, XCUP])
def test_a_memory_too_deep_for_a_block_is_inferred(platform):
    text = rtlil.convert(BlockRam(8, 16385), platform=platform)
    assert "DP16KD" not in text and "RAMB18" not in text and 'ram_style "block"' in text


@pytest.mark.parametrize("platform, cell, count", [(XC7, "CARRY4", 25), (XCUP, "CARRY8", 15)])
def test_a_lane_has_one_lut_for_each_bit_of_its_sums(platform, cell, count):
    text = rtlil.convert(Lane(), platform=platform)
    assert text.count("cell \\LUT4 ") == 5 * 18 and text.count(f"cell \\{cell} ") == count


@pytest.mark.parametrize("depth, platform, forced", [
    (64, None, False), (65, None, True), (16, object(), True)])
def test_small_memories_of_an_exported_core_are_left_to_synthesis(depth, platform, forced):
    assert ("ram_style" in rtlil.convert(BlockRam(8, depth), platform=platform)) == forced
