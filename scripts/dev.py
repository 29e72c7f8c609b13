"""Commands for developers: ``tritstream dev ...``."""

import typer

from tritstream.scripts.assurance.axi_fuzz.command import fuzz as axi_fuzz
from tritstream.scripts.assurance.fuzz.command import fuzz
from tritstream.scripts.assurance.rtl_fuzz.command import fuzz as rtl_fuzz
from tritstream.scripts.assurance.soak.command import soak
from tritstream.scripts.reports import bench, plot
from tritstream.scripts.reports.tables.command import fill_tables

__all__ = ["app"]

app = typer.Typer(help="Commands for developers: search for defects, measure, draw and train.",
                  no_args_is_help=True)
app.command("fuzz")(fuzz)
app.command("rtl-fuzz")(rtl_fuzz)
app.command("axi-fuzz")(axi_fuzz)
app.command("soak")(soak)
app.add_typer(bench.app, name="bench")
app.command("plot")(plot.plot)
app.command("tables")(fill_tables)


#: Settings of commands whose modules are imported when they run, because they need extras.
_LATER = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command("arena", add_help_option=False, context_settings=_LATER)
def arena(context: typer.Context) -> None:
    """Compare quantizers on one base at equal stored bits. Needs the extras torch and gguf."""
    from tritstream.scripts.reports.arena.command import app as compared

    compared(context.args, prog_name="tritstream dev arena")


@app.command("train", add_help_option=False, context_settings=_LATER)
def train(context: typer.Context) -> None:
    """Train, measure, evaluate or capture the shipped model. Needs the extras torch and corpus."""
    from tritstream.scripts.training.train import app as training

    training(context.args, prog_name="tritstream dev train")
