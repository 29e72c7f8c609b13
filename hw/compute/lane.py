"""MAC lane: five accumulators that add or subtract, never multiply."""

from amaranth import Module, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import GROUP_SUM_BITS, ROWS
from tritstream.hw.interfaces import Trit
from tritstream.hw.primitives.ecp5 import gated_add, is_ecp5

__all__ = ["Lane"]

#: 27 * 128 and a sign.
_PRODUCT_BITS = 13


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

    #: Broadcast to all lanes, sign extended once and not in every lane.
    FEED = unsigned(GROUP_SUM_BITS)

    def __init__(self) -> None:
        super().__init__({
            "trits": In(Trit).array(ROWS),
            "x":     In(self.FEED).array(ROWS),
            "clear": In(1).array(ROWS),
            "sums":  Out(GROUP_SUM_BITS).array(ROWS),
        })

    @staticmethod
    def feed(m, beat, x, restart, name):
        """Return what :class:`.LaneArray` broadcasts to the row 0 of all its lanes.

        Part of the interface that another lane must have, as :class:`MultiplierLane`: the members
        of this class, of which ``x`` has the shape ``FEED``; ``LATENCY`` in cycles; and this
        function. Here: ``x * 3^i`` a cycle after its beat, zero outside weight beats.

        Parameters
        ----------
        m : Module
            Gets the statements.
        beat : Beat
            Beat of this cycle.
        x : Value
            Activation of the beat's weight; counts on a valid ``first`` beat.
        restart : Value
            A GEMV begins; unused here, for lanes that keep state across weights.
        name : int
            Column, for the names of signals.
        """
        scaled = Signal(signed(_PRODUCT_BITS), name=f"scaled{name}")
        held   = Signal.like(scaled, name=f"held{name}")
        live   = Signal.like(scaled, name=f"live{name}")
        with m.If(beat.first):
            m.d.comb += scaled.eq(x)
        with m.Else():
            m.d.comb += scaled.eq(held + (held << 1))
        with m.If(beat.valid & beat.weight):
            m.d.sync += [held.eq(scaled), live.eq(scaled)]
        with m.Else():
            m.d.sync += live.eq(0)
        return live

    def elaborate(self, platform: object) -> Module:
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
