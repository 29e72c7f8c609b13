"""A row sum is exact in its 46 bits, for as many groups as the longest row has."""

import pytest
from amaranth import Elaboratable, Module, Mux, Signal, signed
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume
from formal.rules import Opened, free

from tritstream.golden.fixed_point import GROUP, GROUP_SUM_BITS, MANTISSA_BITS, MAX_K, ROW_SUM_BITS
from tritstream.hw.compute.scale_unit import ScaleUnit, SlotSequencer
from tritstream.hw.interfaces import SLOTS, Beat
from tritstream.hw.primitives.cells import Multiplier
from tritstream.hw.tools.formal import Method

pytestmark = pytest.mark.long

GROUPS  = MAX_K // GROUP
#: Beats of the shortest group.
BEATS   = GROUP + 3
#: Of any group sum and any mantissa that fit their wires.
PRODUCT = 2 ** (GROUP_SUM_BITS - 1) * (2 ** MANTISSA_BITS - 1)


def within(value, bound):
    return (value <= bound) & (value >= -bound)


class ProductFits(Elaboratable):
    """Specification: a product is no more than :data:`PRODUCT`, once the pipeline has filled."""

    def __init__(self, multiplier):
        self._multiplier = multiplier

    def elaborate(self, platform):
        m = Module()
        m.submodules.multiplier = multiplier = self._multiplier
        free(m, multiplier.a, multiplier.b)
        m.d.comb += [Assume(multiplier.b >= 0), Assert(within(multiplier.product, PRODUCT))]
        return m


def one_too_many(m, multiplier):
    with m.If(multiplier.product == -PRODUCT):
        m.d.sync += multiplier.product.eq(-PRODUCT - 1)


def test_products_fit(demonstrate):
    demonstrate(Multiplier, ProductFits, [one_too_many], Method.INDUCTION, 4)


class BoundedProduct(Elaboratable):
    """In place of the multiplier: anything that a sum times a mantissa can be."""

    def __init__(self, multiplier):
        self._product = multiplier.product

    def elaborate(self, platform):
        m = Module()
        free(m, self._product)
        m.d.comb += Assume(within(self._product, PRODUCT))
        return m


class OneRow(Elaboratable):
    """Replacement for :class:`.BlockRam` that stores one row, and reads any value elsewhere."""

    def __init__(self, ram, row, kept):
        self._ram  = ram
        self._row  = row
        self._kept = kept

    def elaborate(self, platform):
        m = Module()
        ram, kept = self._ram, self._kept
        read = Signal.like(kept)
        with m.If(ram.write_en & (ram.write_addr == self._row)):
            m.d.sync += kept.eq(ram.write_data)
        with m.If(ram.read_en):
            m.d.sync += [
                read.eq(Mux(ram.read_addr == self._row, kept, AnySeq(len(read)))),
                ram.read_data.eq(read),
            ]
        return m


class RowsFit(Elaboratable):
    """Specification: the row sum of a slot, any one, is the sum of its products in 48 bits.

    Groups come at least :data:`BEATS` beats apart, and up to :data:`GROUPS` make a row. After n of
    them the sum is within ``+-n`` times the largest product.
    """

    def __init__(self, unit):
        self._unit = unit
        self._row  = AnyConst(range(SLOTS))
        self._kept = Signal(signed(ROW_SUM_BITS))
        self._inside = Opened(unit, multiplier=self._bounded,
                              partial=lambda ram: OneRow(ram, self._row, self._kept))

    def _bounded(self, adder):
        """The multiplier with adder of the unit, in which any product can be."""
        self._adder = Opened(adder, multiplier=BoundedProduct)
        return adder.elaborate(None)

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit  = unit  = self._unit
        m.submodules.slots = slots = SlotSequencer()
        beat = Signal(Beat)
        free(m, beat)       # sums and mantissas reach nothing but the multiplier
        begins = beat.valid & beat.scale_start
        ages   = [Signal(range(BEATS + 1), init=BEATS, name=f"age{stage}")   # of a stage's group
                  for stage, _ in enumerate(unit.slots)]
        m.d.comb += [
            Assume(self._row < SLOTS),
            Assume(~begins | (ages[0] == BEATS)),
            slots.beat.eq(beat), unit.onehot.eq(slots.onehot),
            *(mine.eq(theirs) for mine, theirs in zip(unit.slots, slots.slots, strict=True)),
        ]
        m.d.sync += ages[0].eq(Mux(begins, 1, ages[0] + (ages[0] != BEATS)))
        m.d.sync += [later.eq(earlier) for later, earlier in zip(ages[1:], ages, strict=False)]
        for age, slot in zip(ages, unit.slots, strict=True):
            m.d.comb += [Assert((age > 0) & (age <= BEATS)), Assert(slot.valid == (age <= SLOTS)),
                         Assert(~slot.valid | (slot.index == age - 1))]
        for later, earlier in zip(ages[1:], ages, strict=False):
            m.d.comb += Assert((earlier == later + 1)
                               | (later == BEATS) & ((earlier == 1) | (earlier == BEATS)))
        self._sums(m)
        return m

    def _sums(self, m):
        unit = self._unit
        here = [slot.valid & (slot.index == self._row) for slot in unit.slots]
        exact, groups = Signal(signed(48)), Signal(range(GROUPS + 1))
        product = self._adder.parts["multiplier"].product
        bound   = groups * PRODUCT
        with m.If(here[-2]):
            m.d.comb += Assume(unit.slots[-2].first | (groups < GROUPS))
            m.d.sync += [groups.eq(Mux(unit.slots[-2].first, 0, groups) + 1),
                         exact.eq(Mux(unit.slots[-2].first, 0, exact) + product)]
        with m.If(here[-1]):
            m.d.comb += Assert(unit.row_sum == exact)
        with m.Else():
            m.d.comb += Assert(self._kept == exact)
        m.d.comb += [Assert(within(exact, bound)), Assert(groups <= GROUPS)]


def a_bit_short(m, unit):
    m.d.comb += unit.row_sum[44].eq(0)


def table_a_bit_short(m, unit):
    m.d.comb += m.submodules.partial.write_data.eq(unit.row_sum[:45])


def kept_under_the_next_slot(m, unit):
    m.d.comb += m.submodules.partial.write_addr.eq(unit.slots[-2].index)


def test_row_sums_fit(demonstrate):
    demonstrate(lambda: ScaleUnit(3), RowsFit,
                [a_bit_short, table_a_bit_short, kept_under_the_next_slot], Method.INDUCTION, 5)
