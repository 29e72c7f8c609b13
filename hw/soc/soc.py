"""The system on a board: memory, core, and what moves between them."""

from litedram.core import LiteDRAMCore
from litex.soc.integration.soc import SoCRegion
from litex.soc.integration.soc_core import SoCMini
from litex.soc.interconnect import wishbone

from tritstream.hw.soc.bridge import Bridge
from tritstream.hw.soc.dram_init import Starter, start_sequence
from tritstream.hw.soc.memory import Memory
from tritstream.hw.soc.network import Network
from tritstream.hw.soc.packets import Etherbone
from tritstream.hw.soc.peripheral import Tritstream
from tritstream.hw.soc.registers import CSR, CSR_BASE, MEMORY

__all__ = ["BoardSoC", "RING"]

#: Bytes at the end of memory for answers: those of a matrix of 100,000 rows.
RING = 1 << 20
#: Where a board answers.
ADDRESS, PORT, MAC = "192.168.1.50", 1234, 0x10E2D5000000


class BoardSoC(SoCMini):
    """LiteX without a processor: a bus for whoever comes by the link, memory, core.

    Parameters
    ----------
    platform
        Of LiteX; gets the core's Verilog from whoever builds.
    memory : Memory
    readers : int
        Ports that read weights.
    depth : int
        Words each of them may have under way.
    stretch : int, optional
        Words after which the ports take turns; a row of a bank if not given.
    ring : int
        Bytes for answers.
    """

    csr_map = {name: place for place, name in enumerate(CSR)}
    mem_map = {"csr": CSR_BASE, "main_ram": MEMORY}

    def __init__(self, platform, memory: Memory, readers=2, depth=32, stretch=None, ring=RING) -> None:
        SoCMini.__init__(self, platform, memory.clock_hz, ident="", with_ctrl=False)
        self.memory = memory
        self._parts = (readers, depth, stretch, ring)

    def add_memory(self, phy, quick=False, levels=0, **controller):
        """The memory behind ``phy`` on the bus, started by itself, and the core that it feeds."""
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

    def add_link(self, phy):
        """Etherbone over UDP behind an Ethernet PHY."""
        self.ethphy  = phy
        self.network = Network(phy, MAC, ADDRESS, self.memory.clock_hz)
        self.etherbone = Etherbone(self.network.udp, PORT)
        self.bus.add_master("etherbone", self.etherbone.wishbone.bus)
