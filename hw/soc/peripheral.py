"""The core as a peripheral of LiteX: descriptors in, answers in memory."""

from litex.gen import LiteXModule
from litex.soc.interconnect import stream
from litex.soc.interconnect.csr import CSRStatus, CSRStorage
from migen import ClockSignal, If, Instance, ResetInserter, ResetSignal, Signal

from tritstream.hw.soc.dma_reader import Feeder
from tritstream.hw.soc.dma_writer import Collector
from tritstream.hw.soc.registers import DESCRIPTORS, MAGIC, REGISTERS

__all__ = ["Core", "Tritstream"]

#: Registers that software writes.
_WRITTEN = ("restart", "address", "length", "index", "take")


class Core(LiteXModule):
    """The exported Verilog of a device; module ``tritstream``, whose file the platform gets.

    Members
    -------
    sink, source : Endpoint
        Words of ``lanes`` bytes.
    reset : Signal
    """

    def __init__(self, lanes) -> None:
        self.sink   = stream.Endpoint([("data", 8 * lanes)])
        self.source = stream.Endpoint([("data", 8 * lanes)])
        self.reset  = Signal()
        self.specials += Instance(
            "tritstream",
            i_aclk=ClockSignal(), i_aresetn=~(self.reset | ResetSignal()),
            i_s_axis_tdata=self.sink.data, i_s_axis_tvalid=self.sink.valid,
            o_s_axis_tready=self.sink.ready, i_s_axis_tlast=self.sink.last,
            o_m_axis_tdata=self.source.data, o_m_axis_tvalid=self.source.valid,
            i_m_axis_tready=self.source.ready, o_m_axis_tlast=self.source.last)


class Tritstream(LiteXModule):
    """Feeds the core with frames from memory and writes its answers to a ring in memory.

    A descriptor names a stretch of memory that holds whole request frames, as they would be sent.
    Registers are those of :data:`.REGISTERS`. A restart waits until no read is
    under way any more, and holds the core in reset meanwhile.

    Parameters
    ----------
    readers : list of LiteDRAMNativePort
        One or two, of a word of the core or twice that.
    writer : LiteDRAMNativePort
        As wide.
    lanes : int
        Of the core.
    memory, ring : int
        Bytes of memory, and at its end of the ring; powers of two.
    depth : int
        Words each reader may have under way.
    stretch : int
        Words of memory that stay in one bank.
    levels : int
        Told by a register.

    Members
    -------
    ready : Signal, in
        The memory works.
    """

    def __init__(self, readers, writer, lanes, memory, ring, depth, stretch,
                 levels=0) -> None:
        word = writer.data_width // 8
        self.ready = Signal()
        self.registers = self._make_registers()
        for name, value in {"magic": MAGIC, "memory": memory, "ring": ring, "align": word,
                            "lanes": lanes, "levels": levels,
                            "ready": self.ready}.items():
            self.comb += self.registers[name].status.eq(value)

        self.core      = core      = Core(lanes)
        self.feeder    = feeder    = Feeder(readers, depth, stretch)
        self.collector = collector = Collector(writer, (memory - ring) // word, ring // word)
        self.narrow    = narrow    = stream.Converter(8 * word, 8 * lanes)
        self.widen     = widen     = ResetInserter()(stream.Converter(8 * lanes, 8 * word))
        self.queue     = queue     = stream.SyncFIFO([("address", 26), ("length", 26)],
                                                     DESCRIPTORS, buffered=True)
        draining = self._make_restart()
        self._make_queue(draining)
        self._make_ring()
        self.comb += [
            core.reset.eq(draining | ~self.ready),
            widen.reset.eq(core.reset),
            queue.source.connect(feeder.sink),
            feeder.stop.eq(draining),
            feeder.source.connect(narrow.sink),
            narrow.source.connect(core.sink, omit={"ready"}),
            narrow.source.ready.eq(core.sink.ready | draining),
            core.source.connect(widen.sink),
            widen.source.connect(collector.sink, keep={"valid", "ready", "data"}),
            collector.busy.eq(~feeder.idle),
        ]

    def _make_registers(self):
        """A register for each name; those that software reads, and those it writes."""
        registers = {}
        for name, what in REGISTERS.items():
            kind = CSRStorage if name in _WRITTEN else CSRStatus
            registers[name] = kind(32, name=name, description=what)
            setattr(self, f"_{name}", registers[name])
        return registers

    def _make_restart(self):
        """Level that stands from an accepted restart until nothing is under way."""
        draining, begun = Signal(), Signal(3)
        session, restart = self.registers["session"].status, self.registers["restart"]
        quiet = (self.feeder.idle & ~self.queue.source.valid & ~self.narrow.source.valid
                 & self.collector.idle)
        self.sync += [
            If(restart.re & (restart.storage == session + 1) & ~draining,
                draining.eq(1), begun.eq(0)),
            If(draining,
                If(~begun[-1], begun.eq(begun + 1)),
                If(begun[-1] & quiet, draining.eq(0), session.eq(session + 1))),
        ]
        self.comb += self.collector.drop.eq(draining)
        return draining

    def _make_queue(self, draining):
        """Take each descriptor once: under the number that is due."""
        index, length = self.registers["index"], self.registers["length"]
        tail, head = self.registers["tail"].status, self.registers["head"].status
        self.comb += [
            self.queue.sink.address.eq(self.registers["address"].storage),
            self.queue.sink.length.eq(length.storage),
            self.queue.sink.valid.eq(index.re & (index.storage == tail) & (length.storage != 0)
                                     & ~draining),
        ]
        self.sync += [
            If(self.queue.sink.valid & self.queue.sink.ready, tail.eq(tail + 1)),
            If(self.narrow.sink.valid & self.narrow.sink.ready & self.narrow.sink.last,
                head.eq(head + 1)),
            If(draining, head.eq(tail)),
        ]

    def _make_ring(self):
        """Give room back only forward, and never more than was written."""
        take, taken = self.registers["take"], self.registers["taken"].status
        written = self.collector.written
        ahead, most = Signal(32), Signal(32)
        self.comb += [
            self.registers["written"].status.eq(written),
            self.collector.taken.eq(taken),
            ahead.eq(take.storage - taken),
            most.eq(written - taken),
        ]
        self.sync += If(take.re & (ahead <= most), taken.eq(take.storage))
