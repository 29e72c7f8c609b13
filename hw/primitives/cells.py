"""Components for which FPGAs have dedicated cells: adders, block RAM and multipliers.

Each component has a generic form for any synthesis tool and for simulation, and a form that
instantiates the cells of an FPGA family. The platform passed to ``elaborate`` selects the form.
Both forms behave the same in every cycle.

A platform selects cells by its attribute ``family``, one of :data:`FAMILIES`: a name of Yosys or of
Amaranth.
"""

from amaranth import Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritstream.hw.primitives import ecp5
from tritstream.hw.primitives.xilinx import XC7, XCUP

__all__ = ["FAMILIES", "BlockRam", "Multiplier", "MultiplyAdd", "PairRam", "cells_of",
           "gated_add"]

#: Cells of each FPGA family. A family has ``gated_add``, ``multiply``, ``block_ram``,
#: ``pair_ram`` and ``BLOCK_DEPTHS``, and may have ``multiply_add`` and ``accumulate_pair``.
FAMILIES = {"ecp5": ecp5, XC7.family: XC7, "series7": XC7,
            XCUP.family: XCUP, "ultrascaleplus": XCUP}


def cells_of(platform):
    """Return the cells of the family of a platform, or None for the generic forms."""
    return FAMILIES.get(getattr(platform, "family", None))


def gated_add(m, platform, total, x, trit, result):
    """Add ``result = total + x * trit`` to a module, as in :func:`.ecp5.gated_add`.

    ``platform`` is the argument of ``elaborate``.
    """
    if cells := cells_of(platform):
        cells.gated_add(m, total, x, trit, result)
        return
    addend = (x ^ trit.negative.replicate(len(x))) & trit.nonzero.replicate(len(x))
    m.d.comb += result.eq(total + addend + trit.negative)


