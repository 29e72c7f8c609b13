"""Rules of AXI4 and AXI4-Lite on the masters and the slave, for any behaviour of the other side."""

import pytest
from amaranth import Cat, Elaboratable, Module, Mux, Signal
from amaranth.hdl import Assert, Assume
from amaranth.lib.wiring import In, Out
from formal.rules import Shipped, free, holds

from tritstream.hw.axi.burst_reader import BurstReader
from tritstream.hw.axi.burst_writer import BurstWriter
from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.control import ChannelControl
from tritstream.hw.axi.interfaces import AxiRead, AxiWrite
from tritstream.hw.axi.lite_port import LitePort
from tritstream.hw.axi.top import CHANNEL_MODULE, TritstreamAxi, core_ports
from tritstream.hw.axi.verilog import AXI_CORE
from tritstream.hw.config import DeviceConfig
from tritstream.hw.tools.export import component_verilog
from tritstream.hw.tools.formal import Method

pytestmark = pytest.mark.long

LANES, BURST, DEPTH, PAGE = 64, 2, 4, 4096
CONFIG = AxiConfig(DeviceConfig(8), channels=2)
#: ABC's traces of designs with memories cannot be converted, so faults are shown by boolector.
BOUNDED = Method.BOUNDED, 14


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
        # Words that were requested and did not come.
        due, beat = Signal(4), Signal()
        m.d.comb += [beat.eq(bus.rvalid & bus.rready), Assume(~bus.rvalid | (due != 0))]
        m.d.sync += due.eq(due + asked(bus) - beat)
        self._claim(m, reader, due, beat)
        return m

    def _claim(self, m, reader, due, beat):
        bus = reader.bus
        holds(m, Offer(bus, "ar", "addr", "len"), Assert)
        with m.If(bus.arvalid):
            keeps_page(m, bus.araddr, bus.arlen)
        # Words that hold room or will need it.
        taken = Signal(4)
        m.d.sync += taken.eq(taken + asked(bus) - (reader.o.valid & reader.o.ready))
        offered = Mux(bus.arvalid, bus.arlen + 1, 0)
        m.d.comb += [Assert(taken <= DEPTH), Assert(reader.room + taken + offered == DEPTH),
                     Assert(~bus.rvalid | bus.rready),
                     Assert(~reader.idle | (due == 0) & ~bus.arvalid)]
        stays_idle(m, reader)


class Words(Reads):
    """Specification: a good beat becomes a word, once, and a bad one does not."""

    def _claim(self, m, reader, due, beat):
        given = reader.o.valid & reader.o.ready
        # Whether a beat was good shows a cycle later.
        came, inside, waits = Signal(), Signal(4), Signal()
        good = came & (reader.error == 0)
        m.d.sync += [came.eq(beat & (reader.error == 0)), inside.eq(inside + good - given),
                     waits.eq((inside != 0) & ~(given & (inside == 1)))]
        m.d.comb += [Assert(~reader.o.valid | (inside != 0)), Assert(~waits | reader.o.valid)]


def asked(bus):
    """Return the number of words that are requested in this cycle."""
    return Mux(bus.arvalid & bus.arready, bus.arlen + 1, 0)


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


class Clears(Elaboratable):
    """Specification: registers clear reader and writer only while these are stopped and idle."""

    def __init__(self, control):
        self._control = control

    def elaborate(self, platform):
        m = Module()
        m.submodules.control = control = self._control
        free(m, control.select, control.write, control.value, control.read, control.jobs.ready,
             control.arrived, control.written, control.read_error, control.write_error,
             control.idle, control.moving)
        was = Signal()
        m.d.sync += was.eq(control.stop & control.idle)
        m.d.comb += [Assert(~control.clear | was & control.stop),
                     Assert(~control.jobs.valid | (control.jobs.p.length != 0) & ~control.stop)]
        return m


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


def reader():
    return BurstReader(LANES, BURST, 2, DEPTH)


def test_requests(demonstrate):
    demonstrate(reader, Reads, [address_withdrawn, burst_too_long, page_crossed, idle_too_early,
                                burst_forgotten, request_without_room], refute=BOUNDED)


def test_words(demonstrate):
    demonstrate(reader, Words, [bad_word_given, word_given_twice], refute=BOUNDED)


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
                 writes_after_a_stop], refute=BOUNDED)


class Quiet(Elaboratable):
    """Specification: in reset, no handshake signal of the core is set, whatever channels do."""

    def __init__(self, core):
        self._core = core

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = core = self._core
        members = core.signature.members
        free(m, *(getattr(core, name) for name, member in members.items() if member.flow == In))
        handshakes = [getattr(core, name) for name, member in members.items()
                      if member.flow == Out and name.endswith(("valid", "ready"))]
        assert len(handshakes) == 5 + 2 * 5
        m.d.comb += Assert(core.aresetn | ~Cat(handshakes).any())
        return m


def top_verilog():
    """Verilog of the top, and of a channel whose outputs do whatever they like."""
    ports = [(f"{side}__{name}", member) for side, signature in (
                 ("reads", AxiRead(8)), ("writes", AxiWrite(8)))
             for name, member in signature.members.items()]
    ports += [("content", Out(32)), ("irq", Out(1)), ("select", In(8)), ("value", In(32)),
              ("read", In(8)), ("write", In(1)), ("clk", In(1)), ("rst", In(1))]
    lines = [f"{'input' if member.flow == In else 'output'} [{member.shape - 1}:0] {name}"
             for name, member in ports]
    outputs = [f"(* anyseq *) reg [{member.shape - 1}:0] any_{name}; assign {name} = any_{name};"
               for name, member in ports if member.flow == Out]
    return "\n".join([component_verilog(TritstreamAxi(CONFIG), AXI_CORE),
                      f"module {CHANNEL_MODULE}({', '.join(lines)});", *outputs, "endmodule", ""])


def reset_ignored(m, core):
    m.d.comb += core.m01_axi_arvalid.eq(core.m01_axi_arready)


def test_quiet_in_reset(demonstrate, tmp_path):
    (tmp_path / "top.v").write_text(top_verilog())
    demonstrate(lambda: Shipped(AXI_CORE, core_ports(CONFIG)), Quiet,
                [reset_ignored], Method.INDUCTION, 1, libraries=(str(tmp_path / "top.v"),))


def cleared_at_once(m, control):
    m.d.comb += control.clear.eq(control.write & control.stop)


def descriptor_in_a_restart(m, control):
    m.d.comb += control.jobs.valid.eq(control.write & (control.jobs.p.length != 0))


def test_control(demonstrate):
    demonstrate(lambda: ChannelControl(CONFIG), Clears, [cleared_at_once, descriptor_in_a_restart])


def answer_withdrawn(m, port):
    with m.If(port.bus.awvalid):
        m.d.sync += port.bus.bvalid.eq(0)


def content_not_held(m, port):
    m.d.sync += port.bus.rdata.eq(port.content)


def write_twice(m, port):
    m.d.comb += port.write.eq(port.bus.bvalid)


def test_lite_port(demonstrate):
    demonstrate(lambda: LitePort(2), Answers, [answer_withdrawn, content_not_held, write_twice])
