"""Two MAC lanes whose sums are in the accumulators of five DSP blocks."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import GROUP_SUM_BITS, ROWS
from tritstream.hw.compute.lane import Lane
from tritstream.hw.interfaces import Trit
from tritstream.hw.primitives.accumulator_pair import AccumulatorPair

__all__ = ["DspLanes"]


class DspLanes(wiring.Component):
    """Ten ternary multiply-accumulates, for the five rows of two neighbouring bytes.

    Computes the same sums as two :class:`.Lane`, for FPGAs whose DSP blocks are idle. The row of
    both bytes has the same activation, so an :class:`.AccumulatorPair` serves it. Latency is three
    cycles, throughput ten trit-MACs per cycle. Sums are undefined before the first ``clear``.

    Members
    -------
    trits : :py:`In(Trit).array(2, 5)`
        One digit of the weight of each byte and row.
    x : :py:`In(18).array(5)`
        Activation times the power of three of the digit, for each row.
    clear : :py:`In(1).array(5)`
        Set the sums to zero.
    sums : :py:`Out(18).array(2, 5)`
        Running group sums.
    """

    #: Bytes of a word that one component serves.
    BYTES = 2
    #: Cycles from ``trits`` and ``x`` to ``sums``.
    LATENCY = AccumulatorPair.LATENCY
    #: Cycles from ``clear`` to ``sums``.
    CLEAR_LATENCY = AccumulatorPair.LATENCY
    #: Shape of ``x``.
    FEED = Lane.FEED

    feed = staticmethod(Lane.feed)

    def __init__(self) -> None:
        super().__init__({
            "trits": In(Trit).array(self.BYTES, ROWS),
            "x":     In(self.FEED).array(ROWS),
            "clear": In(1).array(ROWS),
            "sums":  Out(GROUP_SUM_BITS).array(self.BYTES, ROWS),
        })

    def of_bytes(self):
        """Return trits and sums of each byte, see :meth:`.Lane.of_bytes`."""
        return list(zip(self.trits, self.sums, strict=True))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for row in range(ROWS):
            m.submodules[f"row{row}"] = pair = AccumulatorPair(GROUP_SUM_BITS)
            m.d.comb += [pair.x.eq(self.x[row]), pair.clear.eq(self.clear[row])]
            for byte, (trits, sums) in enumerate(self.of_bytes()):
                m.d.comb += [
                    pair.nonzero[byte].eq(trits[row].nonzero),
                    pair.negative[byte].eq(trits[row].negative),
                    sums[row].eq(pair.sums[byte]),
                ]
        return m
