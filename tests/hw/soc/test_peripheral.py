"""The peripheral alone: descriptors, restarts and the ring. The core is driven by the test."""

import pytest
from litedram.common import LiteDRAMNativePort
from litex.gen import LiteXModule
from litex.soc.interconnect import stream
from migen import Signal
from migen.sim import passive, run_simulation

from tritstream.hw.soc import peripheral
from tritstream.hw.soc.registers import MAGIC, UNIT

from support.migen_bench import memory

LANES, WORD = 4, 8
MEMORY, RING = 1 << 12, 1 << 7


class Core(LiteXModule):
    """Ports of the core, without the core."""

    def __init__(self, lanes):
        self.sink   = stream.Endpoint([("data", 8 * lanes)])
        self.source = stream.Endpoint([("data", 8 * lanes)])
        self.reset  = Signal()


def contents(address):
    return 0x9E3779B1_7F4A7C15 * (address + 1)


class Bench:
    """The peripheral with memory; ``slow`` names the latencies of ports that are slow."""

    def __init__(self, monkeypatch, reads=3, writes=3, lanes=LANES, depth=4):
        monkeypatch.setattr(peripheral, "Core", Core)
        self.ports = [LiteDRAMNativePort(mode, 20, 8 * WORD) for mode in ("read", "read", "write")]
        self.dut = peripheral.Tritstream(self.ports[:2], self.ports[2], lanes, MEMORY, RING, depth,
                                         8, levels=5)
        self.registers, self.latency = self.dut.registers, (reads, reads, writes)
        self.taken, self.written = [], {}
        self.open = True        # the core takes words

    def run(self, driver):
        run_simulation(self.dut, [driver, self._core(), *(
            memory(port, contents, self.written, [], latency=latency)
            for port, latency in zip(self.ports, self.latency, strict=True))])

    @passive
    def _core(self):
        core = self.dut.core
        while True:
            if (yield core.sink.valid) and (yield core.sink.ready) and not (yield core.reset):
                self.taken.append((yield core.sink.data))
            yield core.sink.ready.eq(self.open)
            yield

    def write(self, name, value):
        """Write a register, as the bus does."""
        register = self.registers[name]
        yield register.storage.eq(value)
        yield register.re.eq(1)
        yield
        yield register.re.eq(0)
        yield

    def get(self, name):
        return (yield self.registers[name].status)

    def begin(self):
        yield self.dut.ready.eq(1)
        yield
        yield

    def push(self, address, length, index):
        for name, value in (("address", address), ("length", length), ("index", index)):
            yield from self.write(name, value)

    def answer(self, words):
        """Send words of responses."""
        source = self.dut.core.source
        for word in words:
            yield source.data.eq(word)
            yield source.valid.eq(1)
            yield
            while not (yield source.ready):
                yield
        yield source.valid.eq(0)

    def due(self, address, length):
        """Words of the core for a descriptor."""
        units = range(address * UNIT // WORD, (address + length) * UNIT // WORD)
        return [contents(at) >> 32 * half & 0xFFFFFFFF for at in units for half in range(2)]


def wait(cycles):
    for _ in range(cycles):
        yield


def test_the_core_gets_what_descriptors_name(monkeypatch):
    bench = Bench(monkeypatch)

    def drive():
        assert (yield from bench.get("ready")) == 0 and (yield bench.dut.core.reset) == 1
        yield from bench.begin()
        assert (yield bench.dut.core.reset) == 0
        found = []
        for name in ("magic", "ready", "levels", "lanes", "memory", "ring", "align"):
            found.append((yield from bench.get(name)))
        assert found == [MAGIC, 1, 5, LANES, MEMORY, RING, WORD]
        yield from bench.push(3, 2, 0)
        yield from bench.push(40, 1, 1)
        yield from wait(150)
        assert (yield from bench.get("tail")) == (yield from bench.get("head")) == 2
        bench.open = False
        yield from bench.push(0, 4, 2)
        yield from wait(150)
        assert (yield from bench.get("tail")) == 3 and (yield from bench.get("head")) == 2

    bench.run(drive())
    assert bench.taken == bench.due(3, 2) + bench.due(40, 1)


def test_a_core_as_wide_as_the_memory_ends_each_descriptor_once(monkeypatch):
    # Seven of eight reads fit, so the last word comes long after the others.
    bench = Bench(monkeypatch, reads=60, lanes=WORD, depth=7)

    def drive():
        yield from bench.begin()
        yield from bench.push(3, 2, 0)
        yield from wait(400)
        assert (yield from bench.get("tail")) == (yield from bench.get("head")) == 1

    bench.run(drive())
    assert bench.taken == [contents(at) % (1 << 8 * WORD)
                           for at in range(3 * UNIT // WORD, 5 * UNIT // WORD)]


def test_a_descriptor_needs_its_index_and_a_length(monkeypatch):
    bench = Bench(monkeypatch)

    def drive():
        yield from bench.begin()
        yield from bench.push(1, 1, 0)
        for tail in (1, 2):
            for bit in range(32):
                yield from bench.write("index", tail ^ 1 << bit)
                assert (yield from bench.get("tail")) == tail
            yield from bench.push(1, 0, tail)
            assert (yield from bench.get("tail")) == tail
            # The number alone, without a write of the register, is none.
            yield bench.registers["length"].storage.eq(1)
            yield from wait(4)
            assert (yield from bench.get("tail")) == tail
            yield from bench.write("index", tail)
            assert (yield from bench.get("tail")) == tail + 1
        for bit in range(26):
            tail = yield from bench.get("tail")
            yield from bench.push(0, 1 << bit, tail)
            assert (yield from bench.get("tail")) == tail + 1

    bench.run(drive())


def test_a_full_queue_takes_no_descriptor(monkeypatch):
    monkeypatch.setattr(peripheral, "DESCRIPTORS", 8)
    bench = Bench(monkeypatch)
    bench.open = False

    def drive():
        yield from bench.begin()
        for _ in range(20):
            tail = yield from bench.get("tail")
            yield from bench.push(0, 100, tail)
        assert 9 <= tail <= 11
        assert (yield from bench.get("tail")) == tail

    bench.run(drive())


def test_responses_fill_the_ring_until_room_is_given_back(monkeypatch):
    bench = Bench(monkeypatch)
    units = RING // WORD
    halves = list(range(2 * units + 20))

    def drive():
        def expect(taken, written):
            assert (yield from bench.get("taken")) == taken
            assert (yield from bench.get("written")) == written
        yield from bench.begin()
        # An even and an odd number of units, of which none may be given back yet.
        yield from bench.answer(halves[:8])
        yield from wait(30)
        yield from expect(0, 4)
        for wrong in (5, 6, 7, *(1 << bit for bit in range(3, 32)),
                      *(1 | 1 << bit for bit in range(3, 32))):
            yield from bench.write("take", wrong)
            yield from expect(0, 4)
        yield bench.registers["take"].storage.eq(2)
        yield from wait(4)
        yield from expect(0, 4)
        yield from bench.write("take", 3)
        yield from expect(3, 4)
        for wrong in (0, 2, 5, 0xFFFFFFFF):
            yield from bench.write("take", wrong)
            yield from expect(3, 4)
        yield from bench.write("take", 4)
        yield from expect(4, 4)
        yield from bench.answer(halves[8:2 * units + 20])
        yield from wait(100)
        yield from expect(4, units + 4)
        yield from bench.write("take", units + 4)
        yield from wait(50)
        yield from expect(units + 4, units + 10)

    bench.run(drive())
    first = (MEMORY - RING) // WORD
    assert bench.written == {
        first + at % units: halves[2 * at] | halves[2 * at + 1] << 32 for at in range(units + 10)}


def quiet(dut):
    return ((yield dut.feeder.idle) and not (yield dut.queue.source.valid)
            and not (yield dut.narrow.source.valid) and (yield dut.collector.idle))


def test_a_restart_needs_its_number(monkeypatch):
    bench = Bench(monkeypatch)

    def drive():
        yield from bench.begin()
        for session in (0, 1):
            for bit in range(32):
                yield from bench.write("restart", session + 1 ^ 1 << bit)
                assert not (yield bench.dut.core.reset)
            # The number alone, without a write of the register, is none.
            yield bench.registers["restart"].storage.eq(session + 1)
            yield from wait(4)
            assert not (yield bench.dut.core.reset)
            yield from bench.write("restart", session + 1)
            for _ in range(3):      # although nothing is under way
                assert (yield bench.dut.core.reset)
                yield
            yield from wait(10)
            assert (yield from bench.get("session")) == session + 1

    bench.run(drive())


@pytest.mark.parametrize("reads, writes, descriptors, length", [
    (3, 3, 1, 1), (60, 3, 1, 1), (3, 3, 12, 1), (3, 60, 0, 1), (3, 3, 2, 30)],
    ids=["a word", "a read", "descriptors", "a write", "words"])
def test_a_restart_waits_for_what_is_under_way(monkeypatch, reads, writes, descriptors, length):
    bench = Bench(monkeypatch, reads, writes)
    bench.open = False

    def drive():
        dut = bench.dut
        index, restart = bench.registers["index"], bench.registers["restart"]
        yield from bench.begin()
        for number in range(descriptors):
            yield from bench.push(3 * number, length, number)
        yield from bench.answer([7] * 8)
        yield from wait(6)
        # A datagram that comes again and again changes nothing, and no descriptor is taken.
        yield restart.storage.eq(1)
        yield restart.re.eq(1)
        yield
        yield index.storage.eq(descriptors)
        yield bench.registers["length"].storage.eq(1)
        yield
        for cycle in range(200):
            if (yield from bench.get("session")):
                break
            assert (yield dut.core.reset)
            yield index.re.eq(cycle < 2)
            still = yield from quiet(dut)
            yield
        assert 3 < cycle < 199 and still
        yield restart.re.eq(0)
        assert not (yield dut.core.reset)
        assert (yield from bench.get("head")) == (yield from bench.get("tail")) == descriptors
        bench.open = True
        yield from wait(30)
        assert not bench.taken
        yield from bench.push(9, 1, descriptors)
        yield from wait(80 + reads)
        assert (yield from bench.get("session")) == 1
        assert (yield from bench.get("head")) == descriptors + 1

    bench.run(drive())
    assert bench.taken == bench.due(9, 1)
