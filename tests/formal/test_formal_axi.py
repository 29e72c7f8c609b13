"""Rules of AXI4 and AXI4-Lite on the masters and the slave, for any behaviour of the other side."""

import pytest
from amaranth import Cat, Elaboratable, Module, Mux, Signal
from amaranth.hdl import Assert, Assume
from formal.rules import free, holds

from tritstream.hw.axi.burst_reader import BurstReader
from tritstream.hw.axi.burst_writer import BurstWriter
from tritstream.hw.axi.lite_port import LitePort

pytestmark = pytest.mark.long

LANES, BURST, DEPTH, PAGE = 64, 4, 8, 4096


class Offer:
    """A channel of AXI as a stream: valid, ready and what is offered."""

    def __init__(self, bus, name, *payload):
        self.valid, self.ready = getattr(bus, f"{name}valid"), getattr(bus, f"{name}ready")
        self.payload = Cat(getattr(bus, name + signal) for signal in payload)


def keeps_page(m, address, length):
    """Assert that a burst is not longer than allowed, and does not cross a page."""
    m.d.comb += [Assert(length < BURST), Assert(address[:6] == 0),
                 Assert(address[6:12] + length < PAGE // LANES)]


class Reads(Elaboratable):
    """Specification of a reader in front of a memory that answers nothing but what was asked."""

    def __init__(self, reader):
        self._reader = reader

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader = reader = self._reader
        bus = reader.bus
        free(m, reader.jobs.payload, reader.jobs.valid, reader.base, reader.o.ready, reader.stop,
             bus.arready, bus.rdata, bus.rresp, bus.rlast, bus.rvalid)
        m.d.comb += Assume(reader.jobs.p.length != 0)       # the registers refuse others
        holds(m, Offer(bus, "ar", "addr", "len"), Assert)
        with m.If(bus.arvalid):
            keeps_page(m, bus.araddr, bus.arlen)
        asked, beat, given = Signal(), Signal(), Signal()
        m.d.comb += [asked.eq(bus.arvalid & bus.arready), beat.eq(bus.rvalid & bus.rready),
                     given.eq(reader.o.valid & reader.o.ready)]
        # Words that were requested and did not come, and words that hold or will need room.
        due, taken = Signal(8), Signal(8)
        m.d.comb += Assume(~bus.rvalid | (due != 0))
        m.d.sync += [due.eq(due + Mux(asked, bus.arlen + 1, 0) - beat),
                     taken.eq(taken + Mux(asked, bus.arlen + 1, 0) - given)]
        m.d.comb += [Assert(~bus.rvalid | bus.rready), Assert(~reader.idle | (due == 0)),
                     Assert((reader.error != 0) | (taken <= DEPTH))]
        # A good beat becomes a word, a bad one does not. Whether it was good shows a cycle later.
        came, inside, before = Signal(), Signal(8), Signal()
        good = came & (reader.error == 0)
        m.d.sync += [came.eq(beat & (reader.error == 0)), inside.eq(inside + good - given),
                     before.eq((inside != 0) & ~(given & (inside == 1)))]
        m.d.comb += [Assert(~reader.o.valid | (inside != 0)), Assert(~before | reader.o.valid)]
        stays_idle(m, reader)
        return m


class Writes(Elaboratable):
    """Specification of a writer in front of a memory that acknowledges only complete bursts."""

    def __init__(self, writer):
        self._writer = writer

    def elaborate(self, platform):
        m = Module()
        m.submodules.writer = writer = self._writer
        bus, size, page = writer.bus, 2 * PAGE // LANES, 5
        free(m, writer.i.payload, writer.i.valid, writer.taken, writer.flush, writer.stop,
             writer.clear, bus.awready, bus.wready, bus.bresp, bus.bvalid)
        m.d.comb += [writer.size.eq(size), writer.page.eq(page),
                     Assume(~writer.clear | writer.idle)]
        holds(m, Offer(bus, "aw", "addr", "len"), Assert)
        holds(m, Offer(bus, "w", "data", "last"), Assert)
        with m.If(bus.awvalid):
            keeps_page(m, bus.awaddr, bus.awlen)
            m.d.comb += Assert((bus.awaddr[12:] >= page) & (bus.awaddr[12:] < page + 2))
        beat, count = Signal(), Signal(4)
        m.d.comb += beat.eq(bus.wvalid & bus.wready)
        with m.If(bus.wvalid):
            m.d.comb += Assert(bus.wlast == (count == bus.awlen))
        with m.If(beat):
            m.d.sync += count.eq(Mux(bus.wlast, 0, count + 1))
        # Bursts whose address and data are complete, and which are not acknowledged.
        addresses, ends = Signal(8), Signal(8)
        answered = bus.bvalid & bus.bready
        m.d.comb += Assume(~bus.bvalid | (addresses != 0) & (ends != 0))
        m.d.sync += [addresses.eq(addresses + (bus.awvalid & bus.awready) - answered),
                     ends.eq(ends + (beat & bus.wlast) - answered)]
        m.d.comb += [Assert(~bus.bvalid | bus.bready),
                     Assert(~writer.idle | (addresses == 0) & (ends == 0) & (count == 0)
                            & ~bus.awvalid & ~bus.wvalid)]
        stays_idle(m, writer)
        return m


def stays_idle(m, component):
    """Assert that what is idle and stopped begins nothing, so that a restart may clear it."""
    was = Signal()
    m.d.sync += was.eq(component.idle & component.stop)
    m.d.comb += Assert(~(was & component.stop) | component.idle)


class Answers(Elaboratable):
    """Specification of the AXI4-Lite slave: each access gets one answer, which is held."""

    def __init__(self, port):
        self._port = port

    def elaborate(self, platform):
        m = Module()
        m.submodules.port = port = self._port
        bus = port.bus
        free(m, port.content, *(getattr(bus, name) for name in (
            "awaddr", "awvalid", "wdata", "wstrb", "wvalid", "bready", "araddr", "arvalid",
            "rready")))
        holds(m, Offer(bus, "b", "resp"), Assert)
        holds(m, Offer(bus, "r", "data", "resp"), Assert)
        counts = {name: Signal(4, name=f"count_{name}") for name in ("aw", "w", "ar", "done")}
        for name in ("aw", "w", "ar"):
            answer = "r" if name == "ar" else "b"
            taken = getattr(bus, f"{name}valid") & getattr(bus, f"{name}ready")
            given = getattr(bus, f"{answer}valid") & getattr(bus, f"{answer}ready")
            m.d.sync += counts[name].eq(counts[name] + taken - given)
            m.d.comb += [Assert(counts[name] <= 1),
                         Assert(~getattr(bus, f"{answer}valid") | (counts[name] == 1))]
        # A write has its effect once, between request and answer, and none if it is refused.
        m.d.sync += counts["done"].eq(
            Mux(bus.bvalid & bus.bready, 0, counts["done"] + port.write))
        m.d.comb += Assert(counts["done"] <= 1)
        with m.If(bus.bvalid):
            m.d.comb += Assert(counts["done"] == (bus.bresp == 0))
        return m


def address_withdrawn(m, reader):
    with m.If(reader.stop):
        m.d.sync += reader.bus.arvalid.eq(0)


def burst_too_long(m, reader):
    m.d.sync += reader.bus.arlen.eq(BURST)


def page_crossed(m, reader):
    m.d.sync += reader.bus.araddr.eq(reader.jobs.p.address << 6)


def idle_too_early(m, reader):
    m.d.comb += reader.idle.eq(~reader.bus.arvalid)


def bad_word_given(m, reader):
    m.d.comb += m.submodules.words.w_en.eq(reader.bus.rvalid & reader.bus.rready)


def burst_forgotten(m, reader):
    m.d.comb += m.submodules.bursts.w_en.eq(0)


def request_without_room(m, reader):
    with m.If(reader.stop):
        m.d.sync += reader.room.eq(DEPTH)


def word_given_twice(m, reader):
    m.d.comb += reader.o.valid.eq(m.submodules.words.r_rdy | reader.bus.rvalid)


def test_reader(demonstrate):
    demonstrate(lambda: BurstReader(LANES, BURST, 2, DEPTH), Reads,
                [address_withdrawn, burst_too_long, page_crossed, idle_too_early, bad_word_given,
                 burst_forgotten, request_without_room, word_given_twice])


def data_not_held(m, writer):
    m.d.comb += writer.bus.wdata.eq(writer.i.payload)


def last_missing(m, writer):
    m.d.comb += writer.bus.wlast.eq(0)


def write_crosses_a_page(m, writer):
    m.d.sync += writer.bus.awaddr.eq((writer.page << 12) + (writer.taken[:6] << 6))


def write_idle_too_early(m, writer):
    m.d.comb += writer.idle.eq(~writer.bus.awvalid & ~writer.bus.wvalid)


def writes_after_a_stop(m, writer):
    with m.If(writer.stop):
        m.d.sync += writer.bus.awvalid.eq(1)


def test_writer(demonstrate):
    demonstrate(lambda: BurstWriter(LANES, BURST), Writes,
                [data_not_held, last_missing, write_crosses_a_page, write_idle_too_early,
                 writes_after_a_stop])


def answer_withdrawn(m, port):
    with m.If(port.bus.awvalid):
        m.d.sync += port.bus.bvalid.eq(0)


def content_not_held(m, port):
    m.d.sync += port.bus.rdata.eq(port.content)


def write_twice(m, port):
    m.d.comb += port.write.eq(port.bus.bvalid)


def test_lite_port(demonstrate):
    demonstrate(lambda: LitePort(2), Answers, [answer_withdrawn, content_not_held, write_twice])
