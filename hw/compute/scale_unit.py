"""Scale units: multiply group sums by scale mantissas and accumulate row sums."""

from functools import reduce
from operator import or_

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import GROUP_SUM_BITS, MANTISSA_BITS, ROW_SUM_BITS, ROWS
from tritstream.hw.interfaces import CODE_BITS, SKEW, SLOTS, Beat, MantissaPort, Slot
from tritstream.hw.primitives.cells import BlockRam, MultiplyAdd

__all__ = [
    "LANES_PER_UNIT",
    "ScaleCodes",
    "ScaleUnit",
    "SlotSequencer",
]

#: Lanes that share a multiplier. The sums of a row are stable for three cycles, one per lane.
LANES_PER_UNIT = SKEW


def select_by_slot(m, values, slots, name):
    """Return the value whose slot was active in the cycle before, or zero without such a slot.

    ``slots`` has one bit per value. Outside its slot, the register of each value is reset to zero
    by the synchronous reset of the flip-flop, which costs no gate. No other reset may be combined
    with it. The result is the OR of all registers.
    """
    held = []
    for index, (value, slot) in enumerate(zip(values, slots, strict=True)):
        register = Signal(len(value), name=f"{name}{index}", reset_less=True)
        with m.If(slot):
            m.d.sync += register.eq(value)
        with m.Else():
            m.d.sync += register.eq(0)
        held.append(register)
    return reduce(or_, held)


class SlotSequencer(wiring.Component):
    """Counter of the 15 time slots of a group, for all units.

    ``slots`` is a delay line from which each stage of a unit takes its own copy. ``onehot`` is the
    index of ``slots[0]``, one bit per slot. With the first scale beat of a group at cycle t::

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
        with m.If(self.beat.valid & self.beat.scale_first):
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


class ScaleCodes(wiring.Component):
    """Scale mantissas of the 15 rows of one unit, shared by all columns.

    Collects three trits from each lane of the unit while a row is in its scale beats. Then looks up
    the three codes, one per cycle. The mantissa of slot s is at ``mantissa`` :data:`LATENCY` cycles
    after that slot was at ``slots[0]``.

    Parameters
    ----------
    lanes : int
        Number of lanes that share the unit, 1..3.

    Members
    -------
    onehot : :py:`In(15)`
        Active slot, one bit per slot, from :class:`SlotSequencer`.
    trits : :py:`In(2).array(lanes, 5)`
        Skewed trits of the lanes.
    load : :py:`In(MantissaPort)`
        Write port of the mantissa table.
    mantissa : :py:`Out(17)`
        Mantissa of a slot.
    """

    #: Cycles from ``slots[0]`` to the mantissa of the slot.
    LATENCY = 5 + BlockRam.LATENCY

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        super().__init__({
            "onehot":     In(SLOTS),
            "trits":    In(2).array(lanes, ROWS),
            "load":     In(MantissaPort),
            "mantissa": Out(MANTISSA_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # One cycle each for the row, three digits, and the lane; then the table.
        row_slots = [self.onehot[SKEW * row:SKEW * (row + 1)].any() for row in range(ROWS)]
        codes = []
        for lane, rows in enumerate(self.trits):
            code = Signal(CODE_BITS, name=f"code{lane}")
            digit = select_by_slot(m, rows, row_slots, f"digit{lane}")
            m.d.sync += code.eq(Cat(code[2:], digit))
            codes.append(code)

        complete = Signal(2)
        m.d.sync += complete.eq(Cat(complete[1:], Cat(*self.onehot[SKEW - 1::SKEW]).any()))
        queue = [Signal(CODE_BITS, name=f"queue{lane}") for lane in range(self._lanes)]
        for lane, entry in enumerate(queue):
            with m.If(complete[0]):
                m.d.sync += entry.eq(codes[lane])
            if lane + 1 < len(queue):
                with m.Else():
                    m.d.sync += entry.eq(queue[lane + 1])

        m.submodules.table = table = BlockRam(MANTISSA_BITS, 1 << CODE_BITS)
        m.d.comb += [
            table.write_en.eq(self.load.en),
            table.write_addr.eq(self.load.code),
            table.write_data.eq(self.load.mantissa),
            table.read_en.eq(1),
            table.read_addr.eq(queue[0]),
            self.mantissa.eq(table.read_data),
        ]
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
        Mantissa of a slot, from :class:`ScaleCodes`.
    row_sum : :py:`Out(signed(46))`
        Row sum of ``slots[-1]``, complete if that slot is ``last``.
    """

    #: Stages from the ``onehot`` of a slot to its row sum, both included.
    STAGES = ScaleCodes.LATENCY + MultiplyAdd.LATENCY + 1

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
        for stage in range(2, ScaleCodes.LATENCY):
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
