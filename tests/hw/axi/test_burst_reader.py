import numpy as np
import pytest

from tritstream.hw.axi.burst_reader import BurstReader
from tritstream.hw.axi.registers import Error
from tritstream.sim.harness import simulate
from tritstream.sim.streams import coin, get, never

from support.axi_memory import DECERR, EXOKAY, OKAY, SLVERR, Memory, offer

BASE, UNIT = 0x12_3456_7000, 64
DEPTH = 64


class Bench:
    """A reader in front of a memory; what it gives in ``words``."""

    def __init__(self, lanes, jobs, burst=16, outstanding=4, size=1 << 14, **memory):
        self.dut    = BurstReader(lanes, burst, outstanding, DEPTH)
        self.memory = Memory(lanes, size, BASE, burst=burst, **memory)
        self.memory.data[:] = np.random.default_rng(lanes).bytes(size)
        self.jobs, self.words, self.arrived = jobs, [], 0
        self.beats = sum(length for _, length in jobs) * UNIT // lanes

    def run(self, test):
        simulate(self.dut, test, background=[self._source, self._bus, self._arrivals],
                 cycles=5000)
        return self

    async def _source(self, ctx):
        ctx.set(self.dut.base, BASE >> 12)
        await offer(ctx, self.dut.jobs,
                  [{"address": address, "length": length} for address, length in self.jobs])

    async def _bus(self, ctx):
        await self.memory.read(ctx, self.dut.bus)

    async def _arrivals(self, ctx):
        while True:
            *_, arrived = await ctx.tick().sample(self.dut.arrived)
            self.arrived += arrived

    async def take(self, ctx, cycles):
        """Take words for some cycles."""
        ctx.set(self.dut.o.ready, 1)
        for _ in range(cycles):
            *_, valid, word = await ctx.tick().sample(self.dut.o.valid, self.dut.o.payload)
            self.words += [word] * valid
        ctx.set(self.dut.o.ready, 0)

    def read(self, stalls=never):
        """Take all words of all jobs."""
        async def test(ctx):
            self.words = await get(ctx, self.dut.o, self.beats, stalls)
            await ctx.tick().repeat(40)
            assert not ctx.get(self.dut.o.valid)
            assert ctx.get(self.dut.idle) and not ctx.get(self.dut.error)
        return self.run(test)

    @property
    def data(self):
        return b"".join(word.to_bytes(self.memory.lanes, "little") for word in self.words)

    @property
    def expected(self):
        return b"".join(self.memory.data[UNIT * address:UNIT * (address + length)]
                        for address, length in self.jobs)


#: Descriptors that begin and end anywhere in pages, also a unit before and after the end of one.
JOBS = [(0, 1), (63, 2), (5, 3), (100, 70), (17, 64), (64, 64), (255, 1)]


@pytest.mark.parametrize("lanes, burst, memory, reader", [
    (8, 16, 0.4, 0), (8, 32, 0, 0.5), (32, 8, 0.3, 0.3), (64, 32, 0.3, 0.3), (64, 1, 0, 0)])
def test_words_come_in_order(lanes, burst, memory, reader):
    stalls, slow = (coin(lanes, share) if share else never for share in (memory, reader))
    bench = Bench(lanes, JOBS, burst, stalls=stalls).read(slow)
    assert bench.data == bench.expected
    assert bench.arrived == len(JOBS)


def test_bursts_end_at_multiples_of_their_size():
    bench = Bench(8, [(1, 6)], burst=16).read()
    assert bench.memory.reads == [(BASE + 64, 8), (BASE + 128, 16), (BASE + 256, 16),
                                  (BASE + 384, 8)]


def test_no_word_is_requested_without_room():
    async def test(ctx):
        await ctx.tick().repeat(400)        # no word is taken, so the memory waits
        assert sum(beats for _, beats in bench.memory.reads) == DEPTH
        await bench.take(ctx, 1)
        await ctx.tick().repeat(20)
        assert sum(beats for _, beats in bench.memory.reads) == DEPTH
        await bench.take(ctx, bench.beats + 20)
        assert bench.data == bench.expected
    bench = Bench(8, [(0, 40)], outstanding=16)
    bench.run(test)


@pytest.mark.parametrize("outstanding", [1, 3])
def test_outstanding_bursts_are_limited(outstanding):
    bench = Bench(8, [(0, 30)], burst=8, outstanding=outstanding, latency=60).read()
    assert bench.memory.most == outstanding
    assert bench.data == bench.expected


def test_latency_does_not_lower_the_rate():
    # 64 words in flight cover a latency of 40 cycles and a burst.
    bench = Bench(8, [(0, 100), (100, 100)], outstanding=8, latency=40)

    async def test(ctx):
        await bench.take(ctx, 60)
        before = len(bench.words)
        await bench.take(ctx, 1000)
        assert len(bench.words) - before == 1000
    bench.run(test)


@pytest.mark.parametrize("response, error", [
    (SLVERR, Error.READ_SLVERR), (DECERR, Error.READ_DECERR), (EXOKAY, Error.READ_BROKEN)])
def test_an_error_ends_the_words(response, error):
    bad = BASE + 700
    bench = Bench(8, [(0, 1), (1, 30), (40, 30)], stalls=coin(3),
                  response=lambda address: response if address // 8 == bad // 8 else OKAY)

    async def test(ctx):
        await bench.take(ctx, 800)
        assert Error(ctx.get(bench.dut.error)) == error
        assert ctx.get(bench.dut.idle) and not ctx.get(bench.dut.jobs.ready)
        assert bench.data == bytes(bench.memory.data[:(bad - BASE) // 8 * 8])
        assert bench.arrived == 1
    bench.run(test)


def test_addresses_outside_the_memory_end_the_words():
    bench = Bench(16, [(0, 4), (1 << 20, 4)])

    async def test(ctx):
        await bench.take(ctx, 200)
        assert Error(ctx.get(bench.dut.error)) == Error.READ_DECERR
        assert bench.data == bytes(bench.memory.data[:4 * UNIT])
    bench.run(test)


def test_a_burst_that_ends_early_is_an_error():
    bench = Bench(8, [(0, 30)])
    bench.memory.early_last = 2

    async def test(ctx):
        await bench.take(ctx, 400)
        assert Error(ctx.get(bench.dut.error)) == Error.READ_BROKEN
        assert bench.data == bytes(bench.memory.data[:8 * 30])
        assert ctx.get(bench.dut.idle)
    bench.run(test)


@pytest.mark.parametrize("cycle", [*range(4, 24, 2), 50, 77])
def test_a_stop_lets_requested_words_arrive(cycle):
    bench = Bench(8, [(0, 100)], stalls=coin(cycle), latency=9)
    dut   = bench.dut

    async def test(ctx):
        await bench.take(ctx, cycle)
        ctx.set(dut.stop, 1)
        await bench.take(ctx, 300)
        assert ctx.get(dut.idle) and not ctx.get(dut.bus.arvalid)
        assert len(bench.words) == sum(beats for _, beats in bench.memory.reads)
        assert bench.data == bytes(bench.memory.data[:len(bench.data)])
        assert not ctx.get(dut.error)
    bench.run(test)
