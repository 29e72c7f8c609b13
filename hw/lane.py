"""MAC lane: five accumulators that add or subtract, never multiply."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.fixed import GROUP_SUM_BITS
from golden.tiles import ROWS

from .ecp5 import gated_add, is_ecp5
from .trits import Trit

__all__ = ["Lane"]


class Lane(wiring.Component):
    """Five ternary multiply-accumulates, one for each row that shares a byte.

    Every cycle, for each row r: ``sums[r] += trits[r] * x[r]``, or ``sums[r] = 0`` where
    ``clear[r]``. Latency one cycle, throughput five trit-MACs a cycle. There is no handshake: a
    cycle that must not count has ``x[r] = 0``, which costs the lane no gate.

    Sums and activations are two's complement in :data:`GROUP_SUM_BITS` bits, so that no sign
    extension is left inside; a sum of a group fits (``16 * 40 * 128 < 2^17``).

    Members
    -------
    trits : :py:`In(Trit).array(5)`
        One digit of five weights.
    x : :py:`In(18).array(5)`
        The activation times the digit's power of three, for each row.
    clear : :py:`In(1).array(5)`
        Forget the sum.
    sums : :py:`Out(18).array(5)`
        Running group sums.
    """

    LATENCY = 1

    trits: In(Trit).array(ROWS)
    x:     In(GROUP_SUM_BITS).array(ROWS)
    clear: In(1).array(ROWS)
    sums:  Out(GROUP_SUM_BITS).array(ROWS)

    def elaborate(self, platform):
        m = Module()

        for trit, x, clear, acc in zip(self.trits, self.x, self.clear, self.sums, strict=True):
            total = Signal.like(acc)
            if is_ecp5(platform):
                gated_add(m, acc, x, trit, total)
            else:
                addend = (x ^ trit.negative.replicate(len(x))) & trit.nonzero.replicate(len(x))
                m.d.comb += total.eq(acc + addend + trit.negative)
            with m.If(clear):
                m.d.sync += acc.eq(0)
            with m.Else():
                m.d.sync += acc.eq(total)

        return m
