"""Score models on the chunks of texts, each chunk once, and compute their figures."""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tritstream.host.quality import (
    Prediction,
    bits_per_byte,
    compare,
    kl_divergence,
    perplexity,
)
from tritstream.scripts.console import progress
from tritstream.scripts.evaluation.store import Scores
from tritstream.scripts.weights.matrix_figures import (
    Checkpoint,
    figures,
    fingerprint,
    squared_error,
)

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from transformers import PreTrainedModel

    from tritstream.host.model.scoring import Chunks

__all__ = ["Job", "Model", "Passage", "score"]


@dataclass(eq=False)
class Model:
    """A model to score on one or several texts.

    Members
    -------
    name : str
        Path or name, as given.
    checkpoint : Checkpoint
    backend : dict
        Name of the backend, and the bits of activations where there is a choice.
    load : callable
        Loads the model; called when it is needed for the first time.
    """

    name:       str
    checkpoint: Checkpoint
    backend:    dict
    load:       Callable[[], "PreTrainedModel"]

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the weights."""
        return fingerprint(self.checkpoint)

    @cached_property
    def loaded(self) -> "PreTrainedModel":
        """The model, loaded."""
        return self.load()

    @cached_property
    def figures(self) -> dict:
        """Figures that do not depend on a text, as plain values."""
        return {"path": self.name, "sha256": self.sha256, **self.backend,
                **figures(self.checkpoint)}


@dataclass(eq=False)
class Job:
    """A model to score on one text.

    Members
    -------
    model : Model
    text : dict
        Values that determine the chunks.
    output : Path
        Directory of the scores, which are stored by everything that determines them.
    base : Job or None
        Model to compare with, on the same text.
    """

    model:  Model
    text:   dict
    output: Path
    base:   "Job | None" = None

    @cached_property
    def scores(self) -> Scores:
        """Scores so far."""
        base = self.base.model.sha256 if self.base else None
        return Scores(self.output / "scores", {
            "model": self.model.sha256, "base": base, **self.model.backend, **self.text})

    def score(self, chunks: "Chunks", chunk: int, wanted: Prediction | None) -> Prediction:
        """Predict a chunk and write its scores, with the distance from the base's prediction."""
        from tritstream.host.model.scoring import predict

        began = time.perf_counter()
        found, targets = predict(self.model.loaded, chunks, chunk), chunks.targets(chunk)
        scores = {"nll": found.nll(targets), "seconds": np.array([time.perf_counter() - began])}
        if wanted:
            scores |= {"kl": kl_divergence(wanted, found), "same_top": wanted.top() == found.top()}
        if not all(np.isfinite(values).all() for values in scores.values()):
            raise ValueError(f"{self.model.name}: in chunk {chunk} it holds a token for "
                             "impossible that came, or that the base expects")
        self.scores.write(chunk, scores)
        return found

    def figures(self, chunks: "Chunks") -> dict:
        """Return all figures of the model as plain values."""
        scores = self.scores.read(len(chunks.ids))
        nll = scores["nll"]
        found = {
            **self.model.figures, "perplexity": asdict(perplexity(nll)),
            "bits_per_byte": asdict(bits_per_byte(nll, int(chunks.sizes.sum()))),
            "seconds": float(scores["seconds"].sum()),
        }
        if (base := self.base) is None:
            return found
        wanted = base.scores.read(len(chunks.ids))["nll"]
        error = self.scores.once("error", lambda: {
            "squared_error": _squared_error(self.model, base.model)})
        return found | error | asdict(compare(nll, wanted, scores["kl"], scores["same_top"]))


@cache
def _squared_error(model: Model, base: Model) -> float | None:
    return squared_error(model.checkpoint, base.checkpoint)


@dataclass
class Passage:
    """The chunks of a text, and the models to score on them, which are compared with ``base``."""

    name:   str
    chunks: "Chunks"
    jobs:   list[Job]
    base:   Job | None = None
    missing: list[Job] = field(init=False)

    def __post_init__(self) -> None:
        everyone, count = [*([self.base] if self.base else []), *self.jobs], len(self.chunks.ids)
        self.missing = [job for job in everyone if not all(map(job.scores.has, range(count)))]

    @property
    def size(self) -> int:
        """Number of chunks to score, by all models together."""
        return len(self.missing) * len(self.chunks.ids)


def score(passages: Iterable[Passage]) -> None:
    """Score the missing chunks. A chunk goes through the base once for all models."""
    due = [passage for passage in passages if passage.missing]
    models = dict.fromkeys(job.model for passage in due for job in passage.missing)
    with progress("loading", len(models)) as advance:
        for model in models:
            advance(0, model.name)
            _ = model.loaded
            advance(1)
    with progress("scoring", sum(passage.size for passage in due)) as advance:
        for passage in due:
            for chunk in range(len(passage.chunks.ids)):
                _score_chunk(passage, chunk, advance)


def _score_chunk(passage: Passage, chunk: int, advance: Callable) -> None:
    base, pending = passage.base, [job for job in passage.missing if not job.scores.has(chunk)]
    wanted = base.score(passage.chunks, chunk, None) if base and pending else None
    for job in passage.missing:
        if job in pending and job is not base:
            job.score(passage.chunks, chunk, wanted)
        advance(1, f"{job.model.name} on {passage.name}")
