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
from tritstream.golden.checkpoints.choice import Selection
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.open_source import open_source
from tritstream.golden.quantizers.moments import BLOCK, Moments
from tritstream.scripts.console import console, print_json, progress, reports_errors
from tritstream.scripts.options import Force, Json, Model
from tritstream.scripts.weights.architecture import architecture_of
from tritstream.scripts.weights.calibration_texts import (
    SELF,
    CalibrationText,
    calibration_texts,
    read_windows,
    warn_of_few,
)
from tritstream.scripts.weights.token_windows import WINDOW

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from transformers import PreTrainedModel

__all__ = ["TOKENS", "calibrate", "linear_layers", "moments_file"]

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
    force: Force = False,
    as_json: Json = False,
):
    """Measure on a text which errors of weights matter, for `quantize --calibration`.

    Resumes after an interruption: partial sums are kept in OUTPUT.partial.

    Memory: the model in float32, 4 K min(K, 2048) bytes per matrix with K
    columns, 4 KiB per entry of the vocabulary, and the activations of one
    window of 512 tokens.
    """
    texts = calibration_texts(text or [SELF], random)
    made_of = _write(open_source(model), model, output, texts, tokens, force)
    if as_json:
        print_json({"output": str(output), **made_of})
    else:
        names = ", ".join(text["text"] for text in made_of["texts"])
        print(f"calibration of {made_of['layers']} layers, {made_of['tokens']} tokens of "
              f"{names} read: {output}")


def moments_file(model: Path, given: Sequence[str], tokens: int = TOKENS) -> Path:
    """Return the calibration file for texts by name, or for a calibration file.

    The file for texts is created once per model, texts and number of tokens. A damaged file is
    created again.
    """
    files = [name for name in given if name.endswith(".safetensors")]
    if files:
        if len(given) > 1:
            raise ValueError(f"{files[0]}: is a calibration file, which is used alone; give it "
                             "without other calibrations, or give the texts of all")
        return Moments(files[0]).path
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
    force: bool = False,
) -> dict:
    """Calibrate, write the calibration file, and return its description."""
    with CalibrationJob(output, _parameters(source, texts, tokens), force=force) as job:
        if not job.finished:
            _collect(job, source, model, texts, tokens)
    return Moments(output).made_of


def _collect(
    job: CalibrationJob, source: Source, model: Path, texts: Sequence[CalibrationText],
    tokens: int,
) -> None:
    from tritstream.host.model.calibration import SHRINKAGE, collect_moments
    from tritstream.host.model.load import load_model
    from tritstream.host.model.skeleton import linear_layer

    loaded = load_model(model)
    windows = read_windows(model, texts, tokens, lambda: loaded)
    count, layers = sum(map(len, windows)), linear_layers(source, loaded)
    warn_of_few(count, {name: linear_layer(loaded, module).in_features
                        for name, module in layers.items()})
    with _progress(job, len(windows)) as report:
        moments = collect_moments(loaded, layers, windows, progress=report, keeper=job)
    job.finish(moments, {"texts": [text.record for text in texts],
                         "tokens": count, "shrinkage": SHRINKAGE, "layers": len(layers)})


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


def linear_layers(source: Source, model: "PreTrainedModel") -> Mapping[str, str]:
    """Return the module of each matrix that may be packed, including a head tied to the embedding.

    Parameters of experts are replaced by linear layers: :func:`.split_experts`.
    """
    from tritstream.host.model.experts import split_experts
    from tritstream.host.model.skeleton import module_places

    choice = source.choose(Selection(architecture=architecture_of(source).architecture))
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    places = module_places(model, shapes)
    stacked = {name: stack.axes for name, stack in choice.stacks.items()}
    own = split_experts(model, shapes, stacked, choice.matrices)
    layers = {name: own.get(name) or places[name] for name in choice.matrices}
    names = {module: name for name, module in model.named_modules()}
    stored = {place: name for name, place in places.items()}
    head, embedding = (names[layer] for layer in (model.get_output_embeddings(),
                                                  model.get_input_embeddings()))
    return layers | {stored.get(head) or stored[embedding]: head}
