"""Stream buffer: breaks all combinational paths between the two sides of a stream."""

from amaranth import Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["StreamBuffer"]


class StreamBuffer(wiring.Component):
    """Buffer of two entries (skid buffer).

    Latency is one cycle, throughput one payload per cycle. ``i.ready``, ``o.valid`` and
    ``o.payload`` come directly from registers.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload.

    Members
    -------
    i : :py:`In(stream.Signature(shape))`
        Stream to buffer.
    o : :py:`Out(stream.Signature(shape))`
        The same stream, at least one cycle later.
    """

    def __init__(self, shape: ShapeLike) -> None:
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        kept  = Signal.like(self.i.payload)
        full  = Signal()        # ``kept`` holds a payload taken while the output was blocked
        taken = Signal()
        next_full = Signal()
        m.d.comb += [
            taken.eq(self.i.valid & self.i.ready),
            next_full.eq((taken | full) & self.o.valid & ~self.o.ready),
        ]
        # Not ready during reset, because a transfer would be lost.
        m.d.sync += [full.eq(next_full), self.i.ready.eq(~next_full)]
        with m.If(self.i.ready):
            m.d.sync += kept.eq(self.i.payload)
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += [self.o.valid.eq(taken | full), self.o.payload.eq(self.i.payload)]
            with m.If(full):
                m.d.sync += self.o.payload.eq(kept)

        return m
