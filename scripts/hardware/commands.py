"""Commands ``tritstream hw``, and the one that measures area and clock."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from tritstream.hw.tools.area import DEFAULT_UNITS, measure, rtl_digest, units
from tritstream.hw.tools.synth import PART, tool_versions
from tritstream.scripts.console import (
    Failure,
    print_json,
    progress,
    reports_errors,
    table,
    write_json,
)
from tritstream.scripts.hardware import axi, bandwidth, boards, core, link_speed, soc
from tritstream.scripts.hardware.area_table import COUNTS, report_table
from tritstream.scripts.options import ColumnCounts, Json, LaneCounts

__all__ = ["app"]

_LANES, _COLUMNS, _UNITS = [8], [1], list(DEFAULT_UNITS)
_SEEDS, _MEGAHERTZ = 3, 150

app = typer.Typer(help="Export Verilog, measure area and clock, build and test boards.",
                  no_args_is_help=True)
app.command()(core.verilog)
app.command()(core.testbench)
app.command()(axi.axi)
for name, command in (("list", boards.list_boards), ("build", boards.build),
                      ("program", boards.program), ("selftest", boards.selftest_command)):
    app.command(name)(command)
app.command()(bandwidth.bandwidth)
app.command("link")(link_speed.link)
app.command("soc")(soc.build_soc_command)
app.command("project")(soc.project_command)


@app.command()
@reports_errors
def report(
    lanes: LaneCounts = _LANES,
    columns: ColumnCounts = _COLUMNS,
    unit: Annotated[list[str], typer.Option(help="Unit to measure. May be repeated.")] = _UNITS,
    family: Annotated[str, typer.Option(
        help="FPGA family: ecp5, xc7 (AMD 7-series) or xcup (UltraScale+). The units for AMD are "
             "only synthesized, by Yosys, so that no clock is measured.")] = "ecp5",
    seeds: Annotated[int | None, typer.Option(
        min=1, metavar="N", help="Place and route with the seeds 1 to N.",
        show_default=str(_SEEDS))] = None,
    frequency: Annotated[int | None, typer.Option(
        min=1, help="Clock in MHz that place and route tries to reach.",
        show_default=str(_MEGAHERTZ))] = None,
    jobs: Annotated[int, typer.Option(
        min=1, help="Number of units that are measured at the same time.")] = 1,
    output: Annotated[Path, typer.Option(
        "--output", "-o", help="Work directory of the tools. Results of an earlier run from the "
                               "same netlist are reused.")] = Path("build/synth"),
    report: Annotated[Path | None, typer.Option(
        help="Write the report to this JSON file.", show_default="OUTPUT/report.json")] = None,
    as_json: Json = False,
):
    """Measure area and clock of units on ECP5 by place and route, in some minutes.

    The units are the decoder, a lane, the array of lanes, the scale unit and the complete device.
    """
    chosen = units(unit, lanes, columns, family)
    placed = family == "ecp5"
    if not placed and (seeds or frequency):
        raise Failure(f"--seeds and --frequency are for place and route, and units for {family} "
                      "are only synthesized: leave them out")
    seeds, frequency = (seeds or _SEEDS, frequency or _MEGAHERTZ) if placed else (0, 0)
    with progress("measuring", len(chosen) * (1 + seeds)) as advance, \
            ThreadPoolExecutor(jobs) as pool:
        measured = list(pool.map(
            lambda one: measure(one, output, seeds, frequency, advance), chosen))
    options = {"lanes": lanes, "columns": columns, "unit": unit if unit != _UNITS else []}
    if placed:
        options |= {"seeds": [seeds], "frequency": [frequency]}
        target   = {"part": PART, "frequency_mhz": frequency}
    else:
        options |= {"family": [family]}
        target   = {"family": family, "counts": COUNTS}
    plain = {"command": _command(options), **target, "tools": tool_versions(family),
             "rtl": rtl_digest(measured), "units": measured}
    path = report or output / "report.json"
    write_json(path, plain)
    if as_json:
        print_json(plain)
        return
    table("", *report_table(plain))
    if not placed:
        print(f"\n{COUNTS}")
    print(f"\nreport: {path}")


def _command(options):
    words = (f"--{name} '{value}'" if " " in str(value) else f"--{name} {value}"
             for name, values in options.items() for value in values)
    return " ".join(["tritstream hw report", *words])
