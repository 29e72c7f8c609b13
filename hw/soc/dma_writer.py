"""From the core's answers to a ring in memory."""

from litedram.frontend.dma import LiteDRAMDMAWriter
from litex.gen import LiteXModule
from litex.soc.interconnect import stream
from migen import If, Signal

from tritstream.hw.soc.registers import COUNT_BITS

__all__ = ["Collector"]

#: Memory words gathered before they are written while weights are read: to turn the memory's bus
#: round costs as much as a dozen words.
_GATHER = 192
_DEPTH  = 256


class Collector(LiteXModule):
    """Writes words to a ring in memory.

    Words are gathered while ``busy``, since every change from reading to writing costs the memory
    time, and written at once when it is not.

    Parameters
    ----------
    port : LiteDRAMNativePort
    first, size : int
        First word of the ring and its length in words, a power of two.

    Members
    -------
    sink : Endpoint
        ``data``.
    busy : Signal
        Whether something else is reading.
    written : Signal
        Words in memory, ever; one that is counted is read by any later read.
    taken : Signal, in
        Words whose place is free again, ever.
    drop : Signal, in
        Forget what waits.
    idle : Signal
        Nothing waits to be written.
    """

    def __init__(self, port, first, size) -> None:
        self.sink = sink = stream.Endpoint([("data", port.data_width)])
        self.busy, self.drop, self.idle = Signal(), Signal(), Signal()
        self.written, self.taken = Signal(COUNT_BITS), Signal(COUNT_BITS)

        self.fifo   = fifo   = stream.SyncFIFO([("data", port.data_width)], _DEPTH, buffered=True)
        self.writer = writer = LiteDRAMDMAWriter(port, fifo_depth=16)
        issued = Signal(COUNT_BITS)
        used   = Signal(COUNT_BITS)
        drain  = Signal()
        self.comb += [
            sink.connect(fifo.sink),
            used.eq(issued - self.taken),
            writer.sink.valid.eq(fifo.source.valid & drain & (used < size)
                                 & ~self.drop),
            writer.sink.address.eq(first + issued[:size.bit_length() - 1]),
            writer.sink.data.eq(fifo.source.data),
            fifo.source.ready.eq((writer.sink.valid & writer.sink.ready) | self.drop),
            self.idle.eq(~fifo.source.valid & (issued == self.written)),
        ]
        self.sync += [
            If(~fifo.source.valid, drain.eq(0)),
            If(fifo.source.valid & (~self.busy | (fifo.level >= _GATHER)), drain.eq(1)),
            If(writer.sink.valid & writer.sink.ready, issued.eq(issued + 1)),
            If(port.wdata.valid & port.wdata.ready, self.written.eq(self.written + 1)),
        ]
