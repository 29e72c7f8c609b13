"""System on a board: memory controller, core, and the transfers between them."""

from typing import Any, ClassVar

from litedram.core import LiteDRAMCore
from litex.build.generic_platform import GenericPlatform
from litex.gen import LiteXModule
from litex.soc.integration.soc import SoCRegion
from litex.soc.integration.soc_core import SoCMini
from litex.soc.interconnect import wishbone
from migen import ClockDomainsRenamer

from tritstream.hw.soc.bridge import Bridge
from tritstream.hw.soc.dram_init import Starter, start_sequence
from tritstream.hw.soc.memory import Memory
from tritstream.hw.soc.network import NETWORK, Network
from tritstream.hw.soc.packets import Etherbone
from tritstream.hw.soc.peripheral import Tritstream
from tritstream.hw.soc.registers import CSR, CSR_BASE, MEMORY

__all__ = ["RING", "BoardSoC"]

#: Size in bytes of the ring of responses at the end of memory, enough for 100,000 rows.
RING = 1 << 20
#: IPv4 address, UDP port and MAC address of a board.
ADDRESS, PORT, MAC = "192.168.1.50", 1234, 0x10E2D5000000


class BoardSoC(SoCMini):
    """LiteX system without a processor: a bus for the link, memory controller and core.

    Parameters
    ----------
    platform : GenericPlatform
        Platform of LiteX. The caller must add the Verilog of the core.
    memory : Memory
        Memory of the board.
    readers : int
        Number of memory ports that read weights, 1 or 2.
    depth : int
        Largest number of outstanding words per port.
    stretch : int, optional
        Words after which the ports alternate. By default a row of a bank.
    ring : int
        Size in bytes of the ring of responses.
    """

    csr_map: ClassVar = {name: place for place, name in enumerate(CSR)}
    mem_map: ClassVar = {"csr": CSR_BASE, "main_ram": MEMORY}

    def __init__(self, platform: GenericPlatform, memory: Memory, readers: int = 2,
                 depth: int = 32, stretch: int | None = None, ring: int = RING) -> None:
        SoCMini.__init__(self, platform, memory.clock_hz, ident="", with_ctrl=False)
        self.memory = memory
        self._parts = (readers, depth, stretch, ring)

    def add_memory(self, phy: LiteXModule, quick: bool = False, levels: int = 0,
                   **controller: Any) -> None:
        """Add the memory behind ``phy`` with its initialization, and the core.

        Parameters
        ----------
        phy : LiteXModule
            PHY of LiteDRAM.
        quick : bool
            Shorten the initialization, for simulation.
        levels : int
            Value of the register ``levels``.
        controller : dict
            Settings of the memory controller.
        """
        memory = self.memory
        readers, depth, stretch, ring = self._parts
        self.sdram = LiteDRAMCore(
            phy, memory.module.geom_settings, memory.module.timing_settings, memory.clock_hz,
            controller_settings=memory.controller_settings(**controller))
        port = self.sdram.crossbar.get_port
        bus  = wishbone.Interface(data_width=32, adr_width=30)
        self.bridge_port = port()
        self.bridge = Bridge(bus, self.bridge_port, MEMORY)
        self.bus.add_slave("main_ram", bus, SoCRegion(MEMORY, memory.size, cached=False))

        words = [port() for _ in range(readers)]
        width = words[0].data_width // 8
        self.tritstream = Tritstream(words, port(), memory.lanes, memory.size, ring, depth,
                                     stretch or memory.row_bytes // width, levels)
        self.starter = Starter(start_sequence(phy.settings, memory.module.timing_settings, quick))
        self.bus.add_master("starter", self.starter.bus)
        self.comb += self.tritstream.ready.eq(self.starter.done)

    def add_link(self, phy: LiteXModule) -> None:
        """Add Etherbone over UDP behind an Ethernet PHY. The domain ``NETWORK`` must exist."""
        self.ethphy  = phy
        self.network = ClockDomainsRenamer(NETWORK)(Network(phy, MAC, ADDRESS))
        self.etherbone = Etherbone(self.network.udp, PORT)
        self.bus.add_master("etherbone", self.etherbone.bus)
