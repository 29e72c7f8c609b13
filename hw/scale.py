"""Scale units: group sums times scale mantissas, added up to row sums."""

from functools import reduce
from operator import or_

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.fixed import GROUP_SUM_BITS, MANTISSA_BITS, ROW_SUM_BITS, SCALE_TRITS
from golden.tiles import ROWS

from .array import SKEW, SLOTS
from .beats import Beat

__all__ = [
    "CODE_BITS", "LANES_PER_UNIT", "MantissaPort", "Slot", "SlotSequencer", "ScaleCodes",
    "ScaleUnit",
]

#: Lanes that share a multiplier: a row's sums rest for three cycles, one for each of them.
LANES_PER_UNIT = SKEW
#: A scale code on wires: three trits of two bits, no arithmetic.
CODE_BITS = 2 * SCALE_TRITS

#: One of the 15 (row, lane) turns a unit takes in a group.
Slot = StructLayout({
    "valid": 1,
    "index": range(SLOTS),  # 3 * row + lane
    "first": 1,             # of a row block's first group: the row sum starts anew
    "last":  1,             # of a row block's last group: the row sum is complete
})

#: Write port of the mantissa tables.
MantissaPort = StructLayout({"en": 1, "code": CODE_BITS, "mantissa": MANTISSA_BITS})


class SlotSequencer(wiring.Component):
    """Counts the 15 turns of a group, for all units.

    With the first scale beat at cycle t, slot s stands at ``slots[n]`` in cycle ``t + 1 + n + s``:
    ``slots`` is a delay line from which each stage of a unit takes its own copy. ``take`` is slot
    0's index, one bit a turn.

    Members
    -------
    beat : :py:`In(Beat)`
    take : :py:`Out(15)`
    slots : :py:`Out(Slot).array(ScaleUnit.STAGES)`
    """

    def __init__(self):
        super().__init__({
            "beat":  In(Beat),
            "take":  Out(SLOTS),
            "slots": Out(Slot).array(ScaleUnit.STAGES),
        })

    def elaborate(self, platform):
        m = Module()

        slot = self.slots[0]
        m.d.sync += [slot.index.eq(slot.index + 1), self.take.eq(self.take << 1)]
        with m.If(slot.index == SLOTS - 1):
            m.d.sync += slot.valid.eq(0)
        with m.If(self.beat.valid & self.beat.scale_first):
            m.d.sync += [
                slot.valid.eq(1),
                slot.index.eq(0),
                slot.first.eq(self.beat.group_first),
                slot.last.eq(self.beat.group_last),
                self.take.eq(1),
            ]
        for later, earlier in zip(list(self.slots)[1:], self.slots, strict=False):
            m.d.sync += later.eq(earlier)

        return m


class ScaleCodes(wiring.Component):
    """Scale mantissas of one unit's 15 rows, shared by all its columns.

    Collects three trits from each of the unit's lanes while their row is in its scale beats, then
    looks the three codes up, one a cycle: the mantissa of slot s leaves :data:`LATENCY` cycles
    after that slot's turn.

    Parameters
    ----------
    lanes : int
        Lanes of the unit, 1..3.

    Members
    -------
    take : :py:`In(15)`
        Turn of slot s, as of :class:`SlotSequencer`.
    trits : :py:`In(2).array(lanes, 5)`
    load : :py:`In(MantissaPort)`
    mantissa : :py:`Out(17)`
    """

    LATENCY = 5

    def __init__(self, lanes):
        self._lanes = lanes
        super().__init__({
            "take":     In(SLOTS),
            "trits":    In(2).array(lanes, ROWS),
            "load":     In(MantissaPort),
            "mantissa": Out(MANTISSA_BITS),
        })

    def elaborate(self, platform):
        m = Module()

        # One cycle each: the row in turn, three digits, the lane in turn, the table.
        turn = [self.take[SKEW * row:SKEW * (row + 1)].any() for row in range(ROWS)]
        codes = []
        for lane, rows in enumerate(self.trits):
            code = Signal(CODE_BITS, name=f"code{lane}")
            digit = reduce(or_, (row & when.replicate(2)
                                 for row, when in zip(rows, turn, strict=True)))
            m.d.sync += code.eq(Cat(code[2:], digit))
            codes.append(code)

        complete = Signal()
        m.d.sync += complete.eq(Cat(*self.take[SKEW - 1::SKEW]).any())
        queue = [Signal(CODE_BITS, name=f"queue{lane}") for lane in range(self._lanes)]
        for lane, entry in enumerate(queue):
            with m.If(complete):
                m.d.sync += entry.eq(codes[lane])
            if lane + 1 < len(queue):
                with m.Else():
                    m.d.sync += entry.eq(queue[lane + 1])

        m.submodules.table = table = Memory(
            shape=MANTISSA_BITS, depth=1 << CODE_BITS, init=[], attrs={"ram_style": "block"})
        write, read = table.write_port(), table.read_port()
        m.d.comb += [
            write.en.eq(self.load.en),
            write.addr.eq(self.load.code),
            write.data.eq(self.load.mantissa),
            read.en.eq(1),
            read.addr.eq(queue[0]),
            self.mantissa.eq(read.data),
        ]
        return m


