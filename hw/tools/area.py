"""Area and clock of the device and its parts on ECP5: what `tritstream hw report` measures."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

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

__all__ = ["DEFAULT_UNITS", "UNITS", "Area", "Unit", "measure",
           "rtl_digest", "units"]


def _part(make):
    return lambda lanes, columns: component_verilog(make(lanes, columns), platform=Ecp5())


def _core(platform):
    return lambda lanes, columns: component_verilog(
        AxiStreamDevice(DeviceConfig(lanes, columns)), platform=platform)


#: Verilog of each unit for lanes and columns.
UNITS = {
    "decoder":            _part(lambda lanes, columns: TritUnpacker(1)),
    "lane":               _part(lambda lanes, columns: Lane()),
    "array":              _part(LaneArray),
    "array with scaling": _part(Datapath),
    "device":             lambda lanes, columns: device_verilog(
                              DeviceConfig(lanes, columns), platform=Ecp5()),
    "multiplier lane":    _part(lambda lanes, columns: MultiplierLane()),
    "multiplier array":   _part(lambda lanes, columns: LaneArray(lanes, columns, MultiplierLane)),
}
#: Units of a report that names none.
DEFAULT_UNITS = tuple(UNITS)
UNITS |= {"core": _core(Ecp5()), "generic core": _core(None)}
#: Units that come in one size.
_SINGLE = ("decoder", "lane", "multiplier lane")


@dataclass(frozen=True)
class Unit:
    """One of :data:`UNITS` in one size; raises :class:`ValueError` where there is none."""

    name: str
    lanes: int = 1
    columns: int = 1

    def __post_init__(self) -> None:
        if self.name not in UNITS:
            raise ValueError(f"there is no unit {self.name!r}, but {', '.join(UNITS)}")
        DeviceConfig(self.lanes, self.columns)

    def __str__(self):
        return f"{self.name}, L = {self.lanes}, B = {self.columns}"

    @property
    def trit_macs(self):
        """Trit multiply-accumulates a cycle."""
        return 0 if self.name == "decoder" else ROWS * self.lanes * self.columns

    @property
    def folder(self):
        return f"{self.name.replace(' ', '-')}-{self.lanes}-{self.columns}"

    def verilog(self):
        return UNITS[self.name](self.lanes, self.columns)


def units(names: Iterable[str], lanes: Iterable[int], columns: Iterable[int]) -> list[Unit]:
    """Every unit named, at every number of lanes and columns; none twice."""
    return list(dict.fromkeys(
        Unit(name) if name in _SINGLE else Unit(name, *size)
        for size in product(lanes, columns) for name in names))


def measure(unit: Unit, folder: Path, seeds: int, frequency: int, advance: Callable) -> dict:
    """Synthesize a unit, then place and route it with seeds 1, 2, ..; what came of it.

    ``advance(1, label)`` is told of each of ``1 + seeds`` steps.

    Raises :class:`tritstream.hw.tools.synth.SynthError`.
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
    """SHA-256 that names the RTL of measured units: of the digests of their Verilog."""
    return hashlib.sha256("".join(unit["verilog"] for unit in measured).encode()).hexdigest()


@dataclass(frozen=True)
class Area:
    """What a measured unit says, over all seeds."""

    measured: dict

    def cells(self, name: str) -> int:
        """Cells of a type; the most that a seed took."""
        return max(placed["cells"].get(name, 0) for placed in self.measured["placed"])

    @property
    def clocks(self) -> tuple[float, float, float] | None:
        """Lowest, median and highest clock of the seeds in MHz; None without registers."""
        reached = [placed["fmax_mhz"] for placed in self.measured["placed"]]
        return None if None in reached else (min(reached), median(reached), max(reached))

    @property
    def per_mac(self) -> float | None:
        """TRELLIS_COMB for a trit-MAC a cycle."""
        macs = self.measured["trit_macs"]
        return self.cells("TRELLIS_COMB") / macs if macs else None

    @property
    def density(self) -> float | None:
        """1e9 trit-MACs a second for 1000 TRELLIS_COMB, at the median clock."""
        return self.clocks[1] / self.per_mac if self.clocks and self.per_mac else None
