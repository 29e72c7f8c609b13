"""Command that evaluates models on a text."""

from contextlib import ExitStack
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from tritstream.golden.open_source import open_source
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.console import print_json, progress, reports_errors
from tritstream.scripts.corpus import Text, read_text
from tritstream.scripts.evaluation.report import DEFINITIONS, keep, show
from tritstream.scripts.evaluation.scoring import Job, score
from tritstream.scripts.options import Columns, DeviceSpec, Json, Lanes
from tritstream.scripts.running.generate import BitsFor, bits_by_name, open_backend
from tritstream.scripts.weights.matrix_figures import Checkpoint

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from tritstream.host.model.scoring import Chunks, Tokens

__all__ = ["evaluate"]


@reports_errors
def evaluate(
    models: Annotated[list[Path], typer.Argument(
        help="Checkpoints to evaluate: original (a directory or a GGUF file), exported or "
             "packed.")],
    text: Annotated[Path, typer.Option(help="Plain text in UTF-8 to evaluate on.")],
    base: Annotated[Path | None, typer.Option(
        help="Compare each model with this unquantized model, computed in floats.")] = None,
    ctx: Annotated[int, typer.Option(
        help="Tokens per chunk, of which the second half is scored.")] = 512,
    tokens: Annotated[int, typer.Option(
        min=0, help="Maximum number of tokens to score, in complete chunks; 0 scores the complete "
                    "text.")] = 3072,
    backend: Annotated[str, typer.Option(
        help="Multiply by reference (floats), golden (the device's integers in numpy), cpu or cuda "
             "(the same integers, faster) or device.")] = "reference",
    device: DeviceSpec = "sim",
    activation_bits: Annotated[int, typer.Option(
        help="Bits of activations, 8 or 16; ignored by the backend reference.")] = 8,
    activation_bits_for: BitsFor = None,
    lanes: Lanes = 8,
    columns: Columns = 1,
    output: Annotated[Path, typer.Option(
        "--output", "-o", help="Directory of the scores and the report. An interrupted evaluation "
                               "resumes from it.")] = Path("build/eval"),
    as_json: Json = False,
):
    """Measure perplexity on a text and, with --base, KL divergence, as llama.cpp defines them.

    The table keeps the models of earlier runs on the same chunks of text.
    """
    from tritstream.host.model.load import load_model
    from tritstream.host.model.scoring import split

    corpus, checkpoints = read_text(text), [_open(path) for path in [base, *models] if path]
    _check(checkpoints, ctx)
    found = _tokenize([checkpoint.path for checkpoint in checkpoints], corpus)
    chunks = split(found, corpus.text, ctx, tokens)
    bits = _bits(checkpoints[-len(models):], activation_bits, activation_bits_for or [])
    settings = {"tokens": found.sha256, "context": ctx, "versions": _versions()}
    with ExitStack() as stack:
        @cache
        def opened(name: str):
            return open_backend(stack, name, DeviceConfig(lanes, columns), bits, device)[0]

        def job(checkpoint: Checkpoint, name: str, base: Job | None = None) -> Job:
            how = {"backend": name, "activation_bits": None if name == "reference" else bits}
            return Job(checkpoint, how, settings, output,
                       lambda: load_model(checkpoint.path, backend=opened(name)), base)

        unquantized = job(checkpoints.pop(0), "reference") if base else None
        jobs = [job(checkpoint, backend, unquantized) for checkpoint in checkpoints]
        score(jobs, unquantized, chunks)
    report = keep(output / "report.json", _head(corpus, found, chunks),
                  unquantized.figures(chunks) if unquantized else None,
                  [each.figures(chunks) for each in jobs])
    print_json(report) if as_json else show(report)


def _bits(checkpoints: list[Checkpoint], bits: int, rules: list[str]) -> dict[str, int]:
    """Bits of activations by module name; each rule must match a matrix of every packed model."""
    found = {"*": bits}
    for checkpoint in checkpoints:
        if isinstance(checkpoint, PackedCheckpoint):
            found = bits_by_name(checkpoint, bits, rules)
    return found


def _head(corpus: Text, tokens: "Tokens", chunks: "Chunks") -> dict:
    """Values that all rows of a report share."""
    return {
        "definitions": DEFINITIONS, "corpus": {**corpus.summary, "tokens": len(tokens.ids)},
        "context": chunks.context, "bos": tokens.bos is not None, "chunks": len(chunks.ids),
        "scored_tokens": len(chunks.ids) * chunks.scored, "scored_bytes": int(chunks.sizes.sum()),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers")}


def _open(path: Path) -> Checkpoint:
    from tritstream.host.model.load import is_packed

    return PackedCheckpoint(path) if is_packed(path) else open_source(path)


def _check(checkpoints: list[Checkpoint], context: int) -> None:
    """Raise unless all models accept chunks of ``context`` tokens and share one vocabulary."""
    first = checkpoints[0]
    for checkpoint in checkpoints:
        room = checkpoint.config.get("max_position_embeddings")
        if room and context > room:
            raise ValueError(f"{checkpoint.path}: reads {room} tokens at most; give a ctx up to "
                             f"that, not {context}")
        size, wanted = (each.config.get("vocab_size") for each in (checkpoint, first))
        if size != wanted:
            raise ValueError(f"{checkpoint.path}: its vocabulary is of {size} tokens, that of "
                             f"{first.path} of {wanted}; compare models of one vocabulary")


def _tokenize(paths: list[Path], corpus: Text) -> "Tokens":
    """Tokens of the text; the tokenizers of all models must agree on them."""
    from tritstream.host.model.load import load_tokenizer
    from tritstream.host.model.scoring import tokenize

    found: dict[str, Tokens] = {}
    with progress("tokenizing", len(paths)) as advance:
        for path in paths:
            tokenizer = load_tokenizer(path)
            rules = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else str(path)
            if rules not in found:
                found[rules] = tokenize(tokenizer, corpus.text)
            first = next(iter(found.values()))
            if not np.array_equal(found[rules].ids, first.ids):
                raise ValueError(f"{path}: its tokenizer gives other tokens than that of "
                                 f"{paths[0]}; compare models of one tokenizer")
            advance(1, str(path))
    return first
