"""Bridge from the bus of a link to memory, one memory word at a time."""

from litedram.common import LiteDRAMNativePort
from litex.gen import LiteXModule
from litex.soc.interconnect import wishbone
from migen import FSM, Array, If, NextState, NextValue, Replicate, Signal

__all__ = ["Bridge"]

#: Cycles without an access after which a buffered word is read again: fewer than between two
#: packets of a link, more than between two accesses of a packet.
_FRESH = 63


class Bridge(LiteXModule):
    """Bus slave of 32 bits in front of a memory port of the same width or wider.

    The last memory word that was read is buffered for the following reads, because LiteDRAM takes
    about 30 cycles per read. The buffer is cleared at a write. It is also cleared after a pause on
    the bus, so that words that the core writes in the meantime are read.

    Parameters
    ----------
    bus : wishbone.Interface
        Bus of 32 bits.
    port : LiteDRAMNativePort
        Port of the memory, a multiple of 32 bits wide.
    base : int
        Bus address of the memory in bytes.
    """

    def __init__(self, bus: wishbone.Interface, port: LiteDRAMNativePort, base: int) -> None:
        ratio  = port.data_width // 32
        shift  = ratio.bit_length() - 1
        adr    = Signal(30)
        place  = Signal(max(shift, 1))
        line   = Signal(port.data_width)
        held   = Signal(30)
        valid  = Signal()
        quiet  = Signal(max=_FRESH + 1)
        fresh  = Signal()
        words  = Array(line[32 * word:32 * (word + 1)] for word in range(ratio))
        masks  = Array(15 << 4 * word for word in range(ratio))
        access = bus.cyc & bus.stb
        self.comb += [
            place.eq(adr[:shift] if shift else 0),
            port.cmd.addr.eq(adr[shift:]),
            port.cmd.we.eq(bus.we),
            port.wdata.data.eq(Replicate(bus.dat_w, ratio)),
            port.wdata.we.eq(masks[place] & Replicate(bus.sel, ratio)),
            port.rdata.ready.eq(1),
            bus.dat_r.eq(words[place]),
        ]
        self.sync += [
            adr.eq(bus.adr - base // 4),
            If(access, quiet.eq(_FRESH)).Elif(quiet != 0, quiet.eq(quiet - 1)),
        ]
        self.fsm = fsm = FSM(reset_state="IDLE")
        # The address comes through the bus, and goes to all banks of the memory: a cycle for each.
        fsm.act("IDLE", NextValue(fresh, quiet != 0), If(access, NextState("LOOK")))
        fsm.act("LOOK",
            If(~bus.we & valid & (held == adr[shift:]) & fresh,
                NextState("ANSWER")
            ).Else(
                port.cmd.valid.eq(1),
                NextValue(valid, 0),
                If(port.cmd.ready, If(bus.we, NextState("WRITE")).Else(NextState("READ")))))
        fsm.act("WRITE",
            port.wdata.valid.eq(1),
            If(port.wdata.ready, bus.ack.eq(1), NextState("IDLE")))
        fsm.act("READ",
            If(port.rdata.valid,
                NextValue(line, port.rdata.data), NextValue(held, adr[shift:]),
                NextValue(valid, 1), NextState("ANSWER")))
        # Not in the first cycle of an access, because the LiteX bus selects the slave that is read
        # one cycle late.
        fsm.act("ANSWER", bus.ack.eq(1), NextState("IDLE"))
