"""MAC lane of multipliers: what the trit lane is measured against."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import ACTIVATION_BITS, GROUP_SUM_BITS, MAX_DEPTH, ROWS
from tritstream.hw.interfaces import Trit
from tritstream.hw.primitives.cells import Multiplier
from tritstream.hw.primitives.ecp5 import gated_add, is_ecp5

__all__ = ["MultiplierLane"]

_POWER_BITS  = (3 ** (MAX_DEPTH - 1)).bit_length()
#: -40..40.
_WEIGHT_BITS = 7


class MultiplierLane(wiring.Component):
    """Five multiply-accumulates of whole weights, one for each row that shares a byte.

    Gives the same sums as :class:`.Lane` in its place: collects the digits of a weight to an
    integer and multiplies that by the activation, once a weight, in one 18x18 multiplier a row.
    Latency five cycles; throughput five digits a cycle.

    Members
    -------
    trits : :py:`In(Trit).array(5)`
        One digit of five weights.
    x : :py:`In(FEED).array(5)`
        What :meth:`feed` makes of a beat, for each row.
    clear : :py:`In(1).array(5)`
        Forget the sum.
    sums : :py:`Out(18).array(5)`
        Running group sums.
    """

    #: Weights are multiplied when the beat after them comes.
    LATENCY = 2 + Multiplier.LATENCY

    FEED = StructLayout({
        "x":     signed(ACTIVATION_BITS),   # of the weight before, where a new one begins
        "first": 1,                         # lowest digit of a weight
        "power": _POWER_BITS,               # of three that the digit counts, or zero
    })

    def __init__(self) -> None:
        super().__init__({
            "trits": In(Trit).array(ROWS),
            "x":     In(self.FEED).array(ROWS),
            "clear": In(1).array(ROWS),
            "sums":  Out(GROUP_SUM_BITS).array(ROWS),
        })

    @classmethod
    def feed(cls, m, beat, x, restart, name):
        """What the lanes need of a beat, a cycle later."""
        feed  = Signal(cls.FEED, name=f"feed{name}")
        held  = Signal.like(x, name=f"held{name}")
        power = Signal(_POWER_BITS, name=f"power{name}")
        kept  = Signal.like(power, name=f"kept{name}")
        m.d.comb += power.eq(Mux(beat.first, 1, kept + (kept << 1)))
        m.d.sync += [feed.x.eq(0), feed.first.eq(0), feed.power.eq(0)]
        with m.If(beat.valid & (beat.first | beat.scale_first)):
            m.d.sync += [feed.x.eq(held), held.eq(0)]
        with m.If(beat.valid & beat.weight):
            m.d.sync += [feed.first.eq(beat.first), feed.power.eq(power), kept.eq(power)]
            with m.If(beat.first):
                m.d.sync += held.eq(x)
        with m.If(restart):
            m.d.sync += held.eq(0)
        return feed

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for row, acc in enumerate(self.sums):
            m.submodules[f"multiplier{row}"] = multiplier = Multiplier()
            feed = self.x[row]
            m.d.comb += [
                multiplier.a.eq(self._weight(m, platform, row)),
                multiplier.b.eq(feed.x),
            ]
            with m.If(self.clear[row]):
                m.d.sync += acc.eq(0)
            with m.Else():
                m.d.sync += acc.eq(acc + multiplier.product[:GROUP_SUM_BITS])
        return m

    def _weight(self, m, platform, row):
        """The digits of a row's weight so far, as an integer."""
        feed, trit = self.x[row], self.trits[row]
        weight = Signal(signed(_WEIGHT_BITS), name=f"weight{row}")
        before = Signal(_WEIGHT_BITS, name=f"before{row}")
        after  = Signal(_WEIGHT_BITS, name=f"after{row}")
        digit  = Signal(_WEIGHT_BITS, name=f"digit{row}")
        m.d.comb += [before.eq(Mux(feed.first, 0, weight)), digit.eq(feed.power)]
        if is_ecp5(platform):
            gated_add(m, before, digit, trit, after)
        else:
            addend = Mux(trit.negative, -feed.power, Mux(trit.nonzero, feed.power, 0))
            m.d.comb += after.eq(before + addend)
        m.d.sync += weight.eq(after)
        return weight
