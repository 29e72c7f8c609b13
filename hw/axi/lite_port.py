"""AXI4-Lite slave in front of the registers."""

from amaranth import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.hw.axi.interfaces import LITE_ADDRESS_BITS, AxiLite
from tritstream.hw.axi.registers import BANK, CHANNEL, GLOBAL, Register

__all__ = ["LitePort"]

OKAY, SLVERR = 0b00, 0b10

_BANK_BITS = BANK.bit_length() - 1


class LitePort(wiring.Component):
    """AXI4-Lite slave for the banks of registers of a core.

    One write and one read are served at a time. Two writes are at least two cycles apart. SLVERR
    answers an access to an address that has no such register, is no multiple of 4, or, of a write,
    does not cover all four bytes; it has no effect.

    Parameters
    ----------
    channels : int
        Number of channels.

    Members
    -------
    bus : :py:`In(AxiLite)`
        AXI4-Lite. Ready signals are low in the cycle after a reset.
    bank, select, write, value
        Write ``value`` to the register of number ``select`` of a bank.
    read_bank, read, content
        Number of a bank and of a register, and its content two cycles later.
    """

    def __init__(self, channels: int) -> None:
        self._channels = channels
        super().__init__({
            "bus":       In(AxiLite),
            "bank":      Out(LITE_ADDRESS_BITS - _BANK_BITS),
            "select":    Out(8),
            "write":     Out(1),
            "value":     Out(32),
            "read_bank": Out(LITE_ADDRESS_BITS - _BANK_BITS),
            "read":      Out(8),
            "content":   In(32),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._writes(m)
        self._reads(m)
        return m

    def _writes(self, m):
        bus = self.bus
        address, strobes = Signal(LITE_ADDRESS_BITS), Signal(4)
        known = Signal()
        m.d.comb += [
            self.bank.eq(address[_BANK_BITS:]),
            self.select.eq(address[2:_BANK_BITS]),
            known.eq(self._known(address, "w") & (strobes == 0xF)),
        ]
        with m.FSM():
            # A channel is ready until it has been taken.
            with m.State("TAKE"):
                m.d.sync += [bus.awready.eq(1), bus.wready.eq(1)]
                m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(bus.awvalid & bus.awready):
                    m.d.sync += [bus.awready.eq(0), address.eq(bus.awaddr)]
                with m.If(bus.wvalid & bus.wready):
                    m.d.sync += [bus.wready.eq(0), self.value.eq(bus.wdata), strobes.eq(bus.wstrb)]
                with m.If(~bus.awready & ~bus.wready):
                    m.d.comb += self.write.eq(known)
                    m.d.sync += [bus.bvalid.eq(1), bus.bresp.eq(Mux(known, OKAY, SLVERR))]
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                with m.If(bus.bready):
                    m.d.sync += bus.bvalid.eq(0)
                    m.next = "TAKE"

    def _reads(self, m):
        bus = self.bus
        address = Signal(LITE_ADDRESS_BITS)
        known   = self._known(address, "r")
        m.d.comb += [
            self.read_bank.eq(address[_BANK_BITS:]),
            self.read.eq(address[2:_BANK_BITS]),
        ]
        with m.FSM():
            with m.State("TAKE"):
                m.d.sync += bus.arready.eq(1)
                m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(bus.arvalid & bus.arready):
                    m.d.sync += [bus.arready.eq(0), address.eq(bus.araddr)]
                    m.next = "FIRST"
            with m.State("FIRST"):
                m.next = "SECOND"
            with m.State("SECOND"):
                m.next = "CONTENT"
            with m.State("CONTENT"):
                m.d.sync += [
                    bus.rvalid.eq(1), bus.rdata.eq(Mux(known, self.content, 0)),
                    bus.rresp.eq(Mux(known, OKAY, SLVERR)),
                ]
                m.next = "ANSWER"
            with m.State("ANSWER"):
                with m.If(bus.rready):
                    m.d.sync += bus.rvalid.eq(0)
                    m.next = "TAKE"

    def _known(self, address, access):
        """Return whether there is such a register with this access."""
        bank, number = address[_BANK_BITS:], address[2:_BANK_BITS]
        return (address[:2] == 0) & Mux(
            bank == 0, _among(number, GLOBAL, access),
            (bank <= self._channels) & _among(number, CHANNEL, access))


def _among(number, registers: dict[str, Register], access: str):
    numbers = [register.offset // 4 for register in registers.values()
               if access in register.access]
    return number.matches(*numbers) if numbers else Const(0)
