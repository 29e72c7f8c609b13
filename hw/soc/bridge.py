"""From the bus of a link to memory, a word of memory at a time."""

from litex.gen import LiteXModule
from migen import FSM, Array, If, NextState, NextValue, Replicate, Signal

__all__ = ["Bridge"]

#: Cycles without an access after which a word that was read is read anew: less than lie between
#: two packets of a link, more than between two accesses of one.
_FRESH = 63


class Bridge(LiteXModule):
    """A slave on the bus, 32 bits wide, before a port of the memory, as wide or wider.

    A word of memory that was read serves the reads that follow it closely: LiteDRAM takes some 30
    cycles for each. It is forgotten at a write, and when the bus has been quiet for a while, so
    that what the core has written meanwhile is seen.

    Parameters
    ----------
    bus : wishbone.Interface
    port : LiteDRAMNativePort
    base : int
        Bus address of the memory.
    """

    def __init__(self, bus, port, base) -> None:
        ratio  = port.data_width // 32
        shift  = ratio.bit_length() - 1
        adr    = Signal(30)
        place  = Signal(max(shift, 1))
        line   = Signal(port.data_width)
        held   = Signal(30)
        valid  = Signal()
        quiet  = Signal(max=_FRESH + 1)
        words  = Array(line[32 * word:32 * (word + 1)] for word in range(ratio))
        masks  = Array(15 << 4 * word for word in range(ratio))
        access = bus.cyc & bus.stb
        self.comb += [
            adr.eq(bus.adr - base // 4),
            place.eq(adr[:shift] if shift else 0),
            port.cmd.addr.eq(adr[shift:]),
            port.cmd.we.eq(bus.we),
            port.wdata.data.eq(Replicate(bus.dat_w, ratio)),
            port.wdata.we.eq(masks[place] & Replicate(bus.sel, ratio)),
            port.rdata.ready.eq(1),
            bus.dat_r.eq(words[place]),
        ]
        self.sync += If(access, quiet.eq(_FRESH)).Elif(quiet != 0, quiet.eq(quiet - 1))
        self.fsm = fsm = FSM(reset_state="IDLE")
        fsm.act("IDLE",
            If(access & ~bus.we & valid & (held == adr[shift:]) & (quiet != 0),
                NextState("ANSWER")
            ).Elif(access,
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
        # Not in an access's first cycle: LiteX's bus chooses the slave that is read a cycle late.
        fsm.act("ANSWER", bus.ack.eq(1), NextState("IDLE"))
