"""Boards with memory: clocks, pins and link, with pins and clocks from litex-boards."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from liteeth.phy.ecp5rgmii import LiteEthPHYRGMII
from litex.soc.cores.uart import RS232PHY, UARTBone
from litex_boards.platforms import (
    colorlight_i5,
    gsd_orangecrab,
    lambdaconcept_ecpix5,
    radiona_ulx3s,
)
from litex_boards.targets import colorlight_i5 as colorlight
from litex_boards.targets import gsd_orangecrab as orangecrab
from litex_boards.targets import lambdaconcept_ecpix5 as ecpix5
from litex_boards.targets import radiona_ulx3s as ulx3s
from migen import ClockDomain, ResetSignal
from migen.genlib.resetsync import AsyncResetSynchronizer

from tritstream.hw.soc.memory import MEMORIES, Memory
from tritstream.hw.soc.network import NETWORK, NETWORK_HZ
from tritstream.hw.soc.soc import BoardSoC

__all__ = ["BOARDS", "Board", "find_board"]

_BAUD = 3_000_000
#: Bytes of a write of the bus.
_BUS  = 4


@dataclass(frozen=True, kw_only=True)
class Board:
    """Board with memory.

    Parameters
    ----------
    title : str
        Full name with FPGA part and memory size.
    memory : str
        Name of the memory in :data:`tritstream.hw.soc.memory.MEMORIES`.
    columns, max_k : int
        Parameters of the core, see :class:`.DeviceConfig`.
    place : tuple of str
        Options of nextpnr for the part.
    make : callable
        Function that makes the system, with clock, memory and link, from the memory.
    link : str
        Link to the host: UART or Ethernet.
    """

    title:   str
    memory:  str
    columns: int
    max_k:   int
    place:   tuple[str, ...]
    make:    Callable[[Memory], BoardSoC]
    link:    str

    def system(self, clock_hz: int | None = None) -> BoardSoC:
        """Return the system, at the clock of the memory or at ``clock_hz``."""
        memory = MEMORIES[self.memory]
        return self.make(replace(memory, clock_hz=clock_hz) if clock_hz else memory)


def _ulx3s(memory):
    platform = radiona_ulx3s.Platform(device="LFE5U-85F", revision="2.0", toolchain="trellis")
    soc = BoardSoC(platform, memory)
    soc.crg = ulx3s._CRG(platform, memory.clock_hz, sdram_rate="1:2")
    _add_sdram(soc, platform, memory)
    _add_serial(soc, platform)
    return soc


def _colorlight_i5(memory):
    platform = colorlight_i5.Platform(board="i5", toolchain="trellis")
    soc = BoardSoC(platform, memory)
    soc.crg = colorlight._CRG(platform, memory.clock_hz)
    _add_sdram(soc, platform, memory)
    _add_ethernet(soc, platform, tx_delay=0e-9)
    return soc


def _ecpix5(memory):
    platform = lambdaconcept_ecpix5.Platform(device="85F", toolchain="trellis")
    soc = BoardSoC(platform, memory)
    soc.crg = ecpix5._CRG(platform, memory.clock_hz)
    _add_ddr3(soc, platform, memory)
    _add_ethernet(soc, platform, rx_delay=0e-9)
    return soc


def _orangecrab(memory):
    platform = gsd_orangecrab.Platform(revision="0.2", device="25F", toolchain="trellis")
    platform.add_extension(gsd_orangecrab.feather_serial)
    soc = BoardSoC(platform, memory)
    soc.crg = orangecrab._CRGSDRAM(platform, memory.clock_hz)
    _add_ddr3(soc, platform, memory)
    _add_serial(soc, platform)
    return soc


def _add_sdram(soc, platform, memory):
    pads = platform.request("sdram")
    if not hasattr(pads, "dm") and memory.lanes > _BUS:
        raise ValueError(
            f"the board has no DM pins, so a write of the bus ({_BUS} bytes) would damage the rest "
            f"of a memory word ({memory.lanes} bytes); use a PHY whose word has {_BUS} bytes")
    phy = memory.phy(pads, **memory.options)
    soc.add_module("sdrphy", phy)
    soc.add_memory(phy)


def _add_ddr3(soc, platform, memory):
    phy = memory.phy(platform.request("ddram"), **memory.options)
    soc.add_module("ddrphy", phy)
    soc.comb += [soc.crg.stop.eq(phy.init.stop), soc.crg.reset.eq(phy.init.reset)]
    soc.add_memory(phy, levels=phy.settings.strobes)


def _add_ethernet(soc, platform, **delays):
    """Add Gigabit Ethernet. ``delays`` are those of the PHY's clocks, in seconds."""
    soc.crg.cd_net = ClockDomain(NETWORK)
    soc.crg.pll.create_clkout(soc.crg.cd_net, NETWORK_HZ, with_reset=False)
    soc.crg.specials += AsyncResetSynchronizer(soc.crg.cd_net, ResetSignal())
    soc.add_link(LiteEthPHYRGMII(platform.request("eth_clocks"), platform.request("eth"),
                                 **delays))


def _add_serial(soc, platform):
    """Add a UART as a bus master, for debugging. It is too slow for weights."""
    phy = RS232PHY(platform.request("serial"), soc.memory.clock_hz, _BAUD)
    soc.add_module("serial", phy)
    soc.serial_bus = UARTBone(phy, soc.memory.clock_hz)
    soc.bus.add_master("serial", soc.serial_bus.wishbone)


BOARDS = {
    "ulx3s-85f": Board(
        title="Radiona ULX3S, LFE5U-85F-6, 32 MB of SDRAM", memory="mt48lc16m16", columns=1,
        max_k=32768, place=("--85k", "--package", "CABGA381", "--speed", "6"), make=_ulx3s,
        link="UART"),
    "ecpix5-85": Board(
        title="LambdaConcept ECPIX-5, LFE5UM5G-85F-8, 512 MB of DDR3", memory="mt41k256m16",
        columns=1, max_k=32768, place=("--um5g-85k", "--package", "CABGA554", "--speed", "8"),
        make=_ecpix5, link="Ethernet"),
    "orangecrab-25f": Board(
        title="OrangeCrab r0.2, LFE5U-25F-8, 128 MB of DDR3", memory="mt41k64m16", columns=1,
        max_k=16384, place=("--25k", "--package", "CSFBGA285", "--speed", "8"),
        make=_orangecrab, link="UART"),
    "colorlight-i5": Board(
        title="Colorlight i5 v7.0, LFE5U-25F-6, 8 MB of SDRAM", memory="m12l64322a", columns=1,
        max_k=16384, place=("--25k", "--package", "CABGA381", "--speed", "6"),
        make=_colorlight_i5, link="Ethernet"),
}


def find_board(name: str) -> Board:
    """Return the board with this name; raise :class:`ValueError` if it is unknown."""
    if name not in BOARDS:
        raise ValueError(f"unknown board with memory {name!r}; use one of {', '.join(BOARDS)}")
    return BOARDS[name]
