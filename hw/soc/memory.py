"""Memories of boards: chips, timing, and settings of LiteDRAM."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from litedram import modules
from litedram.common import PhySettings
from litedram.core.controller import ControllerSettings
from litedram.modules import _SpeedgradeTimings
from litedram.phy import ECP5DDRPHY, GENSDRPHY, HalfRateGENSDRPHY
from migen import Record

__all__ = ["MEMORIES", "Memory", "find_memory"]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory at a given clock.

    Parameters
    ----------
    chip : str
        Class of :mod:`litedram.modules`.
    phy : type
        Class of :mod:`litedram.phy`.
    clock_hz : int
        Clock of core and controller in Hz. The memory clock is twice as fast if the PHY has two
        phases.
    lanes : int
        Bytes per cycle of this clock, which is the word size of the core.
    refresh_ns : int, optional
        tRFC in ns, for chips for which LiteDRAM has it in clock cycles of a faster speed grade. At
        the clocks of an ECP5, those cycles take five times as long as the data sheet requires.
    cl : int, optional
        CAS latency in cycles, if LiteDRAM does not know it.
    postponing : int
        Number of refreshes that are done together, at most 8. Rows are closed once for all.
    data_bits : int
        Number of data lines.
    rows : int, optional
        Reduced number of rows, for a simulation with less memory. The timing is the same.
    """

    chip:       str
    phy:        type
    clock_hz:   int
    lanes:      int
    refresh_ns: int | None = None
    cl:         int | None = None
    postponing: int = 8
    data_bits:  int = 16
    rows:       int | None = None

    @cached_property
    def module(self) -> modules.SDRAMModule:
        """Geometry and timing of the chip for LiteDRAM."""
        base = getattr(modules, self.chip)
        own: dict[str, Any] = {}
        if self.rows:
            own["nrows"] = self.rows
        if self.refresh_ns:
            stock = base.speedgrade_timings["default"]
            fields = {name: getattr(stock, name) for name in ("tRP", "tRCD", "tWR", "tFAW", "tRAS")}
            own["speedgrade_timings"] = {
                "default": _SpeedgradeTimings(tRFC=(None, self.refresh_ns), **fields)}
        return type(self.chip, (base,), own)(self.clock_hz, f"1:{self.phases}")

    @property
    def phases(self) -> int:
        """Cycles of the memory per cycle of the controller."""
        return 1 if self.phy is GENSDRPHY else 2

    @property
    def options(self) -> dict[str, int]:
        """Options of the PHY in addition to its pins."""
        return {"sys_clk_freq": self.clock_hz, **({"cl": self.cl} if self.cl else {})}

    def phy_settings(self) -> PhySettings:
        """Return the settings of the PHY for the controller, from a PHY without real pins."""
        return self.phy(_pads(self.module, self.data_bits), **self.options).settings

    def controller_settings(self, **others: Any) -> ControllerSettings:
        """Return the settings of the LiteDRAM controller, with ``others`` added.

        Weights are read in order, so no two accesses that follow each other close a row: automatic
        closing would only compare addresses in every bank.
        """
        return ControllerSettings(refresh_postponing=self.postponing, with_auto_precharge=False,
                                  **others)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.row_bytes * self.module.nbanks * self.module.nrows

    @property
    def row_bytes(self) -> int:
        """Consecutive bytes in one bank."""
        return self.data_bits // 8 * self.module.ncols


def _pads(module, data_bits):
    """Return placeholders for the pins of a memory."""
    geometry = module.geom_settings
    pads = [("a", geometry.addressbits), ("ba", geometry.bankbits), ("ras_n", 1), ("cas_n", 1),
            ("we_n", 1), ("dq", data_bits), ("dm", data_bits // 8)]
    if module.memtype == "DDR3":
        pads += [("clk_p", 1), ("dqs_p", data_bits // 8)]
    return Record(pads)


# tRFC of DDR3, from the chip data sheets: 110 ns for 1 Gbit, 160 ns for 2 Gbit, 260 ns for 4 Gbit.
MEMORIES = {
    "mt48lc16m16": Memory(chip="MT48LC16M16", phy=HalfRateGENSDRPHY, clock_hz=60_000_000, lanes=4,
                          cl=3),
    "as4c32m16":   Memory(chip="AS4C32M16", phy=HalfRateGENSDRPHY, clock_hz=60_000_000, lanes=4,
                          cl=3),
    "m12l64322a":  Memory(chip="M12L64322A", phy=GENSDRPHY, clock_hz=60_000_000, lanes=4,
                          data_bits=32),
    "mt41k64m16":  Memory(chip="MT41K64M16", phy=ECP5DDRPHY, clock_hz=75_000_000, lanes=8,
                          refresh_ns=110),
    "mt41k256m16": Memory(chip="MT41K256M16", phy=ECP5DDRPHY, clock_hz=75_000_000, lanes=8,
                          refresh_ns=260),
}


def find_memory(name: str) -> Memory:
    """Return the memory with this name; raise :class:`ValueError` if it is unknown."""
    if name not in MEMORIES:
        raise ValueError(f"unknown memory {name!r}; use one of {', '.join(MEMORIES)}")
    return MEMORIES[name]
