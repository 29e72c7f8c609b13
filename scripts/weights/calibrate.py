"""The command calibrate, and calibration files that the command quantize creates and keeps."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritstream.golden.cache_entry import find_entry, keep_entry
from tritstream.golden.calibration_job import CalibrationJob
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.plan import source_fingerprint
from tritstream.golden.quantizers.moments import BLOCK, Moments
from tritstream.scripts.console import console, print_json, progress, reports_errors
from tritstream.scripts.corpus import read_text
from tritstream.scripts.options import Force, Json, Model, TorchDevice
from tritstream.scripts.streams import storable
from tritstream.scripts.weights.calibrate_layers import layer_by_layer, write_layer_by_layer
from tritstream.scripts.weights.linear_layers import linear_layers
from tritstream.scripts.weights.token_windows import WINDOW, text_windows

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from torch import Tensor

__all__ = ["RANDOM", "TOKENS", "calibrate", "moments_file"]

#: Name that stands for random tokens of the vocabulary, in place of a text.
RANDOM = "random"
#: Default number of tokens to read.
TOKENS = 16384

#: Directory of the calibration files that the command quantize creates.
_KEPT = Path("build/calibration")


@reports_errors
def calibrate(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Calibration file to write.")],
    text: Annotated[str, typer.Option(
        help="Plain text in UTF-8, of the kind that the model will read, or `random` for random "
             "tokens of the vocabulary.")] = RANDOM,
    tokens: Annotated[int, typer.Option(
        help="Number of tokens to read, spread over the text.")] = TOKENS,
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
    made_of = _write(open_source(model), model, output, text, tokens, force,
                     by_layer=by_layer, torch_device=torch_device)
    if as_json:
        print_json({"output": str(output), **made_of})
    else:
        print(f"calibration of {made_of['layers']} layers, {made_of['tokens']} tokens of "
              f"{made_of['text']} read: {output}")


def moments_file(model: Path, what: str, tokens: int = TOKENS) -> Path:
    """Return the calibration or reconstruction file: a given one, or for a text, or `random`.

    The file for a text is created once per model, text and number of tokens. A damaged file is
    created again.
    """
    if what.endswith(".safetensors"):
        return Path(what)
    source = open_source(model)
    made = {"model": source_fingerprint(source), "text": _digest(what), "tokens": tokens,
            "window": WINDOW, "path": str(source.path.resolve())}
    key = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]
    path = find_entry(_KEPT, key, ".safetensors", private=False)
    if path is None:
        part = _KEPT / f"{key}.safetensors"
        # A file with this name was written by another version: the name covers all else.
        _write(source, model, part, what, tokens, force=True)
        path = keep_entry(part, key, ".safetensors")
    return path


def _write(
    source: Source, model: Path, output: Path, text: str, tokens: int, force: bool = False, *,
    by_layer: bool | None = None, torch_device: str | None = None,
) -> dict:
    """Calibrate, write the calibration file, and return its description."""
    windows = _windows(model, text, tokens)
    count = sum(map(len, windows))
    made_of = {"text": _name(text), "text_sha256": _digest(text), "tokens": count}
    parameters = _parameters(source, text, count)
    if layer_by_layer(source, by_layer, torch_device):
        write_layer_by_layer(source, output, windows, made_of, parameters, torch_device, force)
    else:
        with CalibrationJob(output, parameters | {"loading": "complete model"},
                            force=force) as job:
            if not job.finished:
                _collect(job, source, model, windows, made_of)
    return Moments(output).made_of


def _collect(
    job: CalibrationJob, source: Source, model: Path, windows: "list[Tensor]", made_of: dict,
) -> None:
    from tritstream.host.model.calibration import collect_moments
    from tritstream.host.model.load import load_model

    loaded = load_model(model)
    layers = linear_layers(source, loaded)
    with _progress(job, len(windows)) as report:
        moments = collect_moments(loaded, layers, windows, progress=report, keeper=job)
    job.finish(moments, made_of | {"layers": len(layers)})


def _parameters(source: Source, text: str, tokens: int) -> dict[str, str]:
    """Return all that determines the bytes of the file, in words for an error message."""
    files = hashlib.sha256(json.dumps(source_fingerprint(source), sort_keys=True).encode())
    digest = _digest(text)
    return {
        "model": f"{source.path.resolve().name}, files {files.hexdigest()[:16]}",
        "text": _name(text) + (f", SHA-256 {digest[:16]}" if digest else ""),
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


def _name(text: str) -> str:
    return RANDOM if text == RANDOM else storable(Path(text).name)


def _digest(text: str) -> str | None:
    return None if text == RANDOM else read_text(Path(text)).sha256


def _windows(model: Path, text: str, tokens: int) -> "list[Tensor]":
    """Return windows of token ids, spread evenly over the text."""
    count = max(1, tokens // WINDOW)
    if text == RANDOM:
        from tritstream.host.model.calibration import random_windows
        from tritstream.host.model.load import load_tokenizer

        tokenizer = load_tokenizer(model)
        return random_windows(len(tokenizer), tokenizer.all_special_ids, WINDOW, count)
    windows = text_windows(model, Path(text))
    count = min(count, len(windows))
    return [windows[index * len(windows) // count] for index in range(count)]
