import numpy as np
import pytest

from tritstream.hw.axi.burst_writer import BurstWriter
from tritstream.hw.axi.registers import Error
from tritstream.sim.harness import simulate
from tritstream.sim.streams import coin, never

from support.axi_memory import DECERR, EXOKAY, OKAY, SLVERR, Memory, offer

BASE, PAGE = 0xFF_FFFF_F000, 4096


class Bench:
    """A writer in front of a memory that holds its ring and a page on either side."""

    def __init__(self, lanes, count, ring=2 * PAGE, burst=16, source=never, **memory):
        self.dut    = BurstWriter(lanes, burst)
        self.memory = Memory(lanes, ring + 2 * PAGE, BASE - PAGE, burst=burst, **memory)
        self.ring, self.lanes, self._source_stalls = ring, lanes, source
        data = np.random.default_rng(lanes).bytes(count * lanes)
        self.words = [data[at:at + lanes] for at in range(0, len(data), lanes)]

    def run(self, test, cycles=8000):
        simulate(self.dut, test, background=[self._source, self._bus], cycles=cycles)
        # Nothing is written before the ring or behind it.
        assert not any(self.memory.data[:PAGE]) and not any(self.memory.data[-PAGE:])
        return self

    async def _source(self, ctx):
        ctx.set(self.dut.page, BASE >> 12)
        ctx.set(self.dut.size, self.ring // self.lanes)
        await offer(ctx, self.dut.i, [int.from_bytes(word, "little") for word in self.words],
                  self._source_stalls)

    async def _bus(self, ctx):
        await self.memory.write(ctx, self.dut.bus)

    async def until(self, ctx, count):
        """Wait until ``count`` words are written."""
        while ctx.get(self.dut.written) < count:
            await ctx.tick()
        assert ctx.get(self.dut.written) == count

    def in_ring(self, first, last):
        """Words of the ring from count ``first`` on."""
        size = self.ring // self.lanes
        return [bytes(self.memory.data[PAGE + at % size * self.lanes:][:self.lanes])
                for at in range(first, last)]


@pytest.mark.parametrize("lanes, burst, share", [
    (8, 16, 0), (16, 256, 0.4), (64, 64, 0.4), (64, 1, 0)])
def test_words_fill_the_ring_and_wait_for_room(lanes, burst, share):
    stalls = coin(burst, share) if share else never
    size   = 2 * PAGE // lanes
    count  = 2 * size + 37
    bench  = Bench(lanes, count, burst=burst, stalls=stalls, source=stalls)
    dut    = bench.dut

    async def test(ctx):
        ctx.set(dut.flush, 1)
        await bench.until(ctx, size)
        await ctx.tick().repeat(50)
        assert ctx.get(dut.written) == size
        assert bench.in_ring(0, size) == bench.words[:size]
        for taken in (1, 5, size // 2, size, size + 37):
            ctx.set(dut.taken, taken)
            while ctx.get(dut.written) < size + taken:
                await ctx.tick()
            await ctx.tick().repeat(40)
            assert ctx.get(dut.written) == size + taken
            assert bench.in_ring(taken, size + taken) == bench.words[taken:size + taken]
        assert ctx.get(dut.idle) and ctx.get(dut.empty) and not bench.memory.unfinished
    bench.run(test)


def test_words_are_collected_for_a_burst_unless_flushed():
    bench = Bench(8, 37)
    dut   = bench.dut

    async def test(ctx):
        await ctx.tick().repeat(200)
        assert ctx.get(dut.written) == 32 and not ctx.get(dut.empty)
        ctx.set(dut.flush, 1)
        await bench.until(ctx, 37)
        assert bench.memory.writes == [(BASE, 16), (BASE + 128, 16), (BASE + 256, 5)]
    bench.run(test)


@pytest.mark.parametrize("response, error", [
    (SLVERR, Error.WRITE_SLVERR), (DECERR, Error.WRITE_DECERR), (EXOKAY, Error.WRITE_BROKEN)])
def test_an_error_is_never_counted(response, error):
    bench = Bench(8, 200, latency=20)
    dut = bench.dut

    async def test(ctx):
        while not ctx.get(dut.error):
            await ctx.tick()
        await ctx.tick().repeat(100)
        assert Error(ctx.get(dut.error)) == error
        assert ctx.get(dut.written) == 32 and ctx.get(dut.idle)
        begun = len(bench.memory.writes)
        await ctx.tick().repeat(100)
        assert len(bench.memory.writes) == begun
        # After a clear the words that were not acknowledged are counted again.
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        assert not ctx.get(dut.error) and ctx.get(dut.empty)
        bench.memory.writes.clear()
        await bench.until(ctx, 48)
        assert bench.memory.writes[0] == (BASE + 256, 16)
    answers = iter([OKAY, OKAY, response])
    bench.memory.response = lambda address: next(answers, OKAY)
    bench.run(test)


@pytest.mark.parametrize("cycle", range(10, 60, 6))
def test_a_stop_completes_bursts(cycle):
    bench = Bench(8, 100, latency=9, stalls=coin(cycle))
    dut   = bench.dut

    async def test(ctx):
        await ctx.tick().repeat(cycle)
        ctx.set(dut.stop, 1)
        await ctx.tick().repeat(200)
        assert ctx.get(dut.idle) and not bench.memory.unfinished
        written = ctx.get(dut.written)
        assert written == sum(beats for _, beats in bench.memory.writes)
        assert bench.in_ring(0, written) == bench.words[:written]
    bench.run(test)
