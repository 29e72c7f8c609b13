"""The command calibrate, and calibration files that the command quantize creates and keeps."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritstream.golden.cache_entry import find_entry, keep_entry
from tritstream.golden.calibration_job import CalibrationJob
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.open_source import open_source
from tritstream.golden.quantizers.moments import BLOCK, Moments
from tritstream.scripts.console import console, print_json, progress, reports_errors
from tritstream.scripts.options import Force, Json, Model, TorchDevice
from tritstream.scripts.weights.calibrate_layers import layer_by_layer, write_layer_by_layer
from tritstream.scripts.weights.calibration_texts import (
    SELF,
    CalibrationText,
    calibration_texts,
    read_windows,
    warn_of_few,
)
from tritstream.scripts.weights.linear_layers import linear_layers
from tritstream.scripts.weights.token_windows import WINDOW

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from transformers import PreTrainedModel

__all__ = ["TOKENS", "calibrate", "moments_file"]

#: Default number of tokens to read.
TOKENS = 16384

#: Directory of the calibration files that the command quantize creates.
_KEPT = Path("build/calibration")


@reports_errors
def calibrate(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Calibration file to write.")],
    text: Annotated[list[str] | None, typer.Option(
        help="Plain text in UTF-8, of the kind that the model will read, `self` for text that the "
             "model writes, or `random` for random tokens only. May be repeated: each gets an "
             "equal share of the tokens.", show_default=SELF)] = None,
    tokens: Annotated[int, typer.Option(
        help="Number of tokens to read in all, spread over each text.")] = TOKENS,
    random: Annotated[bool, typer.Option(
        help="Read random tokens of the vocabulary, too, as many as of each text: the calibration "
             "then holds for other kinds of text as well.")] = True,
    by_layer: Annotated[bool | None, typer.Option(
        "--by-layer/--whole-model", help="Load one layer at a time from the disk, or the complete "
        "model. The statistics are the same.",
        show_default="--by-layer if the complete model needs more than the memory")] = None,
    torch_device: TorchDevice = None,
    force: Force = False,
    as_json: Json = False,
):
    """Measure on a text which errors of weights matter, for `quantize --calibration`.

    Resumes after an interruption: partial sums, or finished layers, are kept
    in OUTPUT.partial.

    Memory of the complete model: its weights in float32, 4 K min(K, 2048)
    bytes per matrix with K columns, 4 KiB per entry of the vocabulary, and the
    activations of one window of 512 tokens. Layer by layer, memory is needed
    for one layer only, or for the head.
    """
    texts = calibration_texts(text or [SELF], random)
    made_of = _write(open_source(model), model, output, texts, tokens, force, by_layer=by_layer,
                     torch_device=torch_device)
    if as_json:
        print_json({"output": str(output), **made_of})
    else:
        names = ", ".join(text["text"] for text in made_of["texts"])
        print(f"calibration of {made_of['layers']} layers, {made_of['tokens']} tokens of "
              f"{names} read: {output}")


def moments_file(model: Path, given: Sequence[str], tokens: int = TOKENS) -> Path:
    """Return the calibration or reconstruction file: a given one, or for texts by name.

    The file for texts is created once per model, texts and number of tokens. A damaged file is
    created again.
    """
    files = [name for name in given if name.endswith(".safetensors")]
    if files:
        if len(given) > 1:
            raise ValueError(f"{files[0]}: is a calibration file, which is used alone; give it "
                             "without other calibrations, or give the texts of all")
        return Path(files[0])
    source, texts = open_source(model), calibration_texts(given)
    made = {"model": source.fingerprint(), "texts": [text.record for text in texts],
            "tokens": tokens, "window": WINDOW, "path": str(source.path.resolve())}
    key = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]
    path = find_entry(_KEPT, key, ".safetensors", private=False)
    if path is None:
        part = _KEPT / f"{key}.safetensors"
        # A file with this name was written by another version: the name covers all else.
        _write(source, model, part, texts, tokens, force=True)
        path = keep_entry(part, key, ".safetensors")
    return path


def _write(
    source: Source, model: Path, output: Path, texts: Sequence[CalibrationText], tokens: int,
    force: bool = False, *, by_layer: bool | None = None, torch_device: str | None = None,
) -> dict:
    """Calibrate, write the calibration file, and return its description."""
    from tritstream.host.model.calibration import SHRINKAGE

    parameters = _parameters(source, texts, tokens)
    made_of = {"texts": [text.record for text in texts], "shrinkage": SHRINKAGE}
    if layer_by_layer(source, by_layer, torch_device):
        windows = read_windows(model, texts, tokens, _no_model)
        write_layer_by_layer(source, output, windows, made_of, parameters, torch_device, force)
    else:
        with CalibrationJob(output, parameters | {"loading": "complete model"},
                            force=force) as job:
            if not job.finished:
                _collect(job, source, model, texts, tokens, made_of)
    return Moments(output).made_of


def _no_model() -> "PreTrainedModel":
    raise ValueError(f"{SELF} is written by the complete model, which is not loaded layer by "
                     "layer; give another text, or --whole-model")


def _collect(
    job: CalibrationJob, source: Source, model: Path, texts: Sequence[CalibrationText],
    tokens: int, made_of: Mapping,
) -> None:
    from tritstream.host.model.calibration import collect_moments
    from tritstream.host.model.load import load_model
    from tritstream.host.model.skeleton import linear_layer

    loaded = load_model(model)
    windows = read_windows(model, texts, tokens, lambda: loaded)
    count, layers = sum(map(len, windows)), linear_layers(source, loaded)
    warn_of_few(count, {name: linear_layer(loaded, module).in_features
                        for name, module in layers.items()})
    with _progress(job, len(windows)) as report:
        moments = collect_moments(loaded, layers, windows, progress=report, keeper=job)
    job.finish(moments, {**made_of, "tokens": count, "layers": len(layers)})


def _parameters(
    source: Source, texts: Sequence[CalibrationText], tokens: int,
) -> dict[str, str]:
    """Return all that determines the bytes of the file, in words for an error message."""
    files = hashlib.sha256(json.dumps(source.fingerprint(), sort_keys=True).encode())
    return {
        "model": f"{source.path.resolve().name}, files {files.hexdigest()[:16]}",
        "text": " and ".join(map(str, texts)),
        "number of tokens": str(tokens), "window": f"{WINDOW}, blocks of {BLOCK}",
        "version of torch": version("torch"),
    }


@contextmanager
def _progress(job: CalibrationJob, windows: int) -> Iterator[Callable[[int], None]]:
    """Show progress in windows; it starts at the windows that an earlier run has finished."""
    with ExitStack() as stack:
        advance: Callable[[int], None] | None = None

        def report(finished: int) -> None:
            nonlocal advance
            if advance:
                advance(1)
                return
            _show_start(job, windows)
            advance = stack.enter_context(progress("calibrating", windows, start=finished))

        yield report


def _show_start(job: CalibrationJob, windows: int) -> None:
    read = f"{job.windows} of {windows} windows were read by an earlier run; "
    console.print(f"calibrating: {read if job.windows else ''}{job.partial} is kept for a restart",
                  markup=False, soft_wrap=True)
