import re

import numpy as np
import pytest
from amaranth.back import rtlil

from tritstream.hw.primitives.accumulator_pair import AccumulatorPair
from tritstream.hw.primitives.xilinx import XC7, XCUP
from tritstream.sim.harness import simulate

BITS = 18


def run(x, trits, clear):
    """Sums (n, 2) after each cycle, from values (n,), trits -1..1 (n, 2) and clears (n,)."""
    dut = AccumulatorPair(BITS)
    sums = []

    async def drive(ctx):
        for index in range(len(x)):
            ctx.set(dut.x, int(x[index]) % (1 << BITS))
            ctx.set(dut.clear, int(clear[index]))
            for place in range(2):
                ctx.set(dut.nonzero[place], int(trits[index, place] != 0))
                ctx.set(dut.negative[place], int(trits[index, place] < 0))
            await ctx.tick()
            sums.append([ctx.get(value) for value in dut.sums])

    simulate(dut, drive)
    sums = np.array(sums)
    return np.where(sums >= 1 << BITS - 1, sums - (1 << BITS), sums)


def test_both_sums_add_and_subtract_on_their_own():
    rng = np.random.default_rng(3)
    x, trits = rng.integers(-3456, 3457, 200), rng.integers(-1, 2, (200, 2))
    clear = rng.random(200) < 0.1
    clear[0] = True
    late, expected = AccumulatorPair.LATENCY - 1, np.zeros(2, int)
    for index, sums in enumerate(run(x, trits, clear)[late:]):
        expected = np.where(clear[index], 0, expected + trits[index] * x[index])
        np.testing.assert_array_equal(sums, expected, f"cycle {index}")


def test_largest_group_sums_of_opposite_signs():
    # 16 weights of 40 times -128 and 127, and of -40 at the other sum.
    digits = np.tile(3 ** np.arange(4), 16)
    for value in (-128, 127):
        x = np.append(value * digits, np.zeros(AccumulatorPair.LATENCY))
        for signs in ([1, -1], [-1, 1], [-1, -1]):
            sums = run(np.insert(x, 0, 0), np.tile(signs, (len(x) + 1, 1)), np.eye(len(x) + 1)[0])
            np.testing.assert_array_equal(sums[-1], 16 * 40 * value * np.array(signs))


@pytest.mark.parametrize("platform, cell", [(XC7, "DSP48E1"), (XCUP, "DSP48E2")])
def test_a_pair_is_one_dsp_block_on_amd_fpgas(platform, cell):
    text = rtlil.convert(AccumulatorPair(BITS), platform=platform)
    assert [name for name in re.findall(r"^ *cell (\S+) ", text, re.MULTILINE)
            if name not in ("$dff", "$not")] == [f"\\{cell}"]
