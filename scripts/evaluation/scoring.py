"""Score models on the chunks of a text, each chunk once, and compute their figures."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
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

__all__ = ["Job", "score"]


@dataclass(eq=False)
class Job:
    """A model to score.

    Members
    -------
    checkpoint : Checkpoint
    backend : dict
        Name of the backend, and the bits of activations where there is a choice.
    text : dict
        Values that determine the chunks.
    output : Path
        Directory of the scores, which are stored by everything that determines them.
    load : callable
        Loads the model; called when it is needed for the first time.
    base : Job or None
        Model to compare with.
    """

    checkpoint: Checkpoint
    backend:    dict
    text:       dict
    output:     Path
    load:       Callable[[], "PreTrainedModel"]
    base:       "Job | None" = None

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the weights."""
        return fingerprint(self.checkpoint)

    @cached_property
    def scores(self) -> Scores:
        """Scores so far."""
        base = self.base.sha256 if self.base else None
        return Scores(self.output / "scores", {
            "model": self.sha256, "base": base, **self.backend, **self.text})

    @cached_property
    def model(self) -> "PreTrainedModel":
        """The model, loaded."""
        return self.load()

    def score(self, chunks: "Chunks", chunk: int, wanted: Prediction | None) -> Prediction:
        """Predict a chunk and write its scores, with the distance from the base's prediction."""
        from tritstream.host.model.scoring import predict

        began = time.perf_counter()
        found, targets = predict(self.model, chunks, chunk), chunks.targets(chunk)
        scores = {"nll": found.nll(targets), "seconds": np.array([time.perf_counter() - began])}
        if wanted:
            scores |= {"kl": kl_divergence(wanted, found), "same_top": wanted.top() == found.top()}
        if not all(np.isfinite(values).all() for values in scores.values()):
            raise ValueError(f"{self.checkpoint.path}: in chunk {chunk} it holds a token for "
                             "impossible that came, or that the base expects")
        self.scores.write(chunk, scores)
        return found

    def figures(self, chunks: "Chunks") -> dict:
        """Return all figures of the model as plain values."""
        scores = self.scores.read(len(chunks.ids))
        nll = scores["nll"]
        found = {
            "path": str(self.checkpoint.path), "sha256": self.sha256, **self.backend,
            **figures(self.checkpoint),
            "perplexity": asdict(perplexity(nll)),
            "bits_per_byte": asdict(bits_per_byte(nll, int(chunks.sizes.sum()))),
            "seconds": float(scores["seconds"].sum()),
        }
        if (base := self.base) is None:
            return found
        wanted = base.scores.read(len(chunks.ids))["nll"]
        error = self.scores.once("error", lambda: {
            "squared_error": squared_error(self.checkpoint, base.checkpoint)})
        return found | error | asdict(compare(nll, wanted, scores["kl"], scores["same_top"]))


def score(jobs: list[Job], base: Job | None, chunks: "Chunks") -> None:
    """Score the missing chunks. A chunk goes through the base once for all models."""
    everyone, count = [*([base] if base else []), *jobs], len(chunks.ids)
    missing = [job for job in everyone if not all(map(job.scores.has, range(count)))]
    with progress("loading", len(missing)) as advance:
        for job in missing:
            advance(0, str(job.checkpoint.path))
            _ = job.model
            advance(1)
    with progress("scoring", count * len(missing)) as advance:
        for chunk in range(count):
            _score_chunk(missing, base, chunks, chunk, advance)


def _score_chunk(jobs: list[Job], base: Job | None, chunks: "Chunks", chunk: int,
                 advance: Callable) -> None:
    pending = [job for job in jobs if not job.scores.has(chunk)]
    wanted = base.score(chunks, chunk, None) if base and pending else None
    for job in jobs:
        if job in pending and job is not base:
            job.score(chunks, chunk, wanted)
        advance(1, str(job.checkpoint.path))
