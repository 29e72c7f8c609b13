"""Beat buffer: keeps the three scale beats of a group together."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.hw.interfaces import Beat

__all__ = ["BeatBuffer"]


class BeatBuffer(wiring.Component):
    """Two-word buffer that lets the three scale beats of a group leave in three cycles.

    A beat moves on when the next one comes, so the first scale beat leaves as the third arrives;
    the last two then leave in the two cycles after it, whether or not anything follows.
    Throughput one beat a cycle; a beat leaves at the latest when the second after it comes (the
    last two scale beats one and two cycles after the last of them came), and two cycles later
    stands at the output.

    Members
    -------
    i, i_word : :py:`In(Beat)`, :py:`In(8 * lanes)`
        A beat, taken whenever ``i.valid``.
    o, o_word : :py:`Out(Beat)`, :py:`Out(8 * lanes)`
    restart : :py:`In(1)`
        Forgets what is inside.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        super().__init__({
            "i":       In(Beat),
            "i_word":  In(8 * lanes),
            "o":       Out(Beat),
            "o_word":  Out(8 * lanes),
            "restart": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # Latest first. The first stage is a plain register, so that what moves all the others,
        # and the array behind them, is a register and not a handshake.
        stages = ("arrived", "newer", "older")
        beats  = [Signal(Beat, name=name) for name in stages]
        words  = [Signal(8 * self._lanes, name=f"{name}_word") for name in stages]
        flush  = Signal(2)
        shift  = Signal()

        m.d.comb += shift.eq(beats[0].valid | flush.any())
        m.d.sync += flush.eq(flush >> 1)
        with m.If(beats[0].valid & beats[0].scale_last):
            m.d.sync += flush.eq(0b11)

        m.d.sync += [beats[0].eq(self.i), words[0].eq(self.i_word)]
        with m.If(shift):
            m.d.sync += [later.eq(earlier) for later, earlier in zip(beats[1:], beats[:2],
                                                                     strict=True)]
            m.d.sync += words[2].eq(words[1])
        # Bytes that no beat names stop here: they may be X in a simulation, where a lane's sum
        # would become X although their activation is zero.
        with m.If(beats[0].valid):
            m.d.sync += words[1].eq(words[0])
        # One more, so that the array's inputs come straight from flip-flops.
        m.d.sync += [
            self.o.eq(beats[-1]),
            self.o.valid.eq(beats[-1].valid & shift),
            self.o_word.eq(words[-1]),
        ]

        with m.If(self.restart):
            m.d.sync += [beat.valid.eq(0) for beat in (*beats, self.o)]
            m.d.sync += flush.eq(0)

        return m
