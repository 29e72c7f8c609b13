"""Commands ``tritstream hw``, and the one that measures area and clock."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from tritstream.hw.tools.area import DEFAULT_UNITS, measure, rtl_digest, units
from tritstream.hw.tools.synth import PART, tool_versions
from tritstream.scripts.console import (
    print_json,
    progress,
    reports_errors,
    table,
    write_json,
)
from tritstream.scripts.hardware import axi, bandwidth, boards, core, link_speed, soc
from tritstream.scripts.hardware.area_table import AREA_COLUMNS, area_rows
from tritstream.scripts.options import ColumnCounts, Json, LaneCounts

__all__ = ["app"]

_LANES, _COLUMNS, _UNITS = [8], [1], list(DEFAULT_UNITS)

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
    seeds: Annotated[int, typer.Option(
        min=1, metavar="N", help="Place and route with the seeds 1 to N.")] = 3,
    frequency: Annotated[int, typer.Option(
        min=1, help="Clock in MHz that place and route tries to reach.")] = 150,
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
    chosen = units(unit, lanes, columns)
    with progress("measuring", len(chosen) * (1 + seeds)) as advance, \
            ThreadPoolExecutor(jobs) as pool:
        measured = list(pool.map(
            lambda one: measure(one, output, seeds, frequency, advance), chosen))
    options = {"lanes": lanes, "columns": columns, "unit": unit if unit != _UNITS else [],
               "seeds": [seeds], "frequency": [frequency]}
    plain = {"command": _command(options), "part": PART, "frequency_mhz": frequency,
             "tools": tool_versions(), "rtl": rtl_digest(measured), "units": measured}
    path = report or output / "report.json"
    write_json(path, plain)
    if as_json:
        print_json(plain)
        return
    table("", AREA_COLUMNS, area_rows(measured))
    print(f"\nreport: {path}")


def _command(options):
    words = (f"--{name} '{value}'" if " " in str(value) else f"--{name} {value}"
             for name, values in options.items() for value in values)
    return " ".join(["tritstream hw report", *words])
