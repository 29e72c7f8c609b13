"""Memories of boards: chips, their timing, and how LiteDRAM drives them."""

from dataclasses import dataclass
from functools import cached_property

from litedram import modules
from litedram.core.controller import ControllerSettings
from litedram.modules import _SpeedgradeTimings
from litedram.phy import ECP5DDRPHY, GENSDRPHY, HalfRateGENSDRPHY
from migen import Record

__all__ = ["MEMORIES", "Memory", "find_memory"]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """A memory of 16 data lines at a clock.

    Parameters
    ----------
    chip : str
        Class of :mod:`litedram.modules`.
    phy : type
        Class of :mod:`litedram.phy`.
    clock_hz : int
        Of core and controller; the memory's own is twice that where the PHY has two phases.
    lanes : int
        Bytes the memory moves in a cycle of that clock: a word of the core.
    refresh_ns : int, optional
        tRFC, where LiteDRAM counts it in clock cycles of a faster grade: at the clocks of an ECP5
        that would be five times as long as the data sheet asks.
    cl : int, optional
        CAS latency, where LiteDRAM would not know it.
    postponing : int
        Refreshes done together, at most 8: the rows are closed once for all of them.
    rows : int, optional
        Fewer rows, for a simulation of less memory. Timing does not depend on it.
    """

    chip:       str
    phy:        type
    clock_hz:   int
    lanes:      int
    refresh_ns: int | None = None
    cl:         int | None = None
    postponing: int = 8
    rows:       int | None = None

    @cached_property
    def module(self):
        """Geometry and timing, as LiteDRAM takes them."""
        base, own = getattr(modules, self.chip), {}
        if self.rows:
            own["nrows"] = self.rows
        if self.refresh_ns:
            stock = base.speedgrade_timings["default"]
            fields = {name: getattr(stock, name) for name in ("tRP", "tRCD", "tWR", "tFAW", "tRAS")}
            own["speedgrade_timings"] = {
                "default": _SpeedgradeTimings(tRFC=(None, self.refresh_ns), **fields)}
        return type(self.chip, (base,), own)(self.clock_hz, f"1:{self.phases}")

    @property
    def phases(self):
        """Cycles of the memory in one of the controller."""
        return 1 if self.phy is GENSDRPHY else 2

    @property
    def options(self):
        """Of the PHY, beside its pins."""
        return {"sys_clk_freq": self.clock_hz, **({"cl": self.cl} if self.cl else {})}

    def phy_settings(self):
        """What the PHY tells the controller; of one on no pins."""
        return self.phy(_pads(self.module), **self.options).settings

    def controller_settings(self, **others):
        """For LiteDRAM's controller."""
        return ControllerSettings(refresh_postponing=self.postponing, **others)

    @property
    def size(self):
        """Bytes."""
        return 2 * self.module.nbanks * self.module.nrows * self.module.ncols

    @property
    def row_bytes(self):
        """Bytes that follow each other in one bank."""
        return 2 * self.module.ncols


def _pads(module):
    """Pins of a memory that is not there."""
    geometry = module.geom_settings
    pads = [("a", geometry.addressbits), ("ba", geometry.bankbits), ("ras_n", 1), ("cas_n", 1),
            ("we_n", 1), ("dq", 16), ("dm", 2)]
    if module.memtype == "DDR3":
        pads += [("clk_p", 1), ("dqs_p", 2)]
    return Record(pads)


# tRFC of the data sheets: 110 ns for 1 Gbit of DDR3, 160 for 2, 260 for 4.
MEMORIES = {
    "mt48lc16m16": Memory(chip="MT48LC16M16", phy=HalfRateGENSDRPHY, clock_hz=66_666_667, lanes=4,
                          cl=3),
    "as4c32m16":   Memory(chip="AS4C32M16", phy=HalfRateGENSDRPHY, clock_hz=66_666_667, lanes=4,
                          cl=3),
    "mt41k64m16":  Memory(chip="MT41K64M16", phy=ECP5DDRPHY, clock_hz=75_000_000, lanes=8,
                          refresh_ns=110),
    "mt41k256m16": Memory(chip="MT41K256M16", phy=ECP5DDRPHY, clock_hz=75_000_000, lanes=8,
                          refresh_ns=260),
}


def find_memory(name: str) -> Memory:
    """The memory of this name; raises :class:`ValueError` with the names there are."""
    if name not in MEMORIES:
        raise ValueError(f"there is no memory {name!r}, but {', '.join(MEMORIES)}")
    return MEMORIES[name]
