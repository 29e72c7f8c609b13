"""Commands on the hardware itself: Verilog, area and clock."""

import json
from pathlib import Path
from typing import Annotated

import typer

from hw.synth import UNITS, synthesize, tool_versions
from scripts import boards, core
from scripts.console import print_json, progress, reports_errors, table, write_text

__all__ = ["app"]

app = typer.Typer(help="The hardware: Verilog, area, clock, boards.", no_args_is_help=True)
app.command()(core.verilog)
app.command()(core.testbench)
for name, command in (("list", boards.list_boards), ("build", boards.build),
                      ("program", boards.program), ("selftest", boards.selftest_command)):
    app.command(name)(command)

#: Units whose placement tells something; the others are too small.
_PLACED = ("array", "array with scaling", "device")


@app.command()
@reports_errors
def report(
    lanes: Annotated[int, typer.Option(help="Lanes: 1, 2, 4, .., 64.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of place and route.")] = 1,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where tools work and the "
                                         "report goes.")] = Path("build/synth"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
):
    """Area and clock of decoder, lane, array and device on ECP5-85F, speed grade 6."""
    reports = []
    with progress("synthesizing", len(UNITS)) as advance:
        for unit in UNITS:
            place = seed if unit in _PLACED else None
            reports.append(synthesize(unit, lanes, output / unit.replace(" ", "-"), place))
            advance(1, unit)
    plain = {"tools": tool_versions(), "command": f"tritstream hw report --lanes {lanes} "
             f"--seed {seed}", "units": [unit.as_dict() for unit in reports]}
    write_text(output / "report.json", json.dumps(plain, indent=2))
    if as_json:
        print_json(plain)
        return
    _show(reports)
    print(f"\nreport: {output / 'report.json'}")


def _show(reports):
    names = list(reports[0].cells)
    rows = []
    for unit in reports:
        placed = unit.placed or {}
        comb = placed.get("comb")
        rows.append([
            unit.unit, str(unit.lanes), *(str(unit.cells[name]) for name in names),
            str(comb or "-"), f"{comb / unit.trit_macs:.1f}" if comb else "-",
            str(placed.get("fmax_mhz", "-")),
        ])
    table("", ["unit", "L", *names, "TRELLIS_COMB", "per trit-MAC", "Fmax MHz"], rows)
