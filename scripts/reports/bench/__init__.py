"""Commands ``tritstream dev bench``: each measures one thing, prints a table and writes JSON.

To add one, write a module with a command, and register it here.
"""

import typer

from tritstream.scripts.reports.bench import (
    axi,
    backends,
    codec,
    everything,
    groups,
    host_path,
    importing,
    layout,
    methods,
    quantize,
    simulation,
)
from tritstream.scripts.reports.bench.token.command import token

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def several():
    """Measure the tools; print tables, or JSON with the command line and the machine."""


app.command("backends")(backends.backends)
app.command("groups")(groups.groups)
app.command("quantize")(quantize.quantize)
app.command("import")(importing.import_made)
app.command("methods")(methods.methods)
app.command("layout")(layout.layout)
app.command("codec")(codec.codec)
app.command("host-path")(host_path.host_path)
app.command("simulation")(simulation.simulation)
app.command("token")(token)
app.command("axi")(axi.axi)
app.command("all")(everything.everything)