class BlockRam(wiring.Component):
    """Memory with one write port, one read port and an output register.

    ``read_data`` is the row at the ``read_addr`` of two cycles before, counting only cycles with
    ``read_en``; in other cycles it is stable. If a row is read in the cycle in which it is written,
    the data is undefined on silicon and must not be used.

    Parameters
    ----------
    width : int
        Bits per row.
    depth : int
        Number of rows.

    Members
    -------
    write_en, write_addr, write_data : :py:`In(1)`, :py:`In(range(depth))`, :py:`In(width)`
        Write port.
    read_en, read_addr : :py:`In(1)`, :py:`In(range(depth))`
        Read enable, and address of the row.
    read_data : :py:`Out(width)`
        Row, two cycles with ``read_en`` after its address.
    """

    #: Cycles with ``read_en`` from an address to its row.
    LATENCY = 2
    #: Largest number of rows of a memory that synthesis may build from LUTs.
    SMALL = 64

    def __init__(self, width: int, depth: int) -> None:
        self._depth = depth
        super().__init__({
            "write_en":   In(1),
            "write_addr": In(range(depth)),
            "write_data": In(width),
            "read_en":    In(1),
            "read_addr":  In(range(depth)),
            "read_data":  Out(width),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cells = cells_of(platform)
        if cells and self._depth <= max(cells.BLOCK_DEPTHS):
            cells.block_ram(m, self._depth, (self.write_en, self.write_addr, self.write_data),
                            (self.read_en, self.read_addr, self.read_data))
            return m

        # Without a platform this is an exported core. The synthesis tool of its user chooses how
        # to build small memories.
        attrs: dict[str, int | str] = {"no_rw_check": 1}
        if self._depth > self.SMALL or platform is not None:
            attrs["ram_style"] = "block"
        m.submodules.memory = memory = Memory(
            shape=unsigned(len(self.write_data)), depth=self._depth, init=[], attrs=attrs)
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [
            write.en.eq(self.write_en),
            write.addr.eq(self.write_addr),
            write.data.eq(self.write_data),
            read.en.eq(self.read_en),
            read.addr.eq(self.read_addr),
        ]
        with m.If(self.read_en):
            m.d.sync += self.read_data.eq(read.data)
        return m


class PairRam(wiring.Component):
    """Memory that is written in pairs of rows and read row by row, with an output register.

    Rows ``2 n`` and ``2 n + 1`` are the low and the high half of pair n. Otherwise it is like
    :class:`BlockRam`.

    Parameters
    ----------
    width : int
        Bits per row, up to 18.
    pairs : int
        Number of pairs, up to 512.

    Members
    -------
    write_en, write_addr, write_data : :py:`In(1)`, :py:`In(range(pairs))`, :py:`In(2 * width)`
        Write port.
    read_en, read_addr : :py:`In(1)`, :py:`In(range(2 * pairs))`
        Read enable, and address of the row.
    read_data : :py:`Out(width)`
        Row, two cycles with ``read_en`` after its address.
    """

    def __init__(self, width: int, pairs: int) -> None:
        self._pairs = pairs
        super().__init__({
            "write_en":   In(1),
            "write_addr": In(range(pairs)),
            "write_data": In(2 * width),
            "read_en":    In(1),
            "read_addr":  In(range(2 * pairs)),
            "read_data":  Out(width),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if cells := cells_of(platform):
            cells.pair_ram(m, (self.write_en, self.write_addr, self.write_data),
                           (self.read_en, self.read_addr, self.read_data))
            return m

        width, halves = len(self.read_data), []
        for half in range(2):
            m.submodules[f"half{half}"] = memory = BlockRam(width, self._pairs)
            m.d.comb += [
                memory.write_en.eq(self.write_en),
                memory.write_addr.eq(self.write_addr),
                memory.write_data.eq(self.write_data.word_select(half, width)),
                memory.read_en.eq(self.read_en),
                memory.read_addr.eq(self.read_addr[1:]),
            ]
            halves.append(memory.read_data)
        low = self.read_addr[0]
        for stage in range(BlockRam.LATENCY):
            later = Signal(name=f"low{stage}")
            with m.If(self.read_en):
                m.d.sync += later.eq(low)
            low = later
        m.d.comb += self.read_data.eq(Mux(low, halves[1], halves[0]))
        return m


class Multiplier(wiring.Component):
    """Signed multiplier, ``product = a * b``.

    Latency is three cycles, throughput one product per cycle.

    Members
    -------
    a, b : :py:`In(signed(18))`
        Factors.
    product : :py:`Out(signed(36))`
        Product of the factors of three cycles before.
    """

    #: Cycles from the factors to the product.
    LATENCY = 3

    def __init__(self) -> None:
        super().__init__({
            "a":       In(signed(18)),
            "b":       In(signed(18)),
            "product": Out(signed(36)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if cells := cells_of(platform):
            cells.multiply(m, self.a, self.b, self.product)
            return m

        a, b, middle = Signal.like(self.a), Signal.like(self.b), Signal.like(self.product)
        m.d.sync += [a.eq(self.a), b.eq(self.b), middle.eq(a * b), self.product.eq(middle)]
        return m


class MultiplyAdd(wiring.Component):
    """Signed multiplier with an adder, ``total = a * b + addend``.

    Throughput is one sum per cycle. Families with ``multiply_add`` have both in one cell; for
    others an adder follows a :class:`Multiplier`.

    Parameters
    ----------
    width : int
        Bits of addend and total, at most 48.

    Members
    -------
    a, b : :py:`In(signed(18))`
        Factors, :data:`LATENCY` cycles before the total.
    addend : :py:`In(signed(width))`
        Addend, :data:`ADDEND_LATENCY` cycles before the total.
    clear : :py:`In(1)`
        The addend of this cycle is zero.
    total : :py:`Out(signed(width))`
        Sum modulo 2 to the number of its bits.
    """

    #: Cycles from the factors to the total.
    LATENCY = Multiplier.LATENCY + 1
    #: Cycles from the addend to the total.
    ADDEND_LATENCY = 2

    def __init__(self, width: int) -> None:
        super().__init__({
            "a":      In(signed(18)),
            "b":      In(signed(18)),
            "addend": In(signed(width)),
            "clear":  In(1),
            "total":  Out(signed(width)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if multiply_add := getattr(cells_of(platform), "multiply_add", None):
            multiply_add(m, self.a, self.b, self.addend, self.clear, self.total)
            return m

        m.submodules.multiplier = multiplier = Multiplier()
        m.d.comb += [multiplier.a.eq(self.a), multiplier.b.eq(self.b)]
        base = Signal.like(self.addend)
        with m.If(self.clear):
            m.d.sync += base.eq(0)
        with m.Else():
            m.d.sync += base.eq(self.addend)
        m.d.sync += self.total.eq(base + multiplier.product)
        return m
