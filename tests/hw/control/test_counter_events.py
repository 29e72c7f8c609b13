"""The counters alone, against a count of the same random events in Python."""

import numpy as np
import pytest

from tritstream.hw.control.counters import Counters
from tritstream.sim.harness import simulate

EVENTS = ("word", "refused", "missing")


async def pulse(ctx, *signals):
    for signal in signals:
        ctx.set(signal, 1)
    await ctx.tick()
    for signal in signals:
        ctx.set(signal, 0)


@pytest.mark.parametrize("seed", range(3))
def test_a_gemv_is_counted_from_its_first_word_while_it_runs(seed):
    dut, rng = Counters(), np.random.default_rng(seed)

    async def drive(ctx):
        for _ in range(4):
            await pulse(ctx, dut.begin)
            due, started = dict.fromkeys(dut.done, 0), False
            # Before the GEMV, while it runs, and after it. Words come only while it runs.
            for runs, cycles in ((0, 5), (1, 40), (0, 20)):
                for cycle in range(cycles):
                    # Some cycles pass before the first word.
                    word, refused, missing = (bool(bit) for bit in rng.integers(0, 2, 3))
                    word &= runs and cycle > 5
                    for name, level in zip(EVENTS, (word, refused, missing), strict=True):
                        ctx.set(getattr(dut, name), level)
                    ctx.set(dut.gemv, runs)
                    await ctx.tick()
                    due["cycles"] += runs and (started or word)
                    due["input_stalls"] += runs and started and missing
                    due["output_stalls"] += runs and refused
                    due["words"] += word
                    started |= word
            for name in EVENTS:
                ctx.set(getattr(dut, name), 0)
            await ctx.tick().repeat(2)
            assert {name: ctx.get(count) for name, count in dut.done.items()} == due
            assert 0 < due["input_stalls"] < due["cycles"] and due["output_stalls"]

    simulate(dut, drive)


def test_frames_and_the_time_of_the_last_one():
    dut = Counters()

    async def status(ctx):
        return tuple(ctx.get(count) for count in dut.status.values())

    async def drive(ctx):
        await ctx.tick().repeat(9)
        await pulse(ctx, dut.good)
        assert await status(ctx) == (1, 0, 0, 9)
        await ctx.tick().repeat(4)
        assert await status(ctx) == (1, 0, 0, 9)
        ctx.set(dut.error, 0x85)
        await pulse(ctx, dut.bad)
        assert await status(ctx) == (1, 1, 0x85, 14)
        ctx.set(dut.error, 3)
        await pulse(ctx, dut.good)
        assert await status(ctx) == (2, 1, 0x85, 15)
        await pulse(ctx, dut.reset)
        assert (await status(ctx))[:3] == (0, 0, 0)
        await ctx.tick().repeat(2)
        await pulse(ctx, dut.good)
        assert await status(ctx) == (1, 0, 0, 2)

    simulate(dut, drive)
