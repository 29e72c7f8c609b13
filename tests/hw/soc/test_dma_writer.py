"""The writer of responses alone, at a memory port that takes commands and data when it likes."""

import pytest
from litedram.common import LiteDRAMNativePort

from tritstream.hw.soc.dma_writer import Collector
from tritstream.sim.streams import coin, never

from support.migen_bench import cycles, levels, pull

FIRST, GATHER = 0x1230, 192


class Bench:
    """A collector with a memory port. The words are 0, 1, 2 and so on."""

    def __init__(self, size=16, stalls=never):
        self.port = LiteDRAMNativePort("write", 24, 32)
        self.dut  = Collector(self.port, FIRST, size)
        self.size, self.stalls = size, stalls
        self.sent, self.addresses, self.data = 0, [], []

    def run(self, *phases):
        """Simulate phases of (cycles, words offered so far, levels of busy, taken, drop).

        Return for each phase: words written, whether the collector is idle.
        """
        ends, found = [], []
        for length, *_ in phases:
            ends.append((ends[-1] if ends else 0) + length)

        def step(cycle):
            number = sum(cycle >= end for end in ends)
            _, offered, now = phases[number]
            idle = yield from self._step(offered, now)
            if cycle + 1 == ends[number]:
                found.append((len(self.data), bool(idle)))

        cycles(self.dut, range(ends[-1]), step)
        assert self.addresses == [FIRST + at % self.size for at in range(len(self.addresses))]
        return found

    def _step(self, offered, now):
        dut, port = self.dut, self.port
        for name in ("busy", "taken", "drop"):
            yield getattr(dut, name).eq(now.get(name, 0))
        if (yield from pull(dut.sink)) is not None:
            self.sent += 1
        written, idle = yield from levels(dut.written, dut.idle)
        assert written == len(self.data)
        assert not idle or written == len(self.addresses)
        command = yield from pull(port.cmd, "addr", "we")
        if command:
            assert command[1]
            self.addresses.append(command[0])
        word = yield from pull(port.wdata, "data", "we")
        if word:
            assert word[1] == 0xF
            self.data.append(word[0])
        yield dut.sink.valid.eq(self.sent < offered)
        yield dut.sink.data.eq(self.sent)
        yield port.cmd.ready.eq(not self.stalls())
        yield port.wdata.ready.eq(not self.stalls())
        return idle


@pytest.mark.parametrize("stalls", [never, coin(1, 0.6)])
def test_the_ring_holds_as_much_as_its_size_and_wraps_around(stalls):
    bench = Bench(16, stalls)
    assert bench.run((150, 40, {}), (50, 40, {"taken": 3}), (50, 40, {"taken": 16}),
                     (100, 40, {"taken": 24})) == [
        (16, False), (19, False), (32, False), (40, True)]
    assert bench.data == list(range(40))


def test_a_large_ring():
    assert Bench(1 << 16).run((50, 4, {})) == [(4, True)]


def test_words_are_collected_while_weights_are_read():
    busy = {"busy": 1}
    bench = Bench(1024)
    assert bench.run((GATHER + 50, GATHER - 1, busy), (GATHER + 50, GATHER, busy),
                     (50, GATHER + 9, busy), (50, GATHER + 9, {})) == [
        (0, False), (GATHER, True), (GATHER, False), (GATHER + 9, True)]
    assert bench.data == list(range(GATHER + 9))


def test_a_word_that_comes_as_reading_starts_is_collected():
    found = [Bench().run((1, 1, {}), (1 + late, 1, {}), (30, 1, {"busy": 1}))[-1][0]
             for late in range(6)]
    assert found == [0, 0, 1, 1, 1, 1]


def test_dropped_words_are_not_written():
    assert Bench().run((20, 8, {"drop": 1}), (30, 8, {})) == [(0, True), (0, True)]
    bench = Bench()
    assert bench.run((50, 40, {}), (40, 40, {"drop": 1, "taken": 8}), (50, 43, {"taken": 8})) == [
        (16, False), (16, True), (19, True)]
    assert bench.data == [*range(16), 40, 41, 42]
