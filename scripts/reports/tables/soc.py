"""Tables of docs/soc.md: bandwidth, bitstreams, link, projections."""

import json
from pathlib import Path

from tritstream.scripts.hardware.soc import COLUMNS, projections, row

__all__ = ["TABLES"]

_BANDWIDTH = ["`tritstream hw bandwidth`", "MHz", "peak MB/s", "rows, all equal", "share in GEMV",
              "share of list", "MB/s", "refresh %", "rows %", "writes, turns %", "arbitration %",
              "no address %"]
_BUILDS = ["name", "board", "L", "max K", "clock: required MHz", "achieved, by seed",
           "TRELLIS_COMB", "flip-flops", "DP16KD", "MULT18X18D", "bitstream, bytes", "link",
           "build"]


def _bandwidth(path: Path) -> tuple[list[str], list[list[str]]]:
    return _BANDWIDTH, [_bandwidth_row(report) for report in _reports(path)]


def _bandwidth_row(report):
    causes = {name: 100 * share for name, share in report["causes"].items()}
    if report["mismatches"] or report["violations"]:
        raise ValueError(f"{report['command']}: the report is of a run that failed")
    options = report["command"].removeprefix("tritstream hw bandwidth").strip()
    return [f"`{options}`" if options else "no option", f"{report['clock_mhz']:.1f}",
            f"{report['peak_mb_s']:.0f}", str(report["rows"]), f"{report['gemv_share']:.4f}",
            f"{report['list_share']:.4f}", f"{report['mb_s']:.1f}", f"{causes['refresh']:.2f}",
            f"{causes['row']:.2f}", f"{causes['write'] + causes['turn']:.2f}",
            f"{causes['arbitration']:.2f}", f"{causes['no_address']:.2f}"]


def _builds(path: Path) -> tuple[list[str], list[list[str]]]:
    return _BUILDS, [_build_row(report) for report in _reports(path)]


def _build_row(report):
    device = report["device"]
    # The names of clocks come from place and route.
    name = min(report["clocks"], key=lambda one: abs(
        report["clocks"][one]["constraint"] - device["clock_hz"] / 1e6))
    reached = ", ".join(f"{clocks[name]:.1f}" for _, clocks in sorted(report["reached"].items()))
    cells = [" of ".join(map(str, report["cells"].get(cell, ["-"]))) for cell in (
        "TRELLIS_COMB", "TRELLIS_FF", "DP16KD", "MULT18X18D")]
    bitstream = str(report["bitstream"]["bytes"]) if "bitstream" in report else "none"
    return [f"`{report['board']}`", report["title"], str(device["lanes"]), str(device["max_k"]),
            f"{report['clocks'][name]['constraint']:.1f}", reached, *cells, bitstream,
            report["link"], f"{device['build_id']:08x}"]


def _link(path: Path) -> tuple[list[str], list[list[str]]]:
    found = json.loads(path.read_text())
    return ["`tritstream hw link`", "cycles per word", "MB/s"], [
        [what, f"{found[f'{way}_cycles']:.2f}", f"{found[f'{way}_mb_s']:.1f}"]
        for what, way in (("to memory", "write"), ("from memory", "read"))]


def _projection(path: Path) -> tuple[list[str], list[list[str]]]:
    return COLUMNS, [row(one) for one in projections(path.parent)]


def _reports(path):
    return [json.loads(file.read_text()) for file in sorted(path.glob("*.json"))]


#: Functions that make columns and rows, by the last part of the path in the page.
TABLES = {"bandwidth": _bandwidth, "builds": _builds, "projection": _projection,
          "link.json": _link}
