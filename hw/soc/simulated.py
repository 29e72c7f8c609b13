"""Simulated system with a model of the memory, and pins for a test harness."""

from typing import Any

from litedram.frontend.dma import LiteDRAMDMAWriter
from litedram.phy.model import SDRAM_VERBOSE_OFF, SDRAM_VERBOSE_STD, SDRAMPHYModel
from liteeth.phy.model import LiteEthPHYModel
from litex.build.generic_platform import Pins, Subsignal
from litex.build.sim import SimPlatform
from litex.gen import LiteXModule
from litex.soc.interconnect import wishbone
from migen import ClockDomain, Signal

from tritstream.hw.soc.cycle_monitor import Monitor
from tritstream.hw.soc.memory import Memory
from tritstream.hw.soc.network import NETWORK
from tritstream.hw.soc.soc import BoardSoC

__all__ = ["SimulatedSoC", "soc_verilog"]


def _pins(width):
    """Return the pins of the harness. ``width`` is the width of a memory word in bits."""
    def group(name, **signals):
        return (name, 0, *(Subsignal(signal, Pins(bits)) for signal, bits in signals.items()))

    return [
        ("clk", 0, Pins(1)), ("rst", 0, Pins(1)), ("cause", 0, Pins(3)),
        group("bus", adr=30, dat_w=32, dat_r=32, we=1, stb=1, ack=1),
        group("load", address=32, data=width, valid=1, ready=1),
        group("core", taken=1, given=1), ("refreshed", 0, Pins(1)),
        group("eth", source_valid=1, source_data=8, sink_valid=1, sink_data=8),
    ]


class _Clock(LiteXModule):
    """Clock of the system, and half of it for the network."""

    def __init__(self, platform) -> None:
        self.cd_sys = ClockDomain()
        self.cd_net = ClockDomain(NETWORK)
        half = Signal(reset_less=True)
        self.sync += half.eq(~half)
        self.comb += [self.cd_sys.clk.eq(platform.request("clk")),
                      self.cd_sys.rst.eq(platform.request("rst")),
                      self.cd_net.clk.eq(half), self.cd_net.rst.eq(self.cd_sys.rst)]


class _EthernetPins(LiteEthPHYModel):
    """PHY model of LiteEth, with preamble and checksum on its pins as on a cable."""

    with_preamble_crc = True


class SimulatedSoC(BoardSoC):
    """:class:`.BoardSoC` with the memory model of LiteDRAM and the PHY model of LiteEth.

    Parameters
    ----------
    memory : Memory
        Memory to simulate.
    checks : bool
        Check every command against the timing of the memory.
    link : bool
        Add Etherbone over UDP, next to the bus of the harness.
    controller : dict, optional
        Settings of the memory controller.
    parts : dict
        Further parameters of :class:`.BoardSoC`.
    """

    def __init__(self, memory: Memory, checks: bool = True, link: bool = True,
                 controller: dict[str, Any] | None = None, **parts: Any) -> None:
        settings = memory.phy_settings()
        width    = settings.dfi_databits * settings.nphases
        platform = SimPlatform("SIM", _pins(width))
        BoardSoC.__init__(self, platform, memory, **parts)
        self.crg = _Clock(platform)
        # The model truncates times to picoseconds. The period is therefore a whole number of
        # picoseconds, rounded down, plus a small excess that is truncated.
        period = 10**12 // (memory.clock_hz * settings.nphases) + 1e-3
        phy = SDRAMPHYModel(memory.module, settings, clk_freq=1e12 / period / settings.nphases,
                            verbosity=SDRAM_VERBOSE_STD if checks else SDRAM_VERBOSE_OFF)
        self.add_module("sdrphy", phy)
        self.add_memory(phy, quick=True, **(controller or {}))
        self._add_bus(platform.request("bus"))
        self._add_load(platform.request("load"))
        if link:
            self.add_link(_EthernetPins(platform.request("eth")))
        self._add_probes(platform)

    def _add_bus(self, pins):
        bus = wishbone.Interface(data_width=32, adr_width=30)
        self.bus.add_master("harness", bus)
        self.comb += [
            bus.adr.eq(pins.adr), bus.dat_w.eq(pins.dat_w), bus.we.eq(pins.we), bus.sel.eq(0xF),
            bus.stb.eq(pins.stb), bus.cyc.eq(pins.stb),
            pins.dat_r.eq(bus.dat_r), pins.ack.eq(bus.ack),
        ]

    def _add_load(self, pins):
        """Add a port that writes one word per cycle to memory, without the link."""
        self.loader = LiteDRAMDMAWriter(self.sdram.crossbar.get_port(), fifo_depth=16)
        self.comb += [
            self.loader.sink.address.eq(pins.address), self.loader.sink.data.eq(pins.data),
            self.loader.sink.valid.eq(pins.valid), pins.ready.eq(self.loader.sink.ready),
        ]

    def _add_probes(self, platform):
        core, pins = self.tritstream.core, platform.request("core")
        timing = self.memory.module.timing_settings
        self.monitor = Monitor(self.sdram, self.tritstream.feeder, self.bridge_port,
                               timing.tCCD or 1)
        self.comb += [
            platform.request("cause").eq(self.monitor.cause),
            platform.request("refreshed").eq(self.monitor.refreshed),
            pins.taken.eq(core.sink.valid & core.sink.ready),
            pins.given.eq(core.source.valid & core.source.ready),
        ]


def soc_verilog(soc: BoardSoC) -> str:
    """Return the Verilog of the system, module ``top``, without the core."""
    soc.finalize()
    return str(soc.platform.get_verilog(soc, name="top"))
