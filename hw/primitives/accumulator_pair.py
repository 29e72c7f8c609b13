"""Two accumulators that add or subtract one value; on AMD FPGAs, one DSP block."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from tritstream.hw.primitives.cells import cells_of, gated_add

__all__ = ["AccumulatorPair"]

_Trit = StructLayout({"nonzero": 1, "negative": 1})


class AccumulatorPair(wiring.Component):
    """Two accumulators of one value times a factor of -1, 0 or 1 each.

    :data:`LATENCY` cycles later, ``sums[i] += trits[i] * x``, or ``sums[i] = 0`` if ``clear`` is
    set. Before the first ``clear`` the sums are undefined. Throughput is one value per cycle.

    On 7-series and UltraScale+ the pair is one DSP block and no LUT. The block multiplies the value
    by ``trits[0] + trits[1] * 2**22`` and accumulates both sums in one register. ``clear`` sets the
    register to 2**21, a bit above the low sum. So the low part of the register is never negative,
    and takes nothing from the high sum.

    Parameters
    ----------
    width : int
        Bits of ``x`` and of the sums, at most 18. Sums must fit.

    Members
    -------
    x : :py:`In(width)`
        Value, in two's complement.
    nonzero, negative : :py:`In(1).array(2)`
        Factors: 0, or -1 if negative, or 1.
    clear : :py:`In(1)`
        Set both sums to zero.
    sums : :py:`Out(width).array(2)`
        Sums, in two's complement.
    """

    #: Cycles from the value to the sums.
    LATENCY = 3

    def __init__(self, width: int) -> None:
        super().__init__({
            "x":        In(width),
            "nonzero":  In(1).array(2),
            "negative": In(1).array(2),
            "clear":    In(1),
            "sums":     Out(width).array(2),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if accumulate := getattr(cells_of(platform), "accumulate_pair", None):
            accumulate(m, self.x, self.nonzero, self.negative, self.clear, self.sums)
            return m

        x, clear = (self._late(m, value) for value in (self.x, self.clear))
        for nonzero, negative, acc in zip(self.nonzero, self.negative, self.sums, strict=True):
            trit, total = Signal(_Trit), Signal.like(acc)
            m.d.comb += [trit.nonzero.eq(self._late(m, nonzero)),
                         trit.negative.eq(self._late(m, negative))]
            gated_add(m, platform, acc, x, trit, total)
            with m.If(clear):
                m.d.sync += acc.eq(0)
            with m.Else():
                m.d.sync += acc.eq(total)
        return m

    def _late(self, m, value):
        for _ in range(self.LATENCY - 1):
            later = Signal.like(value, reset_less=True)
            m.d.sync += later.eq(value)
            value = later
        return value
