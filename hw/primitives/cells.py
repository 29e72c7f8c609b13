"""What an FPGA has cells for: gated adders, multipliers, block RAM.

Each has a generic form, which any synthesis takes and which is simulated, and one that
instantiates the cells of a family, chosen by the platform that ``elaborate`` gets. Both behave
alike, cycle by cycle.
"""

from amaranth import Module, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritstream.hw.primitives import ecp5

__all__ = ["BlockRam", "Multiplier"]


class BlockRam(wiring.Component):
    """Memory with one write port and one read port, and a register behind the read port.

    ``read_data`` is what stood at ``read_addr`` two cycles with ``read_en`` before; without
    ``read_en`` it stays. A row that is written in the cycle its address is given must not be used:
    what is read then is undefined on silicon.

    Parameters
    ----------
    width, depth : int

    Members
    -------
    write_en, write_addr, write_data : :py:`In`
    read_en, read_addr : :py:`In`
    read_data : :py:`Out(width)`
    """

    LATENCY = 2
    #: Rows of a memory that may lie in LUTs as well as in a block.
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
        if ecp5.is_ecp5(platform) and self._depth <= max(ecp5.BLOCK_DEPTHS):
            ecp5.block_ram(m, self._depth, (self.write_en, self.write_addr, self.write_data),
                           (self.read_en, self.read_addr, self.read_data))
            return m

        # Without a platform this is an exported core: its user's synthesis chooses for small ones.
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


class Multiplier(wiring.Component):
    """``product = a * b``, both signed; latency three cycles, throughput one a cycle.

    Members
    -------
    a, b : :py:`In(signed(18))`
    product : :py:`Out(signed(36))`
    """

    LATENCY = 3

    def __init__(self) -> None:
        super().__init__({
            "a":       In(signed(18)),
            "b":       In(signed(18)),
            "product": Out(signed(36)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if ecp5.is_ecp5(platform):
            ecp5.multiply(m, self.a, self.b, self.product)
            return m

        a, b, middle = Signal.like(self.a), Signal.like(self.b), Signal.like(self.product)
        m.d.sync += [a.eq(self.a), b.eq(self.b), middle.eq(a * b), self.product.eq(middle)]
        return m
