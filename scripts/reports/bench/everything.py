"""The command that measures all: each report on its own, measured and projected ones apart."""

from pathlib import Path
from typing import Annotated

import typer

from tritstream.golden.model_sizes import QWEN25
from tritstream.scripts.console import print_json, reports_errors, write_json
from tritstream.scripts.hardware.soc import projections, show_projections
from tritstream.scripts.reports.bench.codec import measure_codec, show_codec
from tritstream.scripts.reports.bench.layout import LANES, check_layout, measure_layout, show_layout
from tritstream.scripts.reports.bench.simulation import measure_simulation, show_simulation

__all__ = ["everything"]


@reports_errors
def everything(
    output: Annotated[Path | None, typer.Option(
        "--output", "-o", help="Directory for JSON: layout, codec, simulation, projected.")] = None,
    check: Annotated[list[str] | None, typer.Option(
        help="Size of Qwen2.5 of which a layer is checked on the RTL, 0.5B if none is given; may "
             "be repeated.")] = None,
    depth: Annotated[int, typer.Option("--depth", "-d", help="Trits a weight, 1..4.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
):
    """All measurements but whole checkpoints: layout, codec, simulation, boards; some minutes.

    What boards could do is projected, and stands apart. `tritstream dev bench quantize MODEL` packs a
    whole checkpoint.
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
