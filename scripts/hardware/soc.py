"""Commands for boards with memory: build a bitstream, project the speed of models."""

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from tritstream.golden.jobs.replacing import check_work_folder
from tritstream.host.layout.projection import MODELS, Projection, project
from tritstream.host.layout.shapes import SHAPES, ModelShape, WeightForm, model_shape
from tritstream.hw.tools.synth import SynthError
from tritstream.scripts.console import print_json, progress, reports_errors, table, write_json
from tritstream.scripts.options import Json, MemoryClock, PlaceSeed, PlaceSeeds, Report

__all__ = ["PROJECTED", "build_soc_command", "link_seconds", "memories", "project_command",
           "projections", "show_projections"]

#: Reports of `hw bandwidth --report`, `hw link --report` and `hw soc --report`.
REPORTS = Path(__file__).parents[2] / "hw" / "soc" / "reports"
#: Boards by name: name of the bandwidth report, size of the memory in bytes, and kind of link
#: (None is a UART).
PROJECTED = {
    "ULX3S-85F, 32 MB":       ("mt48lc16m16", 32 << 20, None),
    "ULX3S-85F, 64 MB":       ("as4c32m16", 64 << 20, None),
    "OrangeCrab-25F, 128 MB": ("mt41k64m16", 128 << 20, None),
    "ECPIX-5 85F, 512 MB":    ("mt41k256m16-layer", 512 << 20, "ethernet"),
}
#: Seconds per 32-bit word over a UART of 3 Mbaud, with ten bit times per byte.
_UART_SECONDS = 40 / 3e6


@reports_errors
def build_soc_command(
    board: Annotated[str, typer.Argument(
        help="Name of the board: ulx3s-85f, ecpix5-85, orangecrab-25f or colorlight-i5.")],
    clock: MemoryClock = None,
    seed: PlaceSeed = 1,
    seeds: PlaceSeeds = None,
    output: Annotated[Path | None, typer.Option(
        "--output", "-o", help="Work directory of the tools.",
        show_default="build/soc/BOARD")] = None,
    report: Report = None,
    as_json: Json = False,
):
    """Build the bitstream of a board with memory, with LiteX and tools from pip, in ten minutes."""
    try:
        from tritstream.hw.soc.build import STEPS, build_board
    except ModuleNotFoundError as error:
        raise SynthError(f"{error.name} is missing: pip install 'tritstream[litex]'") from None
    folder = output or Path("build/soc") / board
    check_work_folder(folder, ["build.json", "top.ys"])
    with progress(f"building {board}", STEPS) as advance:
        built = build_board(board, folder, advance, round(clock * 1e6) if clock else None,
                            seed, seeds or 0)
    built["command"] = " ".join(["tritstream hw soc", board, *(
        [f"--clock {clock:g}"] if clock else []), *([f"--seed {seed}"] if seed != 1 else []), *(
        [f"--seeds {seeds}"] if seeds else [])])
    if report:
        write_json(report, built)
    if as_json:
        print_json(built)
        return
    for name, met in built["clocks"].items():
        reached = ", ".join(f"{clocks[name]:g}" for clocks in built["reached"].values())
        print(f"{name:<18} {reached} MHz reached, {met['constraint']:g} wanted")
    for cell, (used, available) in built["cells"].items():
        print(f"{cell:<18} {used:>6} of {available}")
    print(f"bitstream          {folder / 'top.bit'}, {built['bitstream']['bytes']} bytes")


@reports_errors
def project_command(
    models: Annotated[list[str] | None, typer.Argument(
        help=f"Models, as they are published: {', '.join(SHAPES)}.",
        show_default="all Qwen2.5 at all depths, where they fit")] = None,
    rate: Annotated[list[float] | None, typer.Option(
        help="Also project a memory of this many GB per second with room for the model. May be "
             "repeated.")] = None,
    report: Report = None,
    as_json: Json = False,
):
    """Project the speed of models on boards with memory from simulated bandwidth; not measured."""
    if any(not one > 0 for one in rate or []):
        raise ValueError("--rate must be above 0")
    chosen = [model_shape(name) for name in models or []]
    found = [*projections(models=chosen or None), *memories(chosen, rate or [])]
    if report:
        write_json(report, found)
    if as_json:
        print_json(found)
    else:
        show_projections(found)


def show_projections(found: list[dict]) -> None:
    """Print a table of projections."""
    print("PROJECTED from simulated bandwidth and the clock that place and route reached; no board "
          "has run this. The roofline is the memory's peak over the bytes of the layers.")
    table("", COLUMNS, [row(one) for one in found])


COLUMNS = ["board", "MB/s to lanes", "model", "d", "layers, MB", "head, MB", "layers, s", "link, s",
           "roofline, tokens/s", "tokens/s, head on host", "tokens/s, head on board"]


def projections(reports: Path = REPORTS, models: list[ModelShape] | None = None) -> list[dict]:
    """Return a projection per board and model, for the models that fit the board.

    Without ``models``, they are :data:`.MODELS` at each depth.
    """
    found = []
    for board, (memory, size, link) in PROJECTED.items():
        measured = json.loads((reports / "bandwidth" / f"{memory}.json").read_text())
        write, read = link_seconds(link, measured, reports)
        for model in _all_depths() if models is None else models:
            one = project(model, measured["lanes"], size, measured["mb_s"] * 1e6, write, read)
            if one.fits:
                found.append(_named(board, model, measured["mb_s"], measured["peak_mb_s"], one))
    return found


def memories(models: list[ModelShape], rates: list[float], lanes: int = 16) -> list[dict]:
    """Return a projection per model and rate in GB/s, for a memory that is read without gaps."""
    return [_named(f"memory of {rate:g} GB/s", model, 1e3 * rate, 1e3 * rate,
                   project(model, lanes, math.inf, 1e9 * rate))
            for rate in rates for model in models]


def _all_depths() -> list[ModelShape]:
    return [model.in_form(WeightForm(depth)) for model in MODELS.values() for depth in range(1, 5)]


def _named(board: str, model: ModelShape, rate: float, peak: float, one: Projection) -> dict:
    return {"board": board, "mb_s": rate, "model": model.name, "depth": model.form.depth,
            "peak_mb_s": peak, "roofline": peak * 1e6 / one.layers, **_plain(one)}


def link_seconds(link: str | None, measured: dict, reports: Path) -> tuple[float, float]:
    """Return the seconds per 32-bit word to the memory of a board, and from it."""
    if not link:
        return _UART_SECONDS, _UART_SECONDS
    cycles = json.loads((reports / "link.json").read_text())
    return tuple(cycles[way] / (measured["clock_mhz"] * 1e6)
                 for way in ("write_cycles", "read_cycles"))


def _plain(one: Projection) -> dict:
    return {
        "layer_bytes": one.layers, "head_bytes": one.head, "head_fits": one.fits_with_head,
        "seconds": one.seconds, "link_seconds": one.link_seconds, "tokens": one.tokens,
        "tokens_with_head": one.tokens_with_head if one.fits_with_head else None,
    }


def row(one: dict) -> list[str]:
    """Return a projection as a row of :data:`COLUMNS`."""
    with_head = one["tokens_with_head"]
    return [one["board"], f"{one['mb_s']:.0f}", one["model"], str(one["depth"]),
            f"{one['layer_bytes'] / 1e6:.1f}", f"{one['head_bytes'] / 1e6:.1f}",
            f"{one['seconds']:.3f}", f"{one['link_seconds']:.3f}", f"{one['roofline']:.2f}",
            f"{one['tokens']:.2f}",
            f"{with_head:.2f}" if with_head else "does not fit"]
