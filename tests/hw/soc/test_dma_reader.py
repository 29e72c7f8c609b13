"""The reader of descriptors alone, at one or two memory ports."""

import pytest
from litedram.common import LiteDRAMNativePort
from migen.sim import run_simulation

from tritstream.hw.soc.dma_reader import Feeder
from tritstream.sim.streams import coin, never

from support.migen_bench import levels, memory, pull

DEPTH = 4


def contents(address):
    return 0x9E3779B1 * (address + 1)


class Bench:
    """A feeder with its memory, and a sink that takes the words."""

    def __init__(self, ports=2, width=128, stretch=8, stalls=never, latency=5):
        self.ports  = [LiteDRAMNativePort("read", 26, width) for _ in range(ports)]
        self.dut    = Feeder(self.ports, DEPTH, stretch)
        self.shift  = (512 // width).bit_length() - 1
        self.mask   = (1 << width) - 1
        self.stalls, self.latency = stalls, latency
        self.commands = [[] for _ in range(ports)]
        self.words, self.idle, self.waiting = [], [], []

    def run(self, descriptors, cycles, ready=lambda _: True, stop=lambda _: False):
        """Simulate until the feeder is idle, at most so many cycles."""
        dut, todo = self.dut, list(descriptors)

        def drive():
            for cycle in range(cycles):
                word = yield from pull(dut.source, "data", "last")
                if word:
                    self.words.append(word)
                if (yield from pull(dut.sink)) is not None:
                    todo.pop(0)
                idle, waiting, offered = yield from levels(dut.idle, dut.waiting, dut.sink.valid)
                self.idle.append(idle)
                self.waiting.append(waiting)
                assert not (idle and offered) and waiting >= offered
                if not todo and all(self.idle[-12:]):
                    break
                yield dut.sink.valid.eq(bool(todo))
                if todo:
                    yield dut.sink.address.eq(todo[0][0])
                    yield dut.sink.length.eq(todo[0][1])
                yield dut.source.ready.eq(ready(cycle) and not self.stalls())
                yield dut.stop.eq(stop(cycle))
                yield

        run_simulation(self.dut, [drive(), *(
            memory(port, contents, {}, commands, self.stalls, self.latency)
            for port, commands in zip(self.ports, self.commands, strict=True))])

    def due(self, descriptors):
        return [(contents((address << self.shift) + at) & self.mask,
                 at + 1 == length << self.shift)
                for address, length in descriptors for at in range(length << self.shift)]


JOBS = [(0, 1), (1, 2), (7, 3), (100, 1), (5, 9), (5, 1)]


@pytest.mark.parametrize("ports, width, stretch, stalls", [
    (1, 128, 8, never), (1, 256, 8, coin(4, 0.5)), (2, 64, 8, never), (2, 256, 2, never),
    (2, 128, 8, coin(4, 0.5))])
def test_words_come_in_order_and_each_descriptor_has_an_end(ports, width, stretch, stalls):
    bench = Bench(ports, width, stretch, stalls)
    bench.run(JOBS, 900)
    assert bench.words == bench.due(JOBS)
    assert bench.idle[-1] and not bench.waiting[-1]
    # The ports alternate by address.
    for number, commands in enumerate(bench.commands):
        assert commands
        assert all(not write and address // stretch % ports == number
                   for address, write in commands)
    # Idle and back to it once: descriptors and words are under way without a gap.
    assert "".join(map(str, bench.idle)).strip("1").count("1") == 0


def test_no_more_words_are_requested_than_there_is_room_for():
    bench = Bench(latency=1, stretch=2)
    bench.run([(0, 100)], 60, ready=lambda _: False)
    assert not bench.words
    assert [len(commands) for commands in bench.commands] == [DEPTH, DEPTH]
    assert bench.waiting[-1] and not bench.idle[-1]


@pytest.mark.parametrize("bit", range(26))
def test_every_bit_of_a_length_and_of_an_address_counts(bit):
    long = 1 | 1 << bit
    bench = Bench(1, 256)
    job = (1 << bit, long)
    bench.run([job], 60)
    assert len(bench.words) > 20 or bit < 4
    assert bench.words == [
        (contents(((1 << bit) << 1) + at & 0x3FFFFFF) & bench.mask, at + 1 == 2 * long)
        for at in range(len(bench.words))]


def test_a_stopped_descriptor_gives_the_words_that_were_requested():
    bench = Bench(latency=2)
    jobs = [(0, 8), (50, 1)]
    bench.run(jobs, 150, stop=lambda cycle: cycle == 12)
    count = next(at for at, (word, _) in enumerate(bench.words)
                 if word == contents(200) & bench.mask)
    # The next one starts at its beginning; the stopped one has no end.
    assert 0 < count < 32
    assert bench.words == [*bench.due(jobs[:1])[:count], *bench.due(jobs[1:])]
    assert bench.idle[-1]
    assert sum(map(len, bench.commands)) == len(bench.words)


def test_descriptors_that_are_dropped_request_no_word():
    bench = Bench(latency=2)
    jobs = [(0, 8), *((50 + number, 1) for number in range(5))]
    bench.run(jobs, 150, stop=lambda cycle: cycle >= 12)
    assert bench.words == bench.due(jobs[:1])[:len(bench.words)]
    assert 0 < len(bench.words) == sum(map(len, bench.commands)) < 32
    assert bench.idle[-1]


def test_a_feeder_whose_words_are_not_taken_is_not_idle():
    bench = Bench(latency=1)
    bench.run([(0, 1)], 60, ready=lambda _: False)
    assert sum(map(len, bench.commands)) == 4
    assert not any(bench.idle[2:])
