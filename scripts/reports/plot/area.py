"""Area and speed of a trit-MAC: our units, open peers, and the parts of each."""

from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tritstream.hw.tools.area import Area
from tritstream.scripts.reports.plot.reading import read
from tritstream.scripts.reports.plot.style import COLOURS, GREY, PALE, figure
from tritstream.scripts.reports.tables.comparisons import density

__all__ = ["TITLE", "collect", "draw"]

TITLE = "Area of a trit-MAC, and speed per area, next to open peers"

_REPORTS = Path("hw/reports")
#: Reports that contain our units, each unit once.
_OURS   = ("lanes.json", "wide.json")
_REMEDY = "tritstream hw report --report FILE"
_PEERS  = "git restore hw/reports/peers.json"
_CELLS  = {"MULT18X18D": "multipliers", "DP16KD": "block RAM"}
#: Colour, marker and face by kind.
_KINDS  = {
    "tritstream": ("blue", "o", None),
    "tritstream, multipliers for lanes": ("purple", "s", None),
    "open peer": ("orange", "D", "white"),
}


def collect(root: Path) -> dict:
    """Return rows of units, ordered by the number of parts that they include."""
    folder = root / _REPORTS
    peers  = read(folder / "peers.json", lambda report: {
        "parts": report["parts"], "part": report["part"], "ours": report["ours"],
        "rows": [_peer(peer) for peer in report["peers"]]}, _PEERS)
    ours = []
    for name in _OURS:
        ours += read(folder / name, lambda report: [
            _ours(unit, peers["ours"]) for unit in report["units"] if unit["trit_macs"]], _REMEDY)
    # With equal parts, our units are first.
    rows = sorted(ours + peers["rows"], key=lambda row: (len(row["includes"]), row["includes"]))
    return {"parts": list(peers["parts"]), "part": peers["part"], "rows": rows}


def _ours(unit: dict, includes: dict) -> dict:
    area = Area(unit)
    if area.clocks is None or area.per_mac is None:
        raise ValueError(f"{unit['unit']}: the report has no clock or no trit-MACs; measure it "
                         "again with `tritstream hw report`")
    per_mac = area.per_mac
    kind = list(_KINDS)[unit["unit"].startswith("multiplier")]
    return {
        "name": f"{unit['unit']}, L = {unit['lanes']}", "kind": kind,
        "includes": includes[unit["unit"]], "area": per_mac,
        "rate": [clock / per_mac for clock in area.clocks],
        "cells": {cell: area.cells(cell) for cell in _CELLS}}


def _peer(peer: dict) -> dict:
    area, rate = density(peer)
    change = ", our decoder" if "change" in peer else ""
    name = f"{peer['repository'].split('/')[1]}: {peer['module']}, {peer['parameters']}{change}"
    return {"name": name.replace("tiny-asic-1_58bit-matrix-mul: top", "tiny-asic-1_58bit"),
            "kind": "open peer", "includes": peer["includes"], "area": area, "rate": [rate],
            "cells": {cell: peer["cells"].get(cell, 0) for cell in _CELLS}}


def draw(data: dict) -> Figure:
    """Draw parts, area and speed next to each other."""
    rows  = data["rows"]
    drawn = figure(9.6, 0.7 + 0.3 * len(rows) + 0.55)
    parts, areas, rates = drawn.subplots(1, 3, sharey=True, width_ratios=(1.5, 1.7, 2.1))
    parts.set_ylim(len(rows) - 0.5, -0.5)
    parts.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    _includes(parts, data)
    for place, row in enumerate(rows):
        _point(areas, place, row, [row["area"]], "{:.1f}")
        _point(rates, place, row, row["rate"], "{:.2f}")
    areas.set(xlim=(0, 200), xlabel="COMB per trit-MAC per cycle\n← less is better")
    rates.set(xscale="log", xlim=(0.6, 40), xticks=(1, 2, 5, 10, 20),
              xlabel="G trit-MAC/s per 1000 COMB\nmore is better →")
    rates.set_xticklabels(("1", "2", "5", "10", "20"))
    for axes in (parts, areas, rates):
        _divide(axes, rows)
    for axes in (areas, rates):
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.minorticks_off()
    _legend(drawn, data)
    return drawn


def _includes(axes: Axes, data: dict) -> None:
    """Draw a dot per part of a unit, and the counts of cells that are not logic."""
    names = [*data["parts"], *_CELLS.values()]
    for place, row in enumerate(data["rows"]):
        for column, part in enumerate(data["parts"]):
            has = part in row["includes"]
            axes.plot(column, place, marker="o", markersize=6 if has else 2.5,
                      color=COLOURS["black"] if has else GREY)
        for column, cell in enumerate(_CELLS, len(data["parts"])):
            axes.text(column, place, str(row["cells"][cell]), ha="center", va="center", fontsize=8)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xticks(range(len(names)), names, fontsize=7.5, rotation=90)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _point(axes: Axes, place: int, row: dict, values: list[float], form: str) -> None:
    """Draw the median of the values, their range, and its number."""
    colour, marker, face = _KINDS[row["kind"]]
    middle = values[len(values) // 2]
    axes.plot((values[0], values[-1]), (place, place), color=COLOURS[colour], linewidth=2)
    axes.plot(middle, place, marker=marker, markersize=6, color=COLOURS[colour],
              markerfacecolor=face or COLOURS[colour], linestyle="none")
    axes.annotate(form.format(middle), (values[-1], place), (7, 0), textcoords="offset points",
                  va="center", fontsize=8)


def _divide(axes: Axes, rows: list[dict]) -> None:
    """Draw lines between groups of units with equal parts."""
    place = 0
    for _, same in groupby(rows, key=lambda row: row["includes"]):
        place += len(list(same))
        axes.axhline(place - 0.5, color=PALE if place < len(rows) else "none", linewidth=1)


def _legend(drawn: Figure, data: dict) -> None:
    handles = [
        drawn.axes[1].plot([], [], linestyle="none", marker=marker, color=COLOURS[colour],
                           markerfacecolor=face or COLOURS[colour], label=label)[0]
        for label, (colour, marker, face) in _KINDS.items()]
    drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles),
                 title=f"{data['part']}, placed and routed out of context; COMB: TRELLIS_COMB; "
                       "bars: lowest to highest of several seeds", title_fontsize=8)
