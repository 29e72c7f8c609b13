"""Area and clock of the device and its components on ECP5, for `tritstream hw report`."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

from amaranth.lib.wiring import Component

from tritstream.golden.fixed_point import ROWS
from tritstream.hw.compute.datapath import Datapath
from tritstream.hw.compute.lane import Lane
from tritstream.hw.compute.lane_array import LaneArray
from tritstream.hw.compute.multiplier_lane import MultiplierLane
from tritstream.hw.compute.trit_unpacker import TritUnpacker
from tritstream.hw.config import DeviceConfig
from tritstream.hw.io.axi_stream import AxiStreamDevice
from tritstream.hw.primitives.ecp5 import Ecp5
from tritstream.hw.tools.export import component_verilog, device_verilog
from tritstream.hw.tools.synth import place, synthesize

__all__ = ["DEFAULT_UNITS", "UNITS", "Area", "Unit", "measure", "rtl_digest", "units"]


def _part(make: Callable[[int, int], Component]) -> Callable[[int, int], str]:
    return lambda lanes, columns: component_verilog(make(lanes, columns), platform=Ecp5())


def _core(platform: object) -> Callable[[int, int], str]:
    return lambda lanes, columns: component_verilog(
        AxiStreamDevice(DeviceConfig(lanes, columns)), platform=platform)


#: Function that returns the Verilog of each unit for a number of lanes and columns.
UNITS: dict[str, Callable[[int, int], str]] = {
    "decoder":            _part(lambda lanes, columns: TritUnpacker(1)),
    "lane":               _part(lambda lanes, columns: Lane()),
    "array":              _part(LaneArray),
    "array with scaling": _part(Datapath),
    "device":             lambda lanes, columns: device_verilog(
                              DeviceConfig(lanes, columns), platform=Ecp5()),
    "multiplier lane":    _part(lambda lanes, columns: MultiplierLane()),
    "multiplier array":   _part(lambda lanes, columns: LaneArray(lanes, columns, MultiplierLane)),
}
#: Units of a report without an explicit list.
DEFAULT_UNITS = tuple(UNITS)
UNITS |= {"core": _core(Ecp5()), "generic core": _core(None)}
#: Units that do not depend on lanes and columns.
_SINGLE = ("decoder", "lane", "multiplier lane")


@dataclass(frozen=True)
class Unit:
    """One of :data:`UNITS` in one size.

    Parameters
    ----------
    name : str
        Name in :data:`UNITS`.
    lanes, columns : int
        Size, see :class:`.DeviceConfig`.

    Raises
    ------
    ValueError
        The name is unknown or the size is invalid.
    """

    name: str
    lanes: int = 1
    columns: int = 1

    def __post_init__(self) -> None:
        if self.name not in UNITS:
            raise ValueError(f"unknown unit {self.name!r}; use one of {', '.join(UNITS)}")
        DeviceConfig(self.lanes, self.columns)

    def __str__(self):
        return f"{self.name}, L = {self.lanes}, B = {self.columns}"

    @property
    def trit_macs(self) -> int:
        """Trit multiply-accumulates per cycle."""
        return 0 if self.name == "decoder" else ROWS * self.lanes * self.columns

    @property
    def folder(self) -> str:
        """Name of the folder of the unit."""
        return f"{self.name.replace(' ', '-')}-{self.lanes}-{self.columns}"

    def verilog(self) -> str:
        """Return the Verilog of the unit, top module ``top``."""
        return UNITS[self.name](self.lanes, self.columns)


def units(names: Iterable[str], lanes: Iterable[int], columns: Iterable[int]) -> list[Unit]:
    """Return each named unit in each combination of lanes and columns, without duplicates."""
    return list(dict.fromkeys(
        Unit(name) if name in _SINGLE else Unit(name, *size)
        for size in product(lanes, columns) for name in names))


def measure(unit: Unit, folder: Path, seeds: int, frequency: int, advance: Callable) -> dict:
    """Synthesize a unit, place and route it with seeds 1..``seeds``, and return the results.

    ``frequency`` is the target in MHz. ``advance(count, label)`` is called when ``count`` more of
    the ``1 + seeds`` steps are finished and step ``label`` starts.

    Raises :class:`tritstream.hw.tools.synth.SynthError` if a tool is missing or fails.
    """
    folder = folder / unit.folder
    advance(0, str(unit))
    verilog = unit.verilog()
    cells = synthesize(verilog, folder)
    placed = []
    for seed in range(1, seeds + 1):
        advance(1, f"{unit}, seed {seed}")
        placed.append(place(folder, seed, frequency))
    advance(1)
    return {
        "unit": unit.name, "lanes": unit.lanes, "columns": unit.columns,
        "trit_macs": unit.trit_macs,
        "verilog": hashlib.sha256(verilog.encode()).hexdigest(),
        "netlist": hashlib.sha256((folder / "unit.json").read_bytes()).hexdigest(),
        "synthesized": cells, "placed": placed,
    }


def rtl_digest(measured: Iterable[dict]) -> str:
    """Return a SHA-256 that identifies the RTL of measured units."""
    return hashlib.sha256("".join(unit["verilog"] for unit in measured).encode()).hexdigest()


@dataclass(frozen=True)
class Area:
    """Figures of a measured unit over all seeds.

    Parameters
    ----------
    measured : dict
        Result of :func:`measure`.
    """

    measured: dict

    def cells(self, name: str) -> int:
        """Return the number of cells of a type, the maximum over all seeds."""
        return max(placed["cells"].get(name, 0) for placed in self.measured["placed"])

    @property
    def clocks(self) -> tuple[float, float, float] | None:
        """Lowest, median and highest clock over all seeds in MHz; None without registers."""
        reached = [placed["fmax_mhz"] for placed in self.measured["placed"]]
        return None if None in reached else (min(reached), median(reached), max(reached))

    @property
    def per_mac(self) -> float | None:
        """TRELLIS_COMB cells per trit-MAC per cycle; None for a unit that does not multiply."""
        macs = self.measured["trit_macs"]
        return self.cells("TRELLIS_COMB") / macs if macs else None

    @property
    def density(self) -> float | None:
        """1e9 trit-MACs per second and per 1000 TRELLIS_COMB, at the median clock."""
        return self.clocks[1] / self.per_mac if self.clocks and self.per_mac else None