class ScaleUnit(wiring.Component):
    """One multiplier for three lanes of one column: ``row_sum[s] += sum[s] * mantissa[s]``.

    The sum of slot s is picked up in that slot's turn, its row sum leaves :data:`STAGES` - 1
    cycles later. Throughput one product a cycle. Equation: row rule of the numeric contract,
    ``A = sum_g S_g * m_g``, exact in 46 bits for K up to 32768; twin of :func:`golden.gemv.gemv`.

    Picking costs one flip-flop with synchronous reset a bit and an OR tree: all sums but the one
    in turn are held at zero.

    Parameters
    ----------
    lanes : int
        Lanes of the unit, 1..3.

    Members
    -------
    take : :py:`In(15)`
        Turn of slot s, as of :class:`SlotSequencer`.
    slots : :py:`In(Slot).array(STAGES)`
    sums : :py:`In(18).array(lanes, 5)`
        Group sums, at rest in their turn.
    mantissa : :py:`In(17)`
        As :class:`ScaleCodes` gives it.
    row_sum : :py:`Out(signed(46))`
        Row sum of ``slots[-1]``; complete where that slot is ``last``.
    """

    #: Stages from a slot's turn to its row sum, the turn included.
    STAGES = ScaleCodes.LATENCY + 4

    def __init__(self, lanes):
        self._lanes = lanes
        super().__init__({
            "take":     In(SLOTS),
            "slots":    In(Slot).array(self.STAGES),
            "sums":     In(GROUP_SUM_BITS).array(lanes, ROWS),
            "mantissa": In(MANTISSA_BITS),
            "row_sum":  Out(signed(ROW_SUM_BITS)),
        })

    def elaborate(self, platform):
        m = Module()

        factor = self._pick(m)
        for stage in range(2, ScaleCodes.LATENCY + 1):
            m.d.sync += (later := Signal.like(factor, name=f"factor{stage}")).eq(factor)
            factor = later

        mantissa = Signal(MANTISSA_BITS)
        product  = Signal(signed(GROUP_SUM_BITS + MANTISSA_BITS))
        m.d.sync += mantissa.eq(self.mantissa)
        m.d.sync += product.eq(factor * mantissa)

        m.submodules.partial = partial = Memory(
            shape=signed(ROW_SUM_BITS), depth=1 << len(self.slots[0].index), init=[],
            attrs={"ram_style": "block"})
        read, write = partial.read_port(), partial.write_port()
        base = Signal(signed(ROW_SUM_BITS))
        with m.If(self.slots[-3].first):
            m.d.sync += base.eq(0)
        with m.Else():
            m.d.sync += base.eq(read.data)
        m.d.sync += self.row_sum.eq(base + product)
        m.d.comb += [
            read.en.eq(1),
            read.addr.eq(self.slots[-4].index),
            write.en.eq(self.slots[-1].valid),
            write.addr.eq(self.slots[-1].index),
            write.data.eq(self.row_sum),
        ]
        return m

    def _pick(self, m):
        """The sum in turn, two cycles after its turn."""
        picked = []
        for lane, rows in enumerate(self.sums):
            for row, value in enumerate(rows):
                held = Signal(GROUP_SUM_BITS, name=f"picked{lane}_{row}")
                with m.If(self.take[SKEW * row + lane]):
                    m.d.sync += held.eq(value)
                with m.Else():
                    m.d.sync += held.eq(0)
                picked.append(held)
        chosen = Signal(signed(GROUP_SUM_BITS))
        m.d.sync += chosen.eq(reduce(or_, picked))
        return chosen
