"""Beat buffer: keeps the last three scale beats of a group together."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.hw.interfaces import Beat

__all__ = ["BeatBuffer"]


class BeatBuffer(wiring.Component):
    """Two-word buffer that sends the last three scale beats of a group in consecutive cycles.

    Each beat moves on when the next beat arrives, so the third-last scale beat leaves when the last
    arrives. The last two leave in the two cycles after that, even if no beat follows.

    Throughput is one beat per cycle. A beat leaves at the latest when the second beat after it
    arrives; the last two scale beats leave one and two cycles after the last scale beat arrived. It
    is at the output two cycles after it leaves.

    Parameters
    ----------
    lanes : int
        Bytes per word.

    Members
    -------
    i, i_word : :py:`In(Beat)`, :py:`In(8 * lanes)`
        Beat and its word, taken in every cycle with ``i.valid``.
    o, o_word : :py:`Out(Beat)`, :py:`Out(8 * lanes)`
        Beat and its word, for one cycle.
    restart : :py:`In(1)`
        Drop all beats in the buffer.
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

        # Latest first. The first stage is a plain register, so that a register and not a handshake
        # moves all other stages and the array behind them.
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
        # Bytes without a valid beat stop here. In a simulation they may be X, and the sum of a lane
        # would become X although the activation is zero.
        with m.If(beats[0].valid):
            m.d.sync += words[1].eq(words[0])
        # One more register, so that the inputs of the array come directly from flip-flops.
        m.d.sync += [
            self.o.eq(beats[-1]),
            self.o.valid.eq(beats[-1].valid & shift),
            self.o_word.eq(words[-1]),
        ]

        with m.If(self.restart):
            m.d.sync += [beat.valid.eq(0) for beat in (*beats, self.o)]
            m.d.sync += flush.eq(0)

        return m
