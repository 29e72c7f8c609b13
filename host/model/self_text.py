"""Calibration text that a model writes itself, for calibrations without a text."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    GenerationMixin,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from tritstream.host.model.calibration import random_windows

__all__ = ["self_windows"]

#: Windows that are written together: the weights are read once per token for all of them.
_BATCH = 32


def self_windows(
    model: PreTrainedModel, vocabulary: int, special: Iterable[int], size: int, count: int, *,
    start: Sequence[int] = (), progress: Callable[[int], None] | None = None,
) -> list[Tensor]:
    """Return windows of tokens drawn from the model itself, int64 (size,) each.

    A window begins with the tokens ``start`` and a random token that is not one of ``special``, so
    that the texts are of many kinds (Liu et al., LLM-QAT, 2023). Each later token is drawn from the
    distribution of the model, at temperature 1. The windows are the same on machines of one kind.

    Parameters
    ----------
    model : PreTrainedModel
        Unquantized model of :func:`.load_model`.
    vocabulary : int
        Number of tokens of the vocabulary.
    special : iterable of int
        Tokens with which no text begins.
    size, count : int
        Tokens per window, and number of windows.
    start : sequence of int
        Tokens with which the model expects every text to begin.
    progress : callable
        Called with a number of tokens whenever as many were drawn.
    """
    first = torch.stack(random_windows(vocabulary, special, 1, count))
    before = torch.tensor([list(start)] * count, dtype=torch.int64).reshape(count, -1)
    prompts = torch.cat([before, first], dim=1)[:, :size]
    report = _Reporter(progress or _silent)
    with _drawing(model, size):
        return [window for seed, batch in enumerate(prompts.split(_BATCH))
                for window in _continued(model, batch, seed, report)]


def _silent(tokens: int) -> None:
    pass


@contextmanager
def _drawing(model: PreTrainedModel, size: int) -> Iterator[None]:
    """Replace the settings of the checkpoint, which may exclude or favour tokens."""
    settings = model.generation_config
    # Nothing ends a text: in training, the text after an end is the next one, too.
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_length=size)
    try:
        yield
    finally:
        model.generation_config = settings


def _continued(
    model: PreTrainedModel, prompts: Tensor, seed: int, report: "_Reporter",
) -> Tensor:
    if prompts.shape[1] == model.generation_config.max_length:
        return prompts
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # All classes that load_model() accepts can generate.
        return cast(Any, cast(GenerationMixin, model).generate(
            prompts, attention_mask=torch.ones_like(prompts),
            stopping_criteria=StoppingCriteriaList([report])))


class _Reporter(StoppingCriteria):
    """Reports the drawn tokens, and stops nothing."""

    def __init__(self, report: Callable[[int], None]):
        self._report = report

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        self._report(len(input_ids))
        return torch.zeros(len(input_ids), dtype=torch.bool)
