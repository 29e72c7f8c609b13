"""MAC lane with multipliers, the baseline of area comparisons with the trit lane."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import ACTIVATION_BITS, GROUP_SUM_BITS, MAX_DEPTH, ROWS
from tritstream.hw.interfaces import Trit
from tritstream.hw.primitives.cells import Multiplier, gated_add

__all__ = ["MultiplierLane"]

_POWER_BITS  = (3 ** (MAX_DEPTH - 1)).bit_length()
#: Weights are -40..40.
_WEIGHT_BITS = 7


class MultiplierLane(wiring.Component):
    """Five multiply-accumulates of complete weights, one for each of the five rows in a byte.

    Computes the same sums as :class:`.Lane` and has the same interface. The lane collects the
    digits of a weight into an integer and multiplies it by the activation, once per weight, in one
    18x18 multiplier per row. Latency is five cycles, throughput five digits per cycle.

    Members
    -------
    trits : :py:`In(Trit).array(5)`
        One digit of the weight of each row.
    x : :py:`In(FEED).array(5)`
        Value that :meth:`feed` computes from a beat, for each row.
    clear : :py:`In(1).array(5)`
        Set the sum to zero.
    sums : :py:`Out(18).array(5)`
        Running group sums.
    """

    #: Bytes of a word that one component serves.
    BYTES = 1
    #: Latency in cycles. A weight is multiplied only when the next beat arrives.
    LATENCY = 2 + Multiplier.LATENCY
    #: Cycles from ``clear`` to ``sums``.
    CLEAR_LATENCY = 1

    #: Shape of ``x``.
    FEED = StructLayout({
        "x":     signed(ACTIVATION_BITS),   # activation of the previous weight, when one starts
        "first": 1,                         # lowest digit of a weight
        "power": _POWER_BITS,               # power of three of the digit, or zero
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
        """Return the broadcast value of a beat, one cycle later. See :meth:`.Lane.feed`."""
        feed  = Signal(cls.FEED, name=f"feed{name}")
        held  = Signal.like(x, name=f"held{name}")
        power = Signal(_POWER_BITS, name=f"power{name}")
        kept  = Signal.like(power, name=f"kept{name}")
        m.d.comb += power.eq(Mux(beat.first, 1, kept + (kept << 1)))
        m.d.sync += [feed.x.eq(0), feed.first.eq(0), feed.power.eq(0)]
        with m.If(beat.valid & (beat.first | beat.scale_start)):
            m.d.sync += [feed.x.eq(held), held.eq(0)]
        with m.If(beat.valid & beat.weight):
            m.d.sync += [feed.first.eq(beat.first), feed.power.eq(power), kept.eq(power)]
            with m.If(beat.first):
                m.d.sync += held.eq(x)
        with m.If(restart):
            m.d.sync += held.eq(0)
        return feed

    def of_bytes(self):
        """Return trits and sums of each byte, see :meth:`.Lane.of_bytes`."""
        return [(self.trits, self.sums)]

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
        """Return the weight of a row as an integer, from the digits that have arrived."""
        feed, trit = self.x[row], self.trits[row]
        weight = Signal(signed(_WEIGHT_BITS), name=f"weight{row}")
        before = Signal(_WEIGHT_BITS, name=f"before{row}")
        after  = Signal(_WEIGHT_BITS, name=f"after{row}")
        digit  = Signal(_WEIGHT_BITS, name=f"digit{row}")
        m.d.comb += [before.eq(Mux(feed.first, 0, weight)), digit.eq(feed.power)]
        gated_add(m, platform, before, digit, trit, after)
        m.d.sync += weight.eq(after)
        return weight
