"""Commands on the hardware itself: Verilog, area and clock."""

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
from tritstream.scripts.hardware import bandwidth, boards, core, link_speed, soc
from tritstream.scripts.hardware.area_table import AREA_COLUMNS, area_rows

__all__ = ["app"]

app = typer.Typer(help="The hardware: Verilog, area, clock, boards.", no_args_is_help=True)
app.command()(core.verilog)
app.command()(core.testbench)
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
    lanes: Annotated[list[int], typer.Option(help="Lanes: 1, 2, 4, .., 64; may be repeated.")] =
        (8,),
    columns: Annotated[list[int], typer.Option(help="Vectors taken in one pass; may be "
                                               "repeated.")] = (1,),
    unit: Annotated[list[str], typer.Option(help="Units to measure; may be repeated.")] =
        DEFAULT_UNITS,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of place and route: 1 to this.")] = 3,
    frequency: Annotated[int, typer.Option(min=1, help="MHz asked of place and route.")] = 150,
    jobs: Annotated[int, typer.Option(min=1, help="Units measured at a time.")] = 1,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the tools work; what is "
                                         "there from the same netlist is used.")] =
        Path("build/synth"),
    report: Annotated[Path | None, typer.Option(help="Write the JSON report there; "
                                                "OUTPUT/report.json if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
):
    """Area and clock on ECP5, placed and routed: decoder, lane, array, scaling, device; minutes."""
    chosen = units(unit, lanes, columns)
    with progress("measuring", len(chosen) * (1 + seeds)) as advance, \
            ThreadPoolExecutor(jobs) as pool:
        measured = list(pool.map(
            lambda one: measure(one, output, seeds, frequency, advance), chosen))
    options = {"lanes": lanes, "columns": columns,
               "unit": unit if unit != list(DEFAULT_UNITS) else [],
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
