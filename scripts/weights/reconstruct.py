"""The command reconstruct, which tunes quantized matrices layer by layer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritstream.golden.checkpoints.choice import Selection
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.fixed_point import half_range
from tritstream.golden.layer_job import ReconstructionJob
from tritstream.golden.open_source import open_source
from tritstream.golden.quantizers.moments import Moments
from tritstream.scripts.console import console, print_json, progress, reports_errors
from tritstream.scripts.corpus import read_text
from tritstream.scripts.options import Depth, Exclude, Force, Json, Model, TorchDevice
from tritstream.scripts.streams import storable
from tritstream.scripts.weights.architecture import architecture_of
from tritstream.scripts.weights.linear_layers import linear_layers
from tritstream.scripts.weights.token_windows import WINDOW, text_windows

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from torch import Tensor

__all__ = ["reconstruct"]


@reports_errors
def reconstruct(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Reconstruction file to write.")],
    text: Annotated[Path, typer.Option(
        help="Plain text in UTF-8, of the kind that the model will read.")],
    calibration: Annotated[Path, typer.Option(
        metavar="FILE", help="Calibration file of `tritstream calibrate`.")],
    depth: Depth = 2,
    tokens: Annotated[int, typer.Option(
        help="Number of tokens to read, spread over the text.")] = 8192,
    epochs: Annotated[int, typer.Option(
        min=1, help="Passes over the tokens per layer.")] = 8,
    exclude: Exclude = None,
    torch_device: TorchDevice = None,
    force: Force = False,
    as_json: Json = False,
):
    """Tune quantized matrices by gradient, such that each layer's results change least.

    For `quantize --calibration OUTPUT` at the same depth. One layer is in
    memory. Resumes at a layer after an interruption.
    """
    half_range(depth)
    source, moments = open_source(model), Moments(calibration)
    choice = source.choose(Selection(exclude=exclude or [],
                                     architecture=architecture_of(source).architecture))
    windows = _windows(model, text, tokens)
    made_of = {"reconstruction": storable(text.name), "text_sha256": read_text(text).sha256,
               "tokens": sum(map(len, windows)), "epochs": epochs, "depth": depth,
               "calibration_sha256": moments.sha256}
    depths = dict.fromkeys(choice.matrices, depth)
    _write(source, output, windows, moments, depths, made_of, torch_device, force)
    report = {"output": str(output), "matrices": len(depths), **made_of}
    if as_json:
        print_json(report)
    else:
        print(f"{len(depths)} matrices at d = {depth}, tuned on {made_of['tokens']} tokens of "
              f"{made_of['reconstruction']}: {output}")


def _write(
    source: Source, output: Path, windows: "Sequence[Tensor]", moments: Moments,
    depths: Mapping[str, int], made_of: Mapping, torch_device: str | None, force: bool,
) -> None:
    from tritstream.host.model.layer_steps import choose_device
    from tritstream.host.model.layered import LayeredModel
    from tritstream.host.model.reconstruction import LayerReconstruction, Tuning

    device = choose_device(torch_device)
    with ReconstructionJob(output, _parameters(source, depths, made_of, device.type),
                           force=force) as job:
        if job.finished:
            return
        model = LayeredModel(source, device)
        layers = linear_layers(source, model.model)
        run = LayerReconstruction(
            model, {name: layers[name] for name in depths}, depths, moments, windows, job, made_of,
            tuning=Tuning(made_of["epochs"]))
        console.print(f"reconstructing: {run.done} of {run.total} windows of all steps are "
                      f"finished; {job.partial} is kept for a restart", markup=False,
                      soft_wrap=True)
        with progress("reconstructing", run.total, start=run.done) as advance:
            run.run(advance)


def _parameters(
    source: Source, depths: Mapping[str, int], made_of: Mapping, device: str,
) -> dict[str, str]:
    """Return all that determines the bytes of the file, in words for an error message."""
    files = hashlib.sha256(json.dumps(source.fingerprint(), sort_keys=True).encode())
    return {"model": f"{source.path.resolve().name}, files {files.hexdigest()[:16]}",
            **{name: str(value) for name, value in made_of.items()},
            "matrices": f"{len(depths)}, {hashlib.sha256(' '.join(depths).encode()).hexdigest()}",
            "device of torch": device, "version of torch": version("torch")}


def _windows(model: Path, text: Path, tokens: int) -> "list[Tensor]":
    """Return windows of token ids, spread evenly over the text."""
    windows = text_windows(model, text)
    count = min(max(1, tokens // WINDOW), len(windows))
    return [windows[index * len(windows) // count] for index in range(count)]
