"""MAC lane: five accumulators that add or subtract and need no multiplier."""

from amaranth import Module, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import GROUP_SUM_BITS, ROWS
from tritstream.hw.interfaces import Trit
from tritstream.hw.primitives.cells import gated_add

__all__ = ["Lane"]

#: 27 * 128 plus a sign bit.
_PRODUCT_BITS = 13


class Lane(wiring.Component):
    """Five ternary multiply-accumulates, one for each of the five rows in a byte.

    In every cycle and for each row r: ``sums[r] += trits[r] * x[r]``, or ``sums[r] = 0`` if
    ``clear[r]`` is set. Latency is one cycle, throughput five trit-MACs per cycle. There is no
    handshake. In cycles without a weight digit ``x[r]`` is 0, which costs no gate in the lane.

    Sums and activations are two's complement numbers of :data:`GROUP_SUM_BITS` bits, so the lane
    needs no sign extension. The sum of a group fits (``16 * 40 * 128 < 2^17``).

    Members
    -------
    trits : :py:`In(Trit).array(5)`
        One digit of the weight of each row.
    x : :py:`In(18).array(5)`
        Activation times the power of three of the digit, for each row.
    clear : :py:`In(1).array(5)`
        Set the sum to zero.
    sums : :py:`Out(18).array(5)`
        Running group sums.
    """

    #: Bytes of a word that one component serves.
    BYTES = 1
    #: Cycles from ``trits`` and ``x`` to ``sums``.
    LATENCY = 1
    #: Cycles from ``clear`` to ``sums``.
    CLEAR_LATENCY = 1

    #: Shape of ``x``. The value is broadcast to all lanes, so it is sign-extended only once.
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
        """Return the value that :class:`.LaneArray` broadcasts to row 0 of all its lanes.

        This lane gets ``x * 3^i`` one cycle after the beat with digit i, and zero after cycles
        without a weight digit.

        The function is part of the interface of a lane. Another lane, as :class:`MultiplierLane`
        or :class:`DspLanes`, must have the members ``x`` (with the shape ``FEED``) and ``clear`` of
        this class, the same constants, this function and :meth:`of_bytes`.

        Parameters
        ----------
        m : Module
            Module to which the statements are added.
        beat : Beat
            Beat of the current cycle.
        x : Value
            Activation for the weights of the beat, read on a valid ``first`` beat.
        restart : Value
            Start of a GEMV, for lanes that keep state across weights. Unused here.
        name : int
            Column number, used in signal names.
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

    def of_bytes(self):
        """Return trits and sums of each byte that the component serves."""
        return [(self.trits, self.sums)]

    def elaborate(self, platform: object) -> Module:
        m = Module()

        for trit, x, clear, acc in zip(self.trits, self.x, self.clear, self.sums, strict=True):
            total = Signal.like(acc)
            gated_add(m, platform, acc, x, trit, total)
            with m.If(clear):
                m.d.sync += acc.eq(0)
            with m.Else():
                m.d.sync += acc.eq(total)

        return m
