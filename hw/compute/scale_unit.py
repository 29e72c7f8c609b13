"""Scale units: multiply group sums by scale mantissas and accumulate row sums."""

from amaranth import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import GROUP_SUM_BITS, MANTISSA_BITS, ROW_SUM_BITS, ROWS
from tritstream.hw.compute.scale_mantissas import ScaleMantissas, select_by_slot
from tritstream.hw.interfaces import SKEW, SLOTS, Beat, Slot
from tritstream.hw.primitives.cells import BlockRam, MultiplyAdd

__all__ = [
    "LANES_PER_UNIT",
    "ScaleUnit",
    "SlotSequencer",
]

#: Lanes that share a multiplier. The sums of a row are stable for three cycles, one per lane.
LANES_PER_UNIT = SKEW


class SlotSequencer(wiring.Component):
    """Counter of the 15 time slots of a group, for all units.

    ``slots`` is a delay line from which each stage of a unit takes its own copy. ``onehot`` is the
    index of ``slots[0]``, one bit per slot. With the third-last scale beat of a group at cycle t::

        cycle    slots[0]   onehot  slots[n]
        t        not valid  0       not valid
        t+1      slot 0     bit 0   not valid
        t+1+s    slot s     bit s   slot s - n
        t+15     slot 14    bit 14  slot 14 - n
        t+16     not valid  0       slot 15 - n

    Members
    -------
    beat : :py:`In(Beat)`
        Beat of the current cycle.
    onehot : :py:`Out(15)`
        Active slot, one bit per slot.
    slots : :py:`Out(Slot).array(ScaleUnit.STAGES)`
        Delay line of the active slot.
    """

    def __init__(self) -> None:
        super().__init__({
            "beat":  In(Beat),
            "onehot":  Out(SLOTS),
            "slots": Out(Slot).array(ScaleUnit.STAGES),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        slot = self.slots[0]
        m.d.sync += [slot.index.eq(slot.index + 1), self.onehot.eq(self.onehot << 1)]
        with m.If(slot.index == SLOTS - 1):
            m.d.sync += slot.valid.eq(0)
        with m.If(self.beat.valid & self.beat.scale_start):
            m.d.sync += [
                slot.valid.eq(1),
                slot.index.eq(0),
                slot.first.eq(self.beat.group_first),
                slot.last.eq(self.beat.group_last),
                self.onehot.eq(1),
            ]
        for later, earlier in zip(list(self.slots)[1:], self.slots, strict=False):
            m.d.sync += later.eq(earlier)

        return m


class ScaleUnit(wiring.Component):
    """One multiplier for three lanes of one column: ``row_sum[s] += sum[s] * mantissa[s]``.

    The sum of slot s is sampled when bit s of ``onehot`` is set. The row sum of the slot leaves
    :data:`STAGES` - 1 cycles later. Throughput is one product per cycle. The equation is the row
    rule of the numeric contract, ``A = sum_g S_g * m_g``, exact in 46 bits for K up to 32768. The
    reference model is :func:`.gemv`.

    The selection costs one flip-flop with synchronous reset per bit, and an OR tree: all sums
    except the sum of the active slot are held at zero.

    Parameters
    ----------
    lanes : int
        Number of lanes that share the unit, 1..3.

    Members
    -------
    onehot : :py:`In(15)`
        Active slot, one bit per slot, from :class:`SlotSequencer`.
    slots : :py:`In(Slot).array(STAGES)`
        Delay line of the active slot, from :class:`SlotSequencer`.
    sums : :py:`In(18).array(lanes, 5)`
        Group sums, stable in their slot.
    mantissa : :py:`In(17)`
        Mantissa of a slot, from :class:`ScaleMantissas`.
    row_sum : :py:`Out(signed(46))`
        Row sum of ``slots[-1]``, complete if that slot is ``last``.
    """

    #: Stages from the ``onehot`` of a slot to its row sum, both included.
    STAGES = ScaleMantissas.LATENCY + MultiplyAdd.LATENCY + 1

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        super().__init__({
            "onehot":     In(SLOTS),
            "slots":    In(Slot).array(self.STAGES),
            "sums":     In(GROUP_SUM_BITS).array(lanes, ROWS),
            "mantissa": In(MANTISSA_BITS),
            "row_sum":  Out(signed(ROW_SUM_BITS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        factor = self._pick(m)
        for stage in range(2, ScaleMantissas.LATENCY):
            delayed = Signal.like(factor, name=f"factor{stage}", reset_less=True)
            m.d.sync += delayed.eq(factor)
            factor = delayed
        m.submodules.multiplier = multiplier = MultiplyAdd(ROW_SUM_BITS)
        m.submodules.partial = partial = BlockRam(ROW_SUM_BITS, 1 << len(self.slots[0].index))
        m.d.comb += [
            multiplier.a.eq(factor),
            multiplier.b.eq(self.mantissa),
            multiplier.addend.eq(partial.read_data),
            multiplier.clear.eq(self.slots[-3].first),
            self.row_sum.eq(multiplier.total),
            partial.read_en.eq(1),
            # The memory takes two cycles, and the addend as many as ``multiplier`` says. See the
            # table in SlotSequencer.
            partial.read_addr.eq(self.slots[-3 - BlockRam.LATENCY].index),
            partial.write_en.eq(self.slots[-1].valid),
            partial.write_addr.eq(self.slots[-1].index),
            partial.write_data.eq(self.row_sum),
        ]
        return m

    def _pick(self, m):
        """Return the sum of the active slot, two cycles later."""
        sums  = [value for rows in self.sums for value in rows]
        slots = [self.onehot[SKEW * row + lane]
                 for lane in range(self._lanes) for row in range(ROWS)]
        chosen = Signal(signed(GROUP_SUM_BITS))
        m.d.sync += chosen.eq(select_by_slot(m, sums, slots, "picked"))
        return chosen
