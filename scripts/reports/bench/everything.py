"""Command that runs all measurements, with measured and projected reports apart."""

from pathlib import Path
from typing import Annotated

import typer

from tritstream.golden.model_sizes import QWEN25
from tritstream.scripts.console import print_json, reports_errors, write_json
from tritstream.scripts.hardware.soc import projections, show_projections
from tritstream.scripts.options import Depth, Json
from tritstream.scripts.reports.bench.codec import measure_codec, show_codec
from tritstream.scripts.reports.bench.layout import LANES, check_layout, measure_layout, show_layout
from tritstream.scripts.reports.bench.simulation import measure_simulation, show_simulation

__all__ = ["everything"]


@reports_errors
def everything(
    output: Annotated[Path | None, typer.Option(
        "--output", "-o", help="Write the reports to JSON files in this directory: layout, codec, "
                               "simulation, projected.")] = None,
    check: Annotated[list[str] | None, typer.Option(
        help="Size of Qwen2.5 of which one layer is checked on the RTL. May be repeated.",
        show_default="0.5B")] = None,
    depth: Depth = 3,
    as_json: Json = False,
):
    """Run all measurements except complete checkpoints, in some minutes.

    They are layout, codec and simulation, and separately the projections of boards. To measure a
    complete checkpoint, use `tritstream dev bench quantize MODEL`.
    """
    found = {}
    for name, measure, show in (
        ("layout", lambda: measure_layout(list(QWEN25), depth, LANES, check or ["0.5B"]),
         show_layout),
        ("codec", lambda: measure_codec(depth=depth), show_codec),
        ("simulation", lambda: measure_simulation(depth=depth), show_simulation),
        ("projected", projections, show_projections),
    ):
        found[name] = measure()
        if output:
            write_json(output / f"{name}.json", found[name])
        if not as_json:
            show(found[name])
            print()
    if as_json:
        print_json(found)
    check_layout(found["layout"])
