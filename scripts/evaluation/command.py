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
from tritstream.scripts.evaluation.scoring import Job, Model, Passage, score
from tritstream.scripts.options import Columns, DeviceSpec, Json, Lanes
from tritstream.scripts.running.generate import BitsFor, bits_by_name, open_backend
from tritstream.scripts.weights.matrix_figures import Checkpoint

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from tritstream.host.model.scoring import Tokens

__all__ = ["evaluate"]


@reports_errors
def evaluate(
    models: Annotated[list[Path], typer.Argument(
        help="Checkpoints to evaluate: original (a directory or a GGUF file), exported or packed, "
             "or names of models on the Hub.")],
    text: Annotated[list[Path], typer.Option(
        help="Plain text in UTF-8 to evaluate on. May be repeated.")],
    base: Annotated[Path | None, typer.Option(
        help="Compare each model with this unquantized model, computed in floats.")] = None,
    ctx: Annotated[int, typer.Option(
        help="Tokens per chunk, of which the second half is scored.")] = 512,
    limit: Annotated[int, typer.Option(
        "--tokens", min=0, help="Maximum number of tokens to score per text, in complete chunks; 0 "
                                "scores the complete text.")] = 3072,
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
    """Measure perplexity on texts and, with --base, KL divergence, as llama.cpp defines them.

    The table has a row per text and model. It keeps the models of earlier runs on the same chunks
    of text.
    """
    from tritstream.host.model.load import load_model

    corpora = [read_text(path) for path in dict.fromkeys(text)]
    names = [path for path in [base, *models] if path]
    checkpoints = [_open(path) for path in names]
    _check(checkpoints, ctx)
    texts = _tokenize([checkpoint.path for checkpoint in checkpoints], corpora)
    bits = _bits(checkpoints[-len(models):], activation_bits, activation_bits_for or [])
    with ExitStack() as stack:
        @cache
        def opened(name: str):
            return open_backend(stack, name, DeviceConfig(lanes, columns), bits, device)[0]

        def model(path: Path, checkpoint: Checkpoint, name: str) -> Model:
            how = {"backend": name, "activation_bits": None if name == "reference" else bits}
            return Model(str(path), checkpoint, how,
                         lambda: load_model(checkpoint.path, backend=opened(name)))

        found = [model(path, checkpoint, "reference" if base and not index else backend)
                 for index, (path, checkpoint) in enumerate(zip(names, checkpoints, strict=True))]
        passages = [_passage(corpus, tokens, ctx, limit, found, base is not None, output)
                    for corpus, tokens in zip(corpora, texts, strict=True)]
        score(passages)
    report = keep(output / "report.json", [
        _report(*one) for one in zip(corpora, texts, passages, strict=True)])
    print_json(report) if as_json else show(report)


def _passage(
    corpus: Text, tokens: "Tokens", context: int, limit: int, models: list[Model], compared: bool,
    output: Path,
) -> Passage:
    """Return the chunks of a text and the models to score; ``compared`` with the first of them."""
    from tritstream.host.model.scoring import split

    try:
        chunks = split(tokens, corpus.text, context, limit)
    except ValueError as error:
        raise ValueError(f"{corpus.name}: {error}") from None
    settings = {"tokens": tokens.sha256, "context": context, "versions": _versions()}
    base = Job(models[0], settings, output) if compared else None
    jobs = [Job(model, settings, output, base) for model in (models[1:] if compared else models)]
    return Passage(corpus.name, chunks, jobs, base)


def _report(corpus: Text, tokens: "Tokens", passage: Passage) -> dict:
    """Return the figures of all models on a text."""
    chunks, base = passage.chunks, passage.base
    return {
        "definitions": DEFINITIONS, "corpus": {**corpus.summary, "tokens": len(tokens.ids)},
        "context": chunks.context, "bos": tokens.bos is not None, "chunks": len(chunks.ids),
        "scored_tokens": len(chunks.ids) * chunks.scored, "scored_bytes": int(chunks.sizes.sum()),
        "versions": _versions(), "base": base.figures(chunks) if base else None,
        "models": [job.figures(chunks) for job in passage.jobs],
    }


def _bits(checkpoints: list[Checkpoint], bits: int, rules: list[str]) -> dict[str, int]:
    """Bits of activations by module name; each rule must match a matrix of every packed model."""
    found = {"*": bits}
    for checkpoint in checkpoints:
        if isinstance(checkpoint, PackedCheckpoint):
            found = bits_by_name(checkpoint, bits, rules)
    return found


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


def _tokenize(paths: list[Path], corpora: list[Text]) -> "list[Tokens]":
    """Return the tokens of each text; the tokenizers of all models must agree on them."""
    from tritstream.host.model.load import load_tokenizer
    from tritstream.host.model.scoring import tokenize

    found: dict[str, list[Tokens]] = {}
    with progress("tokenizing", len(paths)) as advance:
        for path in paths:
            tokenizer = load_tokenizer(path)
            rules = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else str(path)
            if rules not in found:
                found[rules] = [tokenize(tokenizer, corpus.text) for corpus in corpora]
            first = next(iter(found.values()))
            if not all(np.array_equal(mine.ids, theirs.ids)
                       for mine, theirs in zip(found[rules], first, strict=True)):
                raise ValueError(f"{path}: its tokenizer gives other tokens than that of "
                                 f"{paths[0]}; compare models of one tokenizer")
            advance(1, str(path))
    return first
