"""LiteX peripheral with the core: takes descriptors, writes responses to memory."""

from litedram.common import LiteDRAMNativePort
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
    """Instance of the exported core, module ``tritstream``.

    The platform must be given the Verilog file of the core.

    Parameters
    ----------
    lanes : int
        Bytes per word.

    Members
    -------
    sink, source : Endpoint
        Words of requests and of responses.
    reset : Signal, in
        Reset of the core.
    """

    def __init__(self, lanes: int) -> None:
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
    """Sends request frames from memory to the core, and writes responses to a ring in memory.

    A descriptor names a segment of memory with complete request frames. The registers are
    :data:`.REGISTERS`. A restart holds the core in reset until no read is outstanding.

    Parameters
    ----------
    readers : list of LiteDRAMNativePort
        One or two ports, as wide as a word of the core or twice as wide.
    writer : LiteDRAMNativePort
        Port of the same width.
    lanes : int
        Bytes per word of the core.
    memory, ring : int
        Size in bytes of the memory, and of the ring at its end; powers of two.
    depth : int
        Largest number of outstanding words per reader.
    stretch : int
        Consecutive memory words in one bank.
    levels : int
        Value of the register ``levels``.

    Members
    -------
    ready : Signal, in
        The memory is initialized.
    """

    def __init__(self, readers: list[LiteDRAMNativePort], writer: LiteDRAMNativePort, lanes: int,
                 memory: int, ring: int, depth: int, stretch: int, levels: int = 0) -> None:
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
        """Add the registers, and return them by name."""
        registers = {}
        for name, what in REGISTERS.items():
            kind = CSRStorage if name in _WRITTEN else CSRStatus
            registers[name] = kind(32, name=name, description=what)
            setattr(self, f"_{name}", registers[name])
        return registers

    def _make_restart(self):
        """Return a level that is set from an accepted restart until no transfer is outstanding."""
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
        """Accept each descriptor once, with the expected index."""
        index, length = self.registers["index"], self.registers["length"]
        tail, head = self.registers["tail"].status, self.registers["head"].status
        ended = Signal()
        self.comb += [
            self.queue.sink.address.eq(self.registers["address"].storage),
            self.queue.sink.length.eq(length.storage),
            self.queue.sink.valid.eq(index.re & (index.storage == tail) & (length.storage != 0)
                                     & ~draining),
        ]
        self.sync += [
            If(self.queue.sink.valid & self.queue.sink.ready, tail.eq(tail + 1)),
            ended.eq(self.narrow.sink.valid & self.narrow.sink.ready & self.narrow.sink.last),
            If(ended, head.eq(head + 1)),
            If(draining, head.eq(tail)),
        ]

    def _make_ring(self):
        """Release space of the ring only forward, and never more than was written."""
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
