"""Command ``tritstream``."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from tritstream.scripts import dev
from tritstream.scripts.assurance import vectors
from tritstream.scripts.evaluation import command as evaluate
from tritstream.scripts.hardware import commands as hardware
from tritstream.scripts.running import board as load
from tritstream.scripts.running import chat, generate, plan, run, serve, share_device, top
from tritstream.scripts.streams import harden
from tritstream.scripts.weights import (
    calibrate,
    importing,
    quantize,
    random_model,
    reconstruct,
    smooth,
)
from tritstream.scripts.weights import (
    checkpoints as pack,
)

__all__ = ["app", "main"]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tritstream {version('tritstream')}")
        raise typer.Exit


app = typer.Typer(
    help="Pack LLM weights in balanced ternary, and run them on the tritstream accelerator. Exit "
         "codes: 0 success; 1 the command failed, or the check it performs found a problem; "
         "2 invalid arguments; 130 interrupted; 141 the reader of the output closed it.",
    no_args_is_help=True, pretty_exceptions_enable=False)

#: Commands by panel, in the order of the help.
_PANELS = {
    "Start": {"demo": run.demo},
    "Weights": {
        "quantize": quantize.quantize, "calibrate": calibrate.calibrate,
        "reconstruct": reconstruct.reconstruct, "smooth": smooth.smooth,
        "import": importing.import_model, "convert": pack.convert, "export": pack.export,
        "inspect": pack.inspect, "verify": pack.verify,
        "random-model": random_model.random_model,
    },
    "Running": {
        "run": run.run, "generate": generate.generate, "chat": chat.chat,
        "serve": serve.serve, "eval": evaluate.evaluate,
        "share-device": share_device.share_device, "top": top.top, "plan": plan.plan,
        "load": load.load, "board": load.board,
    },
    "Hardware": {"vectors": vectors.vectors},
}

for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(hardware.app, name="hw", rich_help_panel="Hardware")
app.add_typer(dev.app, name="dev", rich_help_panel="Development")


@app.callback()
def common(
    _version: Annotated[bool, typer.Option(
        "--version", is_eager=True, callback=_print_version, help="Print the version.")] = False,
) -> None:
    """Options before the name of the command."""


def main() -> None:
    """Run the command that this process's arguments name."""
    harden()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as error:                        # of the output of help and version
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
