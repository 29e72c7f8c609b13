"""A scale unit with its neighbours, connected as in the datapath, for the tests of the unit."""

from amaranth import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import GROUP_SUM_BITS, ROW_SUM_BITS, ROWS
from tritstream.hw.compute.scale_mantissas import MantissaAddresses, ScaleMantissas
from tritstream.hw.compute.scale_unit import ScaleUnit, SlotSequencer
from tritstream.hw.interfaces import SLOTS, Beat, MantissaPort, Slot

__all__ = ["ScaleChain"]


class ScaleChain(wiring.Component):
    """Sequencer, mantissas and unit for 1..3 lanes of one column.

    With the third-last scale beat at cycle t, slot ``s = 3 * row + lane`` leaves at cycle
    ``t + ScaleUnit.STAGES + s``. Members are those of the parts.
    """

    def __init__(self, lanes):
        self._lanes = lanes
        super().__init__({
            "beat":    In(Beat),
            "direct":  In(1),
            "bytes":   In(8).array(lanes),
            "trits":   In(2).array(lanes, ROWS),
            "sums":    In(GROUP_SUM_BITS).array(lanes, ROWS),
            "load":    In(MantissaPort),
            "onehot":    Out(SLOTS),
            "slot":    Out(Slot),
            "row_sum": Out(signed(ROW_SUM_BITS)),
        })

    def elaborate(self, platform):
        m = Module()

        m.submodules.slots = slots = SlotSequencer()
        m.submodules.places = places = MantissaAddresses()
        m.submodules.mantissas = mantissas = ScaleMantissas(self._lanes)
        m.submodules.unit  = unit  = ScaleUnit(self._lanes)
        m.d.comb += [
            slots.beat.eq(self.beat),
            places.direct.eq(self.direct),
            places.beat.eq(self.beat),
            places.load.eq(self.load),
            places.slot.eq(slots.slots[places.STAGE]),
            mantissas.onehot.eq(slots.onehot),
            mantissas.direct.eq(self.direct),
            mantissas.write.eq(places.write),
            mantissas.read.eq(places.read),
            unit.onehot.eq(slots.onehot),
            unit.mantissa.eq(mantissas.mantissa),
            self.onehot.eq(slots.onehot),
            self.slot.eq(slots.slots[-1]),
            self.row_sum.eq(unit.row_sum),
        ]
        for stage in range(ScaleUnit.STAGES):
            m.d.comb += unit.slots[stage].eq(slots.slots[stage])
        for lane in range(self._lanes):
            m.d.comb += mantissas.bytes[lane].eq(self.bytes[lane])
            for row in range(ROWS):
                m.d.comb += [
                    mantissas.trits[lane][row].eq(self.trits[lane][row]),
                    unit.sums[lane][row].eq(self.sums[lane][row]),
                ]
        return m
