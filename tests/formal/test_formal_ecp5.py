"""The ECP5's cells do what the generic RTL does, which is what all other tests run."""

from pathlib import Path

import pytest
from amaranth import Module, Signal
from amaranth.hdl import Assume
from amaranth.lib import wiring

from tritstream.hw.compute.lane import Lane
from tritstream.hw.primitives import ecp5
from tritstream.hw.primitives.cells import BlockRam, Multiplier, PairRam
from tritstream.hw.tools.formal import Counterexample, Equal, Method, prove

pytestmark = pytest.mark.long

MODELS = ("+/ecp5/ccu2c_sim.vh", str(Path(__file__).with_name("ecp5_cells.v")))


class Settled(wiring.Component):
    """Block RAM whose output counts from the second read on: before it is undefined."""

    def __init__(self, ram):
        self._ram = ram
        super().__init__(dict(ram.signature.members))

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = self._ram
        reads = Signal(BlockRam.LATENCY)
        with m.If(self.read_en):
            m.d.sync += reads.eq(reads << 1 | 1)
        for name in self.signature.members:
            if name != "read_data":
                m.d.comb += getattr(ram, name).eq(getattr(self, name))
        with m.If(reads[-1]):
            m.d.comb += self.read_data.eq(ram.read_data)
        return m


def on_ecp5(component):
    """The component as it is built for an ECP5."""
    elaborate = component.elaborate
    component.elaborate = lambda platform: elaborate(ecp5.Ecp5())
    return component


def no_subtraction_of_nothing(m, lane):
    m.d.comb += [Assume(trit.nonzero | ~trit.negative) for trit in lane.trits]


def no_collision(m, ram):
    m.d.comb += Assume(~(ram.write_en & ram.read_en & (ram.write_addr == ram.read_addr)))


def no_collision_of_pairs(m, ram):
    m.d.comb += Assume(~(ram.write_en & ram.read_en & (ram.write_addr == ram.read_addr[1:])))


def few_bits(m, multiplier):
    """Products of all numbers are out of a solver's reach."""
    m.d.comb += [Assume(multiplier.a == multiplier.a[:5].as_signed()),
                 Assume(multiplier.b == multiplier.b[:4].as_signed())]


LANE = (Lane, lambda lane: lane, no_subtraction_of_nothing, Method.INDUCTION, 5)
RAM  = (lambda: BlockRam(20, 64), Settled, no_collision, Method.BOUNDED, 7)
PAIRS = (lambda: PairRam(17, 64), Settled, no_collision_of_pairs, Method.BOUNDED, 7)
MULT = (Multiplier, lambda multiplier: multiplier, few_bits, Method.BOUNDED, 6)


def compare(parts, folder):
    make, wrap, assume, method, depth = parts
    spec = Equal(wrap(make()), wrap(on_ecp5(make())), assume)
    prove(spec, folder, method, depth, MODELS)


@pytest.mark.parametrize("parts", [LANE, RAM, PAIRS, MULT],
                         ids=["lane", "block RAM", "pair RAM", "multiplier"])
def test_cells_equal_their_reference_model(parts, tmp_path):
    compare(parts, tmp_path)


@pytest.mark.parametrize("width", [1, 2, 4, 9])
def test_narrow_block_ram_equals_its_reference_model(width, tmp_path, monkeypatch):
    monkeypatch.setattr(ecp5, "BLOCK_DEPTHS", {64: width})
    compare((lambda: BlockRam(width + 1, 64), *RAM[1:]), tmp_path)


def fifth_bit_lost(name, value, width):
    return {f"{name}{bit}": value[bit] if bit < len(value) and bit != 5 else 0
            for bit in range(width)}


@pytest.mark.parametrize("parts, name, value", [
    (LANE, "_ADD", 0x965A ^ 0x8000),
    (LANE, "_START", 0x0000),
    (RAM, "_bits", fifth_bit_lost),
    (PAIRS, "_bits", fifth_bit_lost),
    (MULT, "_bits", fifth_bit_lost),
], ids=["lane: sum", "lane: carry in", "block RAM: lost bit", "pair RAM: lost bit",
        "multiplier: lost bit"])
def test_a_wrong_cell_is_found(parts, name, value, tmp_path, monkeypatch):
    monkeypatch.setattr(ecp5, name, value)
    with pytest.raises(Counterexample):
        compare(parts, tmp_path)
