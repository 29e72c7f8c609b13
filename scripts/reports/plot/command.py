"""Command that draws pictures from the reports in the repository."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from tritstream.golden.write_errors import writing
from tritstream.scripts.console import Failure, progress, reports_errors
from tritstream.scripts.options import Output

__all__ = ["FORMATS", "PICTURES", "plot"]

#: Modules of this package, one per picture.
PICTURES = ("area", "divergence", "arena", "roofline", "efficiency", "waveform")
FORMATS  = ("svg", "png")

#: Where the reports are.
_ROOT = Path(__file__).parents[3]


@reports_errors
def plot(
    names: Annotated[list[str] | None, typer.Argument(
        help=f"Pictures to draw: {', '.join(PICTURES)}.", show_default="all")] = None,
    output: Output = Path("build/plot"),
    form: Annotated[str, typer.Option(
        "--format", help=f"File format: {' or '.join(FORMATS)}.")] = "svg",
):
    """Draw pictures from the reports in the repository, and a waveform from a new simulation."""
    chosen = list(dict.fromkeys(names or PICTURES))
    for name in chosen:
        if name not in PICTURES:
            raise ValueError(f"there is no picture {name!r}, but {', '.join(PICTURES)}")
    if form not in FORMATS:
        raise ValueError(f"--format must be {' or '.join(FORMATS)}, not {form!r}")
    if not find_spec("matplotlib"):
        raise Failure("matplotlib is missing: pip install 'tritstream[plot]'")
    with writing(output / f"{chosen[0]}.{form}"):
        output.mkdir(parents=True, exist_ok=True)
    with progress("drawing", len(chosen)) as advance:
        for name in chosen:
            advance(0, name)
            path = output / f"{name}.{form}"
            _draw(name, path)
            advance(1)
            print(path)


def _draw(name: str, path: Path) -> None:
    """Collect, draw and write one picture."""
    # Matplotlib is an extra, and takes a second to import.
    style   = import_module("tritstream.scripts.reports.plot.style")
    picture = import_module(f"tritstream.scripts.reports.plot.{name}")
    data    = picture.collect(_ROOT)
    with style.styled():
        style.save(picture.draw(data), path, picture.TITLE, data)
