"""The bridge alone, between a bus master and a memory port."""

import numpy as np
import pytest
from litedram.common import LiteDRAMNativePort
from litex.soc.interconnect import wishbone
from migen.sim import run_simulation

from tritstream.hw.soc.bridge import Bridge
from tritstream.sim.streams import coin, never

from support.migen_bench import memory

BASE  = 0x4000_0000
PAUSE = 63


def contents(address):
    """What the memory holds before a test: a number that differs in each 32 bits."""
    return sum((0x9E3779B1 * (4 * address + word + 1) & 0xFFFFFFFF) << 32 * word
               for word in range(4))


class Bench:
    def __init__(self, width=64, stalls=never):
        self.bus  = wishbone.Interface(data_width=32, adr_width=30)
        self.port = LiteDRAMNativePort("both", 30, width)
        self.dut  = Bridge(self.bus, self.port, BASE)
        self.ratio, self.stalls = width // 32, stalls
        self.written, self.commands = {}, []

    def run(self, master):
        """Simulate until the generator ``master`` ends."""
        run_simulation(self.dut, [master, memory(self.port, contents, self.written, self.commands,
                                                 self.stalls)])

    def due(self, word):
        """The 32 bits that the memory holds at a place."""
        line = self.written.get(word // self.ratio, contents(word // self.ratio))
        return line >> 32 * (word % self.ratio) & 0xFFFFFFFF

    def access(self, word, data=None, sel=0xF, pause=0):
        """Read a place, or write it, after ``pause`` cycles without an access."""
        bus = self.bus
        for _ in range(pause):
            yield
        yield bus.adr.eq(BASE // 4 + word)
        yield bus.cyc.eq(1)
        yield bus.stb.eq(1)
        yield bus.sel.eq(sel)
        yield bus.we.eq(data is not None)
        yield bus.dat_w.eq(data or 0)
        yield
        assert not (yield bus.ack)      # never in the first cycle
        for _ in range(100):
            if (yield bus.ack):
                break
            yield
        assert (yield bus.ack)
        found = yield bus.dat_r
        yield bus.cyc.eq(0)
        yield bus.stb.eq(0)
        return found


@pytest.mark.parametrize("width", [32, 64, 128])
@pytest.mark.parametrize("stalls", [never, coin(2, 0.5)])
def test_reads_and_writes_reach_their_bytes(width, stalls):
    bench, rng = Bench(width, stalls), np.random.default_rng(width)

    def master():
        for _ in range(120):
            word, pause = int(rng.integers(12)), int(rng.integers(3))
            if rng.random() < 0.4:
                yield from bench.access(word, int(rng.integers(1 << 32)), int(rng.integers(16)),
                                        pause)
                yield
            else:
                due = bench.due(word)
                assert (yield from bench.access(word, pause=pause)) == due

    bench.run(master())
    assert len(bench.written) > 2


def test_a_write_changes_the_selected_bytes_only():
    bench = Bench(64)

    def master():
        yield from bench.access(5, 0xAABBCCDD, sel=0b0110)
        yield from (None for _ in range(4))

    old = bench.due(5)
    bench.run(master())
    assert bench.written == {2: contents(2) & 0xFFFFFFFF | (old & 0xFF0000FF | 0x00BBCC00) << 32
                             & 0xFFFFFFFF_00000000}


@pytest.mark.parametrize("cyc, stb", [(0, 1), (1, 0)])
def test_half_an_access_is_none(cyc, stb):
    # The strobe of an access to another slave reaches the bridge without its cycle.
    bench = Bench()

    def master():
        yield bench.bus.cyc.eq(cyc)
        yield bench.bus.stb.eq(stb)
        for _ in range(20):
            yield
            assert not (yield bench.bus.ack)

    bench.run(master())
    assert not bench.commands


@pytest.mark.parametrize("width", [32, 64])
def test_every_bit_of_an_address_counts(width):
    bench = Bench(width)

    def master():
        for bit in range(30):
            for word in (0, 1 << bit):
                assert (yield from bench.access(word)) == bench.due(word)

    bench.run(master())


def test_a_line_is_read_once_for_the_accesses_of_a_packet():
    bench = Bench(128)

    def master():
        for word in (4, 5, 6, 7, 4):
            assert (yield from bench.access(word)) == bench.due(word)
        assert bench.commands == [(1, 0)]
        yield from bench.access(5, 77)
        yield
        assert bench.commands == [(1, 0), (1, 1)]
        assert (yield from bench.access(5)) == 77
        assert bench.commands == [(1, 0), (1, 1), (1, 0)]

    bench.run(master())


def test_a_line_is_read_again_after_a_pause():
    bench, fresh = Bench(64), []

    def master():
        yield from bench.access(0)
        for pause in range(1, PAUSE + 10):
            bench.written[0] = contents(0) ^ pause      # the core has written
            count = len(bench.commands)
            found = yield from bench.access(0, pause=pause)
            fresh.append(len(bench.commands) > count)
            assert found == bench.due(0) or not fresh[-1]
        assert (yield from bench.access(0, pause=400)) == bench.due(0)

    bench.run(master())
    assert fresh == [pause >= PAUSE for pause in range(1, PAUSE + 10)]
