"""Command that runs all measurements, with measured and projected reports apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from tritstream.golden.model_sizes import QWEN25
from tritstream.scripts.console import print_json, reports_errors, write_json
from tritstream.scripts.hardware.soc import projections, show_projections
from tritstream.scripts.options import Depth, Json
from tritstream.scripts.reports.bench.codec import measure_codec, show_codec
from tritstream.scripts.reports.bench.forms import formed
from tritstream.scripts.reports.bench.layout import LANES, check_layout, measure_layout, show_layout
from tritstream.scripts.reports.bench.simulation import measure_simulation, show_simulation

__all__ = ["everything"]

R = TypeVar("R")


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
    found: dict[str, object] = {}

    def report(name: str, measured: R, show: Callable[[R], None]) -> R:
        found[name] = measured
        if output:
            write_json(output / f"{name}.json", measured)
        if not as_json:
            show(measured)
            print()
        return measured

    models, checked = ([formed(size, depth) for size in sizes]
                       for sizes in (QWEN25, check or ["0.5B"]))
    words = report("layout", measure_layout(models, LANES, checked), show_layout)
    report("codec", measure_codec(depth=depth), show_codec)
    report("simulation", measure_simulation(depth=depth), show_simulation)
    report("projected", projections(), show_projections)
    if as_json:
        print_json(found)
    check_layout(words)
