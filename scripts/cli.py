"""The command ``tritstream``."""

import typer

from scripts import (
    bench,
    calibrate,
    evaluate,
    generate,
    hardware,
    importing,
    load,
    pack,
    plot,
    quantize,
    random_model,
    run,
    serve,
    smooth,
    vectors,
)
from scripts.soak.command import soak

__all__ = ["app", "main"]

app = typer.Typer(
    help="Packed balanced-ternary LLM weights, and the accelerator that eats them.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

for command in (run.demo, quantize.quantize, calibrate.calibrate, pack.convert, pack.inspect,
                pack.verify, pack.export, run.run, generate.generate, smooth.smooth,
                random_model.random_model, serve.serve, load.load, load.board, vectors.vectors):
    app.command()(command)
app.command()(soak)
app.command()(plot.plot)
app.command("import")(importing.import_model)
app.command("eval")(evaluate.evaluate)
app.add_typer(hardware.app, name="hw")
app.add_typer(bench.app, name="bench")


def main():
    app()


if __name__ == "__main__":
    main()
