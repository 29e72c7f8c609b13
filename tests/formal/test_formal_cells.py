"""Cells of each family do what the generic RTL does, which is what all other tests run."""

from pathlib import Path

import pytest
from amaranth import Cat, Const, Module, Signal
from amaranth.hdl import Assume
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.hw.compute.lane import Lane
from tritstream.hw.framing.crc import crc_step
from tritstream.hw.primitives import ecp5, xilinx
from tritstream.hw.primitives.accumulator_pair import AccumulatorPair
from tritstream.hw.primitives.cells import BlockRam, Multiplier, MultiplyAdd, PairRam
from tritstream.hw.primitives.ecp5 import Ecp5
from tritstream.hw.primitives.linear_map import linear_map
from tritstream.hw.primitives.xilinx import XC7, XCUP
from tritstream.hw.tools.formal import Counterexample, Equal, Method, prove

pytestmark = pytest.mark.long

FAMILIES = {"ecp5": Ecp5(), "xc7": XC7, "xcup": XCUP}
#: Models of the cells by platform and component; Yosys has some of them.
XILINX = "+/xilinx/cells_sim.v"
OURS   = str(Path(__file__).with_name("xilinx_cells.v"))
ECP5   = ("+/ecp5/ccu2c_sim.vh", str(Path(__file__).with_name("ecp5_cells.v")))
MODELS = {("xc7", Lane): XILINX, ("xcup", Lane): XILINX, ("xc7", Multiplier): XILINX,
          ("xc7", MultiplyAdd): XILINX, ("xc7", AccumulatorPair): XILINX}


