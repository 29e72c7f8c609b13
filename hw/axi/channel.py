"""Channel: an engine between a reader of request frames and a writer of responses."""

from amaranth import Cat, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from tritstream.hw.axi.burst_reader import BurstReader
from tritstream.hw.axi.burst_writer import BurstWriter
from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.control import ChannelControl
from tritstream.hw.axi.interfaces import AxiRead, AxiWrite, Descriptor
from tritstream.hw.axi.registers import Error
from tritstream.hw.device import TritDevice
from tritstream.hw.soc.registers import DESCRIPTORS

__all__ = ["Channel"]


class Channel(wiring.Component):
    """Runs descriptors from memory through an engine, and writes its responses to a ring.

    Parameters
    ----------
    config : AxiConfig
        Build parameters.

    Members
    -------
    select, write, value, read, content
        Registers: :class:`.ChannelControl`.
    reads : :py:`Out(AxiRead(lanes))`
        AXI4 read channels.
    writes : :py:`Out(AxiWrite(lanes))`
        AXI4 write channels.
    irq : :py:`Out(1)`
        Interrupt, as a level.
    """

    def __init__(self, config: AxiConfig) -> None:
        self._config = config
        super().__init__({
            "select":    In(8),
            "write":     In(1),
            "value":     In(32),
            "read":      In(8),
            "content":   Out(32),
            "reads":     Out(AxiRead(config.lanes)),
            "writes":    Out(AxiWrite(config.lanes)),
            "irq":       Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        reset  = Signal(init=1)
        queue  = SyncFIFOBuffered(width=Descriptor.size, depth=DESCRIPTORS)
        reader = BurstReader(config.lanes, config.burst, config.outstanding, config.depth)
        engine = TritDevice(config.device)
        m.submodules.control = control = ChannelControl(config)
        m.submodules.writer  = writer  = BurstWriter(config.lanes, config.burst)
        m.submodules.queue   = ResetInserter(control.clear)(queue)
        m.submodules.reader  = ResetInserter(control.clear)(reader)
        m.submodules.engine  = ResetInserter(reset)(engine)
        # Registered, because the reset reaches every register of the engine.
        m.d.sync += reset.eq(control.stop | control.clear)
        for name in ("select", "write", "value", "read"):
            m.d.comb += getattr(control, name).eq(getattr(self, name))
        wiring.connect(m, reader.bus, wiring.flipped(self.reads))
        wiring.connect(m, writer.bus, wiring.flipped(self.writes))
        m.d.comb += [
            self.content.eq(control.content),
            self.irq.eq(control.irq),

            queue.w_data.eq(Cat(control.jobs.p.address, control.jobs.p.length)),
            queue.w_en.eq(control.jobs.valid),
            control.jobs.ready.eq(queue.w_rdy),
            reader.jobs.payload.eq(queue.r_data),
            reader.jobs.valid.eq(queue.r_rdy),
            queue.r_en.eq(reader.jobs.ready),

            reader.base.eq(control.base),
            reader.stop.eq(control.stop),
            control.arrived.eq(reader.arrived),
            control.read_error.eq(reader.error),

            engine.i.payload.eq(reader.o.payload),
            engine.i.valid.eq(reader.o.valid & ~reset),
            reader.o.ready.eq(engine.i.ready & ~reset),

            writer.i.payload.eq(engine.o.p.data),
            writer.i.valid.eq(engine.o.valid & ~reset),
            engine.o.ready.eq(writer.i.ready & ~reset),
            writer.page.eq(control.page),
            writer.size.eq(control.size),
            writer.taken.eq(control.taken),
            writer.flush.eq(reader.idle & (~queue.r_rdy | (reader.error != Error.NONE))),
            writer.stop.eq(control.stop),
            writer.clear.eq(control.clear),
            control.written.eq(writer.written),
            control.write_error.eq(writer.error),

            control.idle.eq(reader.idle & writer.idle),
            control.moving.eq(reader.o.valid | engine.busy | ~writer.empty),
        ]
        return m
