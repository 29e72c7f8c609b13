"""Stream buffer: cuts every combinational path between two sides of a stream."""

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["StreamBuffer"]


class StreamBuffer(wiring.Component):
    """Two-entry buffer (skid buffer). Latency one cycle, throughput one payload a cycle.

    ``i.ready``, ``o.valid`` and ``o.payload`` come straight from registers.

    Parameters
    ----------
    shape
        Of the payload.

    Members
    -------
    i : :py:`In(stream.Signature(shape))`
    o : :py:`Out(stream.Signature(shape))`
    """

    def __init__(self, shape) -> None:
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        kept  = Signal.like(self.i.payload)
        full  = Signal()        # what was taken while the output was blocked
        taken = Signal()
        next_full = Signal()
        m.d.comb += [
            taken.eq(self.i.valid & self.i.ready),
            next_full.eq((taken | full) & self.o.valid & ~self.o.ready),
        ]
        # Not ready in reset, when a transfer would be lost.
        m.d.sync += [full.eq(next_full), self.i.ready.eq(~next_full)]
        with m.If(self.i.ready):
            m.d.sync += kept.eq(self.i.payload)
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += [self.o.valid.eq(taken | full), self.o.payload.eq(self.i.payload)]
            with m.If(full):
                m.d.sync += self.o.payload.eq(kept)

        return m
