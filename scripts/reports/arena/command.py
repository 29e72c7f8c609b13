"""Commands ``tritstream dev arena``. They need the extras gguf, torch and corpus."""

import typer

from tritstream.scripts.reports.arena import base, run, texts

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def several():
    """Compare quantizers on one base and the same texts: make both, measure, show."""


app.command("base")(base.base)
app.command("texts")(texts.texts)
app.command("run")(run.run)
