"""Area and clock of the device and its components, for `tritstream hw report`."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

from amaranth.lib.wiring import Component

from tritstream.golden.fixed_point import ROWS
from tritstream.hw.compute.datapath import Datapath
from tritstream.hw.compute.dsp_lanes import DspLanes
from tritstream.hw.compute.lane import Lane
from tritstream.hw.compute.lane_array import LaneArray
from tritstream.hw.compute.multiplier_lane import MultiplierLane
from tritstream.hw.compute.trit_unpacker import TritUnpacker
from tritstream.hw.config import DeviceConfig
from tritstream.hw.io.axi_stream import AxiStreamDevice
from tritstream.hw.tools.core_export import FAMILIES
from tritstream.hw.tools.engine import Engine
from tritstream.hw.tools.export import component_verilog, device_verilog
from tritstream.hw.tools.synth import place, synthesize

__all__ = ["DEFAULT_UNITS", "UNITS", "Area", "Unit", "measure", "rtl_digest", "synthesized_area",
           "units"]


Verilog = Callable[[int, int, object], str]


def _part(make: Callable[[int, int], Component]) -> Verilog:
    return lambda lanes, columns, platform: component_verilog(
        make(lanes, columns), platform=platform)


def _device(lanes: int, columns: int, platform: object) -> str:
    return device_verilog(DeviceConfig(lanes, columns), platform=platform)


#: Function that returns the Verilog of each unit for lanes, columns and a platform.
UNITS: dict[str, Verilog] = {
    "decoder":            _part(lambda lanes, columns: TritUnpacker(1)),
    "lane":               _part(lambda lanes, columns: Lane()),
    "array":              _part(LaneArray),
    "array with scaling": _part(Datapath),
    "device":             _device,
    "multiplier lane":    _part(lambda lanes, columns: MultiplierLane()),
    "multiplier array":   _part(lambda lanes, columns: LaneArray(lanes, columns, MultiplierLane)),
}
#: Units of a report without an explicit list.
DEFAULT_UNITS = tuple(UNITS)
UNITS |= {
    "engine":     _part(Engine),
    "DSP array":  _part(lambda lanes, columns: LaneArray(lanes, columns, DspLanes)),
    "DSP engine": _part(lambda lanes, columns: Engine(lanes, columns, DspLanes)),
    "core":   _part(lambda lanes, columns: AxiStreamDevice(DeviceConfig(lanes, columns))),
}
#: In front of the name of a unit: without cells of the family.
_GENERIC = "generic "
UNITS |= {f"{_GENERIC}{name}": UNITS[name] for name in ("lane", "array", "engine", "core")}
#: Units that do not depend on lanes and columns.
_SINGLE = ("decoder", "lane", "multiplier lane", "generic lane")


@dataclass(frozen=True)
class Unit:
    """One of :data:`UNITS` in one size.

    Parameters
    ----------
    name : str
        Name in :data:`UNITS`.
    lanes, columns : int
        Size, see :class:`.DeviceConfig`.
    family : str
        FPGA family, one of those of an exported core except ``generic``.

    Raises
    ------
    ValueError
        The name is unknown or the size is invalid.
    """

    name: str
    lanes: int = 1
    columns: int = 1
    family: str = "ecp5"

    def __post_init__(self) -> None:
        if self.name not in UNITS:
            raise ValueError(f"unknown unit {self.name!r}; use one of {', '.join(UNITS)}")
        families = [family for family in FAMILIES if family != "generic"]
        if self.family not in families:
            raise ValueError(f"family must be one of {', '.join(families)}, not {self.family!r}")
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
        family = "" if self.family == "ecp5" else f"{self.family}-"
        return f"{family}{self.name.replace(' ', '-')}-{self.lanes}-{self.columns}"

    def verilog(self) -> str:
        """Return the Verilog of the unit, top module ``top``."""
        platform = None if self.name.startswith(_GENERIC) else FAMILIES[self.family][0]
        return UNITS[self.name](self.lanes, self.columns, platform)


def units(names: Iterable[str], lanes: Iterable[int], columns: Iterable[int],
          family: str = "ecp5") -> list[Unit]:
    """Return each named unit in each combination of lanes and columns, without duplicates."""
    return list(dict.fromkeys(
        Unit(name, *((1, 1) if name in _SINGLE else size), family)
        for size in product(lanes, columns) for name in names))


def measure(unit: Unit, folder: Path, seeds: int, frequency: int, advance: Callable) -> dict:
    """Synthesize a unit, place and route it with seeds 1..``seeds``, and return the results.

    Only units for ECP5 can be placed; the other families need ``seeds`` = 0. ``frequency`` is the
    target in MHz. ``advance(count, label)`` is called when ``count`` more of the ``1 + seeds``
    steps are finished and step ``label`` starts.

    Raises :class:`tritstream.hw.tools.synth.SynthError` if a tool is missing or fails.
    """
    folder = folder / unit.folder
    advance(0, str(unit))
    verilog = unit.verilog()
    cells = synthesize(verilog, folder, unit.family)
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


#: LUTs that a cell of a 7-series or UltraScale+ FPGA takes, other than LUT1 to LUT6. Memory and
#: shift registers in LUTs count as the LUTs that they occupy.
_LUTS = {"INV": 1, "SRL16E": 1, "SRLC32E": 1, "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8,
         "RAM64M8": 8}
#: Cells by column of a table, with the number that a cell counts.
_OTHER = {
    "CARRY4":     {"CARRY4": 1, "CARRY8": 2},
    "flip-flops": {"FDRE": 1, "FDSE": 1, "FDCE": 1, "FDPE": 1},
    "RAMB18":     {"RAMB18E1": 1, "RAMB18E2": 1, "RAMB36E1": 2, "RAMB36E2": 2},
    "DSP48":      {"DSP48E1": 1, "DSP48E2": 1},
}
#: Cells that take no resource of their own.
_FREE = ("$scopeinfo", "MUXF7", "MUXF8", "GND", "VCC", "IBUF", "OBUF", "OBUFT", "BUFG",
         "PLLE2_ADV", "PLLE2_BASE")


def synthesized_area(cells: dict[str, int]) -> dict[str, int]:
    """Return LUT, CARRY4, flip-flops, RAMB18 and DSP48 of a netlist for xc7 or xcup.

    Yosys does not merge two small LUTs into one LUT6 with two outputs, so each counts.

    Raises ValueError for a cell whose size is unknown.
    """
    weights = {"LUT": {**{f"LUT{inputs}": 1 for inputs in range(1, 7)}, **_LUTS}, **_OTHER}
    known   = set(_FREE).union(*weights.values())
    if unknown := sorted(set(cells) - known):
        raise ValueError(f"the netlist has cells of unknown size: {', '.join(unknown)}")
    return {column: sum(count * cells.get(cell, 0) for cell, count in kinds.items())
            for column, kinds in weights.items()}
