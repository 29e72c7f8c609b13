"""Writer of the responses of the core to a ring buffer in memory."""

from litedram.common import LiteDRAMNativePort
from litedram.frontend.dma import LiteDRAMDMAWriter
from litex.gen import LiteXModule
from litex.soc.interconnect import stream
from migen import If, Mux, Signal

from tritstream.hw.soc.registers import COUNT_BITS

__all__ = ["Collector"]

#: Memory words that are collected before a write, while weights are read. A change of direction of
#: the memory bus costs as much time as a dozen words.
_GATHER = 192
_DEPTH  = 256
#: Words that a skid buffer holds.
_SKID   = 2


class Collector(LiteXModule):
    """Writes words to a ring buffer in memory.

    Words are collected while ``busy`` is set, because every change from reading to writing costs
    time. Otherwise they are written immediately.

    Parameters
    ----------
    port : LiteDRAMNativePort
        Port of the memory.
    first, size : int
        First word of the ring, and size of the ring in words, a power of two.

    Members
    -------
    sink : Endpoint
        Words to write: ``data``.
    busy : Signal, in
        Weights are being read.
    written : Signal
        Number of words written since power-on. Every later read returns these words.
    taken : Signal, in
        Number of words since power-on that software has released.
    drop : Signal, in
        Drop the words that wait.
    idle : Signal
        No word waits or is being written.
    """

    def __init__(self, port: LiteDRAMNativePort, first: int, size: int) -> None:
        self.sink = sink = stream.Endpoint([("data", port.data_width)])
        self.busy, self.drop, self.idle = Signal(), Signal(), Signal()
        self.written, self.taken = Signal(COUNT_BITS), Signal(COUNT_BITS)

        self.fifo   = fifo   = stream.SyncFIFO([("data", port.data_width)], _DEPTH, buffered=True)
        self.writer = writer = LiteDRAMDMAWriter(port, fifo_depth=16)
        # A skid buffer has registers at both ends, before the arbitration of all banks.
        self.next = ahead = stream.Buffer([("data", port.data_width)], pipe_valid=True,
                                          pipe_ready=True)
        issued = Signal(COUNT_BITS)
        used   = Signal(COUNT_BITS)
        room   = Signal()
        issue  = Signal()
        drain  = Signal()
        self.comb += [
            sink.connect(fifo.sink),
            fifo.source.connect(ahead.sink),
            used.eq(issued - self.taken),
            writer.sink.valid.eq(ahead.source.valid & drain & room & ~self.drop),
            writer.sink.address.eq(first + issued[:size.bit_length() - 1]),
            writer.sink.data.eq(ahead.source.data),
            issue.eq(writer.sink.valid & writer.sink.ready),
            ahead.source.ready.eq(issue | self.drop),
            self.idle.eq(~fifo.source.valid & ~ahead.source.valid & (issued == self.written)),
        ]
        self.sync += [
            If(~ahead.source.valid, drain.eq(0)),
            If(ahead.source.valid & (~self.busy | (fifo.level >= _GATHER - _SKID)), drain.eq(1)),
            If(issue, issued.eq(issued + 1)),
            room.eq(Mux(issue, used < size - 1, used < size)),
            If(port.wdata.valid & port.wdata.ready, self.written.eq(self.written + 1)),
        ]
