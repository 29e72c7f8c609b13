"""The initialization of the memory alone: its writes, and the cycles between them."""

import pytest
from migen.sim import run_simulation

from tritstream.hw.soc.dram_init import DFII, Starter
from tritstream.hw.soc.registers import CSR, CSR_BASE, CSR_STEP


@pytest.mark.parametrize("count", [12, 16])
@pytest.mark.parametrize("slow", [0, 3])
def test_writes_happen_once_with_their_delays(count, slow):
    delays = [0, 1, 2, 3, 4, 8, 16, 32, 64, 100, 0, 5, 6, 7, 9, 10][:count]
    writes = [(list(DFII)[at % len(DFII)], 0x01010101 * at, delay)
              for at, delay in enumerate(delays)]
    dut, found, done = Starter(writes), [], []

    def bus():
        waited = 0
        for cycle in range(600):
            ack = yield dut.bus.ack
            if (yield dut.bus.stb) and (yield dut.bus.cyc) and (yield dut.bus.we):
                if ack:
                    found.append((cycle, (yield dut.bus.adr), (yield dut.bus.dat_w)))
                waited = 0 if ack else waited + 1
            assert not ack or found[-1][0] == cycle
            yield dut.bus.ack.eq(not ack and waited > slow)
            done.append((yield dut.done))
            yield

    run_simulation(dut, bus())
    base = (CSR_BASE + CSR_STEP * CSR.index("sdram")) // 4
    assert [write[1:] for write in found] == [(base + DFII[name], value)
                                              for name, value, _ in writes]
    # The answer of the bus takes as long for each.
    times = [cycle for cycle, *_ in found]
    gaps = [after - before - delay
            for before, after, delay in zip(times, times[1:], delays, strict=False)]
    assert len(set(gaps)) == 1
    assert done.index(1) == times[-1] + delays[-1] + 2 and all(done[done.index(1):])
