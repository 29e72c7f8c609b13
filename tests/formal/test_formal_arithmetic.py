"""Data paths compared with independent arithmetic."""

import pytest
from amaranth import Cat, Elaboratable, Module, Mux, Signal, signed
from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume
from formal.rules import free

from tritstream.golden.fixed_point import GROUP, half_range
from tritstream.hw.compute.lane import Lane
from tritstream.hw.compute.trit_unpacker import TritUnpacker
from tritstream.hw.protocol import longest_group
from tritstream.hw.tools.formal import Method

pytestmark = pytest.mark.long


class Decodes(Elaboratable):
    """Every lane gives the digits of docs/packed-format.md, and wires between lanes are zero."""

    def __init__(self, unpacker):
        self._unpacker = unpacker

    def elaborate(self, platform):
        m = Module()
        m.submodules.unpacker = unpacker = self._unpacker
        free(m, unpacker.packed)
        for lane in range(unpacker.lanes):
            digits = self._digits(m, unpacker.packed.word_select(lane, 8))
            for row, digit in enumerate(digits):
                # As a balanced trit, digit 0 is 0, 1 is +1, 2 is -1.
                wires = Cat(unpacker.nonzero[row][lane], unpacker.negative[row][lane])
                m.d.comb += Assert(wires == Mux(digit == 0, 0b00, Mux(digit == 1, 0b01, 0b11)))
        return m

    @staticmethod
    def _digits(m, T):
        """The block as the Khronos Data Format Specification has it, line by line."""
        C = Signal(5)
        D0, D1, D2, D3, D4 = digits = [Signal(2) for _ in range(5)]
        with m.If(T[2:5] == 7):
            m.d.comb += [C.eq(Cat(T[0:2], T[5:8])), D4.eq(2), D3.eq(2)]
        with m.Else():
            m.d.comb += C.eq(T[0:5])
            with m.If(T[5:7] == 3):
                m.d.comb += [D4.eq(2), D3.eq(T[7])]
            with m.Else():
                m.d.comb += [D4.eq(T[7]), D3.eq(T[5:7])]
        with m.If(C[0:2] == 3):
            m.d.comb += [D2.eq(2), D1.eq(C[4]), D0.eq(Cat(C[2] & ~C[3], C[3]))]
        with m.Elif(C[2:4] == 3):
            m.d.comb += [D2.eq(2), D1.eq(2), D0.eq(C[0:2])]
        with m.Else():
            m.d.comb += [D2.eq(C[4]), D1.eq(C[2:4]), D0.eq(Cat(C[0] & ~C[1], C[1]))]
        return digits


def one_code_wrong(m, unpacker):
    with m.If(unpacker.packed[:8] == 0x7E):
        m.d.comb += unpacker.negative[3][0].eq(0)


def lanes_disturb_each_other(m, unpacker):
    m.d.comb += unpacker.nonzero[0][0].eq(unpacker.packed[8])


@pytest.mark.parametrize("lanes", [2, 8, 16])
def test_unpacker_decodes(demonstrate, lanes):
    demonstrate(lambda: TritUnpacker(lanes), Decodes, [one_code_wrong, lanes_disturb_each_other],
                Method.BOUNDED, 1)


def signal_trit(m, trit):
    """A free trit on wires, and its value."""
    free(m, trit)
    m.d.comb += Assume(trit.nonzero | ~trit.negative)
    value = Signal(signed(2))
    m.d.comb += value.eq(Mux(trit.negative, -1, trit.nonzero))
    return value


class Accumulates(Elaboratable):
    """Each row's sum is what it was plus trit times x, modulo 2^18, or zero after a clear."""

    def __init__(self, lane):
        self._lane = lane

    def elaborate(self, platform):
        m = Module()
        m.submodules.lane = lane = self._lane
        for trit, x, clear, total in zip(lane.trits, lane.x, lane.clear, lane.sums, strict=True):
            free(m, x, clear)
            value = signal_trit(m, trit)
            expected, began = Signal(len(total)), Signal()
            m.d.sync += [expected.eq(Mux(clear, 0, total + value * x.as_signed())), began.eq(1)]
            with m.If(began):
                m.d.comb += Assert(total == expected)
        return m


def carry_lost(m, lane):
    with m.If(lane.trits[2].negative & (lane.x[2] == 5)):
        m.d.sync += lane.sums[2].eq(lane.sums[2] - 4)


def clear_ignored(m, lane):
    with m.If(lane.clear[4]):
        m.d.sync += lane.sums[4].eq(lane.sums[4])


def test_lane_adds_and_subtracts(demonstrate):
    demonstrate(Lane, Accumulates, [carry_lost, clear_ignored], Method.INDUCTION, 2)


class GroupFits(Elaboratable):
    """A group sum is exact: 18 bits hold the longest group of each depth, times int8.

    Between clears the lane gets ``a * 3^i`` for the digits i = 0..d-1 of each weight, of at most
    :func:`.longest_group` chunks of 16 weights, with idle cycles (x = 0) anywhere. A second sum in
    24 bits is always equal to the sum of the lane, because it stays within
    ``+-128 * (h n + (3^i - 1) / 2)`` after n weights and i digits more, with ``h = (3^d - 1) / 2``.
    """

    def __init__(self, lane, depth):
        self._lane, self._half, self._top = lane, half_range(depth), 3 ** (depth - 1)
        self._most = GROUP * longest_group(depth)

    def elaborate(self, platform):
        m = Module()
        m.submodules.lane = lane = self._lane
        for row in range(1, len(lane.sums)):        # all rows are alike; one is enough
            free(m, lane.trits[row], lane.x[row], lane.clear[row])
        value = signal_trit(m, lane.trits[0])
        x, total = Signal(signed(14)), Signal(signed(24))
        weights, power = Signal(range(self._most + 1)), Signal(range(82), init=1)
        held, fresh, idle, clear = Signal(signed(14)), AnySeq(signed(8)), AnySeq(1), AnySeq(1)
        bound = 128 * (self._half * weights + ((power - 1) >> 1))       # power: 3^digit
        m.d.comb += [
            x.eq(Mux(idle, 0, Mux(power == 1, fresh, held * 3))),
            lane.x[0].eq(x),
            lane.clear[0].eq(clear),
            Assert(lane.sums[0].as_signed() == total),
            # What the next step of the induction needs to know.
            Assert(Cat(power == 3 ** digit for digit in range(4) if 3 ** digit <= self._top).any()),
            Assert(weights <= self._most),
            Assert((power == 1) | (weights < self._most)),
            Assert((power == 1) | ((held * 3 <= 128 * power) & (held * 3 >= -128 * power))),
            Assert((total <= bound) & (total >= -bound)),
        ]
        with m.If(clear):
            m.d.sync += [total.eq(0), weights.eq(0), power.eq(1)]
        with m.Elif(~idle):
            m.d.comb += Assume(weights < self._most)
            m.d.sync += [total.eq(total + value * x), held.eq(x), power.eq(power * 3)]
            with m.If((power == self._top) | AnySeq(1)):        # the weight's last digit
                m.d.sync += [power.eq(1), weights.eq(weights + 1)]
        return m


def seventeen_bits(m, lane):
    m.d.sync += lane.sums[0][17].eq(0)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_group_sums_fit(demonstrate, depth):
    demonstrate(Lane, lambda lane: GroupFits(lane, depth), [seventeen_bits], Method.INDUCTION, 1)

