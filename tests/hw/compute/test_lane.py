import numpy as np
import pytest

from tritstream.golden.fixed_point import GROUP_SUM_BITS, ROWS
from tritstream.hw.compute.lane import Lane
from tritstream.sim.harness import simulate

from support.ecp5_cells import on_ecp5

WRAP = 1 << GROUP_SUM_BITS


def run(trits, x, clear, form=None):
    """Sums (n, 5) after each cycle, from trits -1..1, activations and clears (n, 5)."""
    dut = Lane()
    sums = []

    async def drive(ctx):
        for index in range(len(trits)):
            for row in range(ROWS):
                t = int(trits[index, row])
                ctx.set(dut.trits[row], {"nonzero": t != 0, "negative": t < 0})
                ctx.set(dut.x[row], int(x[index, row]) % WRAP)
                ctx.set(dut.clear[row], int(clear[index, row]))
            await ctx.tick()
            sums.append([ctx.get(acc) for acc in dut.sums])

    simulate(form(dut) if form else dut, drive)
    sums = np.array(sums)
    return np.where(sums >= WRAP // 2, sums - WRAP, sums)


@pytest.mark.parametrize("form, cycles", [(None, 200), (on_ecp5, 40)])
def test_rows_add_and_subtract_on_their_own(form, cycles):
    rng = np.random.default_rng(2)
    trits, x = rng.integers(-1, 2, (cycles, ROWS)), rng.integers(-3456, 3457, (cycles, ROWS))
    clear = rng.random((cycles, ROWS)) < 0.05
    expected = np.zeros(ROWS, int)
    for index, sums in enumerate(run(trits, x, clear, form)):
        expected = np.where(clear[index], 0, expected + trits[index] * x[index])
        np.testing.assert_array_equal(sums, expected, f"cycle {index}")


def test_largest_group_sums_fit():
    # 16 weights of -40 times -128, and of +40.
    digits = np.tile(3 ** np.arange(4), 16)
    x = np.repeat(-128 * digits[:, None], ROWS, axis=1)
    for sign in (-1, 1):
        sums = run(np.full(x.shape, sign), x, np.zeros(x.shape))
        assert (sums[-1] == sign * -81920).all()


def test_sum_is_there_after_its_latency():
    sums = run(np.ones((Lane.LATENCY, ROWS)), np.full((Lane.LATENCY, ROWS), 7),
               np.zeros((Lane.LATENCY, ROWS)))
    assert (sums[-1] == 7).all()
