"""Lane bench: five accumulators against integers."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tritstream.golden.fixed_point import GROUP, GROUP_SUM_BITS, ROWS
from tritstream.hw.compute.lane import Lane

from benches.wires import array, signed, start, trit_bits, unsigned

#: 27 * 128: the largest activation times the largest power of three.
LARGEST = 3456


class Driver:
    """Gives a lane its inputs, a cycle a call."""

    def __init__(self, dut):
        self._clk = dut.clk
        self._trits, self._x, self._clear, self._sums = (
            array(dut, name, ROWS) for name in ("trits", "x", "clear", "sums"))

    async def cycle(self, trits, x, clear):
        """Sums in a cycle with these inputs."""
        for row in range(ROWS):
            self._trits[row].value = trit_bits(int(trits[row]))
            self._x[row].value     = unsigned(int(x[row]), GROUP_SUM_BITS)
            self._clear[row].value = int(clear[row])
        await RisingEdge(self._clk)
        return np.array([signed(int(port.value), GROUP_SUM_BITS) for port in self._sums])

    async def idle(self):
        return await self.cycle([1] * ROWS, [0] * ROWS, [0] * ROWS)


async def cleared(dut):
    """Driver of a lane after reset."""
    driver = Driver(dut)
    await start(dut)
    await driver.cycle([0] * ROWS, [0] * ROWS, [1] * ROWS)
    return driver


def check(cycle, sums, expected):
    for row in range(ROWS):
        assert sums[row] == expected[row], (
            f"cycle {cycle}, row {row}: sum {sums[row]}, not {expected[row]}")


@cocotb.test(timeout_time=100, timeout_unit="us")
async def random_inputs_with_stalls(dut):
    rng    = np.random.default_rng(3)
    driver = await cleared(dut)
    model  = [np.zeros(ROWS, int)]
    for cycle in range(3000):
        stall = rng.random() < 0.3
        trits = rng.integers(-1, 2, ROWS)
        x     = np.zeros(ROWS, int) if stall else rng.integers(-LARGEST, LARGEST + 1, ROWS)
        clear = np.zeros(ROWS, bool) if stall else rng.random(ROWS) < 0.08
        # Inputs of a cycle count LATENCY cycles later.
        check(cycle, await driver.cycle(trits, x, clear), model[max(0, len(model) - Lane.LATENCY)])
        model.append(np.where(clear, 0, model[-1] + trits * x))
    for cycle in range(20):
        check(f"{cycle} after the end", await driver.idle(), model[-1])


@cocotb.test(timeout_time=10, timeout_unit="us")
async def each_row_alone_after_its_latency(dut):
    driver = await cleared(dut)
    for row in range(ROWS):
        one = np.eye(ROWS, dtype=int)[row]
        before = await driver.cycle(one, 7 * one, 1 - one)
        waited = 0
        while (sums := await driver.idle())[row] == before[row]:
            waited += 1
            assert waited < 20, f"row {row}: the sum never changed"
        assert waited + 1 == Lane.LATENCY, f"row {row}: {waited + 1} cycles, not {Lane.LATENCY}"
        check("of the impulse", sums, before * one + 7 * one)


@cocotb.test(timeout_time=10, timeout_unit="us")
async def largest_group_sums(dut):
    driver = await cleared(dut)
    for sign in (1, -1):
        await driver.cycle([0] * ROWS, [0] * ROWS, [1] * ROWS)
        for digit in list(range(4)) * GROUP:
            await driver.cycle([sign] * ROWS, [-128 * 3**digit] * ROWS, [0] * ROWS)
        check("after the group", await driver.idle(), [-sign * 81920] * ROWS)
