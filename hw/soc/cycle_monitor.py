"""Monitor that classifies each cycle of the data lines of the memory, for simulation."""

from enum import IntEnum

from litedram.common import LiteDRAMNativePort
from litedram.core import LiteDRAMCore
from litex.gen import LiteXModule
from migen import If, Signal

from tritstream.hw.soc.dma_reader import Feeder

__all__ = ["Cause", "Monitor"]


class Cause(IntEnum):
    """Use of a memory cycle. If several apply, the first is reported."""

    READ        = 0     #: a word for the core
    REFRESH     = 1     #: a refresh, until the first access after it
    TURN        = 2     #: a change between reading and writing
    WRITE       = 3     #: a write of responses or of the link
    OTHER_READ  = 4     #: a word for the link
    ROW         = 5     #: a row is closed or opened
    ARBITRATION = 6     #: an address waits, but no bank has it yet
    NO_ADDRESS  = 7     #: no address waits: the core is full or has no descriptor


class Monitor(LiteXModule):
    """Reports the use of each cycle.

    A column access occupies the data lines for ``tCCD`` cycles of the controller. A cycle is
    classified at the time at which its command could have been issued, not when its data is
    transferred.

    Parameters
    ----------
    sdram : LiteDRAMCore
        Memory controller.
    feeder : Feeder
        Reader of the weights.
    bridge_port : LiteDRAMNativePort
        Memory port of the link.
    cycles : int
        tCCD in cycles of the controller.

    Members
    -------
    cause : Signal
        :class:`Cause` of the cycle.
    refreshed : Signal
        The memory gets a refresh command.
    """

    def __init__(self, sdram: LiteDRAMCore, feeder: Feeder, bridge_port: LiteDRAMNativePort,
                 cycles: int) -> None:
        self.cause, self.refreshed = cause, _ = Signal(3), Signal()
        multiplexer, controller = sdram.controller.multiplexer, sdram.controller
        request  = multiplexer.choose_req
        access   = request.accept() & (request.read() | request.write())
        closed   = Signal()
        refresh  = controller.refresher.cmd.valid | multiplexer.fsm.ongoing("REFRESH")
        left     = Signal(max=max(cycles, 2))
        last     = Signal(3)
        locked   = Signal()
        link     = Signal()
        banks    = [getattr(controller.interface, f"bank{number}")
                    for number in range(controller.interface.nbanks)]
        self.comb += [If(bank.lock, locked.eq(1)) for bank in banks]
        self.comb += [If(~phase.cs_n & ~phase.ras_n & ~phase.cas_n & phase.we_n,
                         self.refreshed.eq(1)) for phase in sdram.dfii.master.phases]
        # The link has at most one outstanding read, which cannot be distinguished from other reads.
        self.sync += [
            If(bridge_port.cmd.valid & bridge_port.cmd.ready & ~bridge_port.cmd.we, link.eq(1)),
            If(bridge_port.rdata.valid, link.eq(0)),
            If(refresh, closed.eq(1)).Elif(access, closed.eq(0)),
            If(access, left.eq(cycles - 1), last.eq(cause)).Elif(left != 0, left.eq(left - 1)),
        ]
        self.comb += (
            If(access & request.write(), cause.eq(Cause.WRITE))
            .Elif(access & link, cause.eq(Cause.OTHER_READ))
            .Elif(access, cause.eq(Cause.READ))
            .Elif(left != 0, cause.eq(last))
            .Elif(refresh | closed & locked, cause.eq(Cause.REFRESH))
            .Elif(multiplexer.fsm.ongoing("RTW") | multiplexer.fsm.ongoing("WTR"),
                  cause.eq(Cause.TURN))
            .Elif(locked, cause.eq(Cause.ROW))
            .Elif(feeder.waiting, cause.eq(Cause.ARBITRATION))
            .Else(cause.eq(Cause.NO_ADDRESS)))