class CrcOfZeros(wiring.Component):
    """CRC register after some bytes of zeros, which is a linear map. A few of its bits."""

    def __init__(self):
        super().__init__({"before": In(20), "after": Out(12)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.after.eq(linear_map(
            m, platform, "zeros", self.before, len(self.after),
            lambda bits: crc_step(bits, 0, 5) & (1 << len(self.after)) - 1))
        return m


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


class Cleared(wiring.Component):
    """Accumulators whose sums count from the first clear on: before it they are undefined."""

    def __init__(self, pair):
        self._pair = pair
        super().__init__(dict(pair.signature.members))

    def elaborate(self, platform):
        m = Module()
        m.submodules.pair = pair = self._pair
        cleared = Signal(AccumulatorPair.LATENCY)
        m.d.sync += cleared.eq(Cat(self.clear | cleared[0], cleared))
        for name in self.signature.members:
            if name != "sums":
                m.d.comb += [mine.eq(given) for mine, given in zip(
                    _list(getattr(pair, name)), _list(getattr(self, name)), strict=True)]
        with m.If(cleared[-1]):
            m.d.comb += [mine.eq(theirs)
                         for mine, theirs in zip(self.sums, pair.sums, strict=True)]
        return m


def _list(port):
    return port if isinstance(port, list) else [port]


def on(platform, component):
    """The component as it is built for a platform."""
    elaborate = component.elaborate
    component.elaborate = lambda _: elaborate(platform)
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


def few_values(m, pair):
    m.d.comb += Assume(pair.x == pair.x[:6].as_signed())
    m.d.comb += [Assume(nonzero | ~negative)
                 for nonzero, negative in zip(pair.nonzero, pair.negative, strict=True)]


LANE = (Lane, lambda lane: lane, no_subtraction_of_nothing, Method.INDUCTION, 5)
RAM  = (lambda: BlockRam(20, 64), Settled, no_collision, Method.BOUNDED, 7)
PAIRS = (lambda: PairRam(17, 64), Settled, no_collision_of_pairs, Method.BOUNDED, 7)
MULT = (Multiplier, lambda multiplier: multiplier, few_bits, Method.BOUNDED, 6)
SUMS = (lambda: MultiplyAdd(46), lambda multiplier: multiplier, few_bits, Method.BOUNDED, 7)

CRC  = (CrcOfZeros, lambda crc: crc, lambda m, crc: None, Method.BOUNDED, 2)
PAIR = (lambda: AccumulatorPair(18), Cleared, few_values, Method.BOUNDED, 9)


def compare(family, parts, folder):
    make, wrap, assume, method, depth = parts
    generic = make()
    spec = Equal(wrap(generic), wrap(on(FAMILIES[family], make())), assume)
    prove(spec, folder, method, depth,
          ECP5 if family == "ecp5" else (MODELS.get((family, type(generic)), OURS),))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("parts", [LANE, RAM, PAIRS, MULT, SUMS, PAIR, CRC], ids=[
    "lane", "block RAM", "pair RAM", "multiplier", "multiplier with adder", "accumulators", "CRC"])
def test_cells_equal_their_reference_model(family, parts, tmp_path):
    compare(family, parts, tmp_path)


@pytest.mark.parametrize("family, cells, widths", [
    ("ecp5", ecp5, [1, 2, 4, 9]), ("xc7", xilinx.Xilinx, [1, 2, 4, 9, 18]),
    ("xcup", xilinx.Xilinx, [1, 2, 4, 9, 18])], ids=["ecp5", "xc7", "xcup"])
def test_block_ram_of_each_width_equals_its_reference_model(family, cells, widths, tmp_path,
                                                            monkeypatch):
    for width in widths:
        monkeypatch.setattr(cells, "BLOCK_DEPTHS", {64: width})
        compare(family, (lambda width=width: BlockRam(width + 1, 64), *RAM[1:]),
                tmp_path / str(width))


def fifth_bit_lost(name, value, width):
    return {f"{name}{bit}": value[bit] if bit < len(value) and bit != 5 else 0
            for bit in range(width)}


def sign_lost(value, width):
    return Cat(value, Const(0, width - len(value)))


def row_lost(row, low):
    return Cat(Const(0, low + 1), row[1:], Const(0, 14 - low - len(row)))


@pytest.mark.parametrize("family, parts, module, name, value", [
    ("ecp5", LANE, ecp5, "_ADD", 0x965A ^ 0x8000),
    ("ecp5", LANE, ecp5, "_START", 0x0000),
    ("ecp5", CRC, ecp5, "_XOR", 0x6996 ^ 0x8000),
    ("ecp5", RAM, ecp5, "_bits", fifth_bit_lost),
    ("ecp5", PAIRS, ecp5, "_bits", fifth_bit_lost),
    ("ecp5", MULT, ecp5, "_bits", fifth_bit_lost),
    ("xc7", LANE, xilinx, "_ADD", xilinx._ADD ^ 0x8000),
    ("xcup", LANE, xilinx, "_ADD", xilinx._ADD ^ 0x0100),
    ("xc7", RAM, xilinx, "_address", row_lost),
    ("xcup", RAM, xilinx, "_address", row_lost),
    ("xcup", PAIRS, xilinx, "_address", row_lost),
    ("xc7", MULT, xilinx, "_extended", sign_lost),
    ("xcup", MULT, xilinx, "_extended", sign_lost),
    ("xc7", SUMS, xilinx, "_PRODUCT_PLUS_C", xilinx._PRODUCT),
    ("xcup", SUMS, xilinx, "_PRODUCT_PLUS_C", xilinx._PRODUCT),
    ("xc7", PAIR, xilinx, "_HIGH", 6),
    ("xcup", PAIR, xilinx, "_D_PLUS_A", 0),
], ids=["ecp5 lane: sum", "ecp5 lane: carry in", "ecp5 CRC", "ecp5 block RAM", "ecp5 pair RAM",
        "ecp5 multiplier", "xc7 lane", "xcup lane", "xc7 block RAM", "xcup block RAM",
        "xcup pair RAM", "xc7 multiplier", "xcup multiplier", "xc7 adder", "xcup adder",
        "xc7 accumulators", "xcup accumulators"])
def test_a_wrong_cell_is_found(family, parts, module, name, value, tmp_path, monkeypatch):
    monkeypatch.setattr(module, name, value)
    with pytest.raises(Counterexample):
        compare(family, parts, tmp_path)
