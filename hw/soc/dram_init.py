"""Initialization of the memory without a processor."""

from litedram.common import PhySettings, Settings
from litedram.init import get_sdram_phy_init_sequence
from litex.gen import LiteXModule
from litex.soc.interconnect import wishbone
from migen import FSM, Array, Constant, If, NextState, NextValue, Signal

from tritstream.hw.soc.registers import CSR, CSR_BASE, CSR_STEP

__all__ = ["DFII", "Starter", "start_sequence"]

#: Indices of the registers of the LiteDRAM command injector that the initialization writes.
DFII = {"control": 0, "command": 1, "issue": 2, "address": 3, "bank": 4}

#: Cycles of reset, and largest number of cycles per iteration of the delay loop in LiteX software.
_RESET, _LOOP = 20_000, 4

_BITS = {"DFII_CONTROL_SEL": 1, "DFII_CONTROL_CKE": 2, "DFII_CONTROL_ODT": 4,
         "DFII_CONTROL_RESET_N": 8, "DFII_COMMAND_CS": 1, "DFII_COMMAND_WE": 2,
         "DFII_COMMAND_CAS": 4, "DFII_COMMAND_RAS": 8}


def start_sequence(phy_settings: PhySettings, timing_settings: Settings,
                   quick: bool = False) -> list[tuple[str, int, int]]:
    """Return the register writes that initialize a memory.

    Each write is (register of :data:`DFII`, value, cycles to wait after the write). The sequence is
    the sequence of LiteDRAM after a reset of at least 200 us at every supported clock. ``quick``
    shortens long waits, for simulation.
    """
    sequence, _ = get_sdram_phy_init_sequence(phy_settings, timing_settings)
    # The command injector controls the memory during the initialization.
    writes = [("control", 0, 50 if quick else _RESET)]
    for _, address, bank, command, delay in sequence:
        value = sum(_BITS[name] for name in command.split("|"))
        delay = min(delay, 50) if quick else _LOOP * delay
        writes += [("address", address, 0), ("bank", bank, 0)]
        if command.startswith("DFII_CONTROL"):
            writes += [("control", value, delay)]
        else:
            writes += [("command", value, 0), ("issue", 1, max(delay, timing_settings.tRFC))]
    return [*writes, ("control", _BITS["DFII_CONTROL_SEL"], 0)]


class Starter(LiteXModule):
    """Writes a sequence to the registers of LiteDRAM once after reset.

    Parameters
    ----------
    writes : list of tuple
        Result of :func:`start_sequence`.

    Members
    -------
    bus : wishbone.Interface
        Bus master of 32 bits.
    done : Signal
        The sequence is complete.
    """

    def __init__(self, writes: list[tuple[str, int, int]]) -> None:
        self.bus  = bus = wishbone.Interface(data_width=32, adr_width=30)
        self.done = Signal()

        base = (CSR_BASE + CSR_STEP * CSR.index("sdram")) // 4
        step = Signal(max=len(writes) + 1)
        wait = Signal(max=max(delay for *_, delay in writes) + 1)
        places, values, delays = (
            Array(Constant(value, 32) for value in column)
            for column in zip(*((DFII[name], value, delay) for name, value, delay in writes),
                              strict=True))
        self.comb += [bus.adr.eq(base + places[step]), bus.dat_w.eq(values[step]),
                      bus.sel.eq(0xF), bus.we.eq(1)]
        self.fsm = fsm = FSM(reset_state="WRITE")
        fsm.act("WRITE",
            bus.cyc.eq(1), bus.stb.eq(1),
            If(bus.ack, NextValue(wait, delays[step]), NextState("WAIT")))
        fsm.act("WAIT",
            NextValue(wait, wait - 1),
            If(wait == 0,
                NextValue(step, step + 1),
                If(step == len(writes) - 1, NextState("DONE")).Else(NextState("WRITE"))))
        fsm.act("DONE", self.done.eq(1))
