"""What the memory's data lines do in each cycle, for simulation."""

from enum import IntEnum

from litex.gen import LiteXModule
from migen import If, Signal

__all__ = ["Cause", "Monitor"]


class Cause(IntEnum):
    """What a cycle of the memory went for; of several reasons the first."""

    READ        = 0     #: a word for the core
    REFRESH     = 1     #: refresh, until the first access after it
    TURN        = 2     #: between reading and writing
    WRITE       = 3     #: answers, or whatever the link writes
    OTHER_READ  = 4     #: a word for the link
    ROW         = 5     #: a row is being closed or opened
    ARBITRATION = 6     #: an address waits, and no bank has one
    NO_ADDRESS  = 7     #: nothing is asked for: the core does not take more, or has no descriptor


class Monitor(LiteXModule):
    """Tells the cause of each cycle.

    A column access occupies the data lines for ``tCCD`` cycles of the controller. What a cycle
    goes for is decided when its command could have been given, not when the data comes.

    Parameters
    ----------
    sdram : LiteDRAMCore
    feeder : Feeder
    bridge_port : LiteDRAMNativePort
        Of the link.
    cycles : int
        tCCD.

    Members
    -------
    cause : Signal
        A :class:`Cause`.
    refreshed : Signal
        The memory gets a command to refresh itself.
    """

    def __init__(self, sdram, feeder, bridge_port, cycles) -> None:
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
        # The link has one read under way at most; which access is its is not known.
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
