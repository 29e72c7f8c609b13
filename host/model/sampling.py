"""Choice of the next token: greedy or sampled, and refused if no token can be chosen."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor

from tritstream.golden.errors import CheckpointError
from tritstream.host.model.settings import FILE

__all__ = ["GREEDY", "MAX_SEED", "PossibleToken", "Sampling"]

#: The largest seed of torch.
MAX_SEED = (1 << 64) - 1

#: Lowest temperature above 0: logits divided by it stay finite.
_COLDEST = 1e-6


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Raises :class:`ValueError` for a value out of range.

    Members
    -------
    temperature : float
        Temperature of the sampling; 0 takes the most likely token.
    top_p : float or None
        Sample from the most likely tokens with this probability in all, above 0 and up to 1. None
        is the value of the checkpoint, or 1.
    top_k : int or None
        Sample from this number of most likely tokens; 0 is all. None is the value of the
        checkpoint, or all.
    seed : int
        Random seed, 0..``MAX_SEED``.
    """

    temperature: float = 0.0
    top_p:       float | None = None
    top_k:       int | None = None
    seed:        int = 0

    def __post_init__(self) -> None:
        if self.temperature and not _COLDEST <= self.temperature < math.inf:
            raise ValueError(f"temperature must be 0, or finite and at least {_COLDEST:g}, not "
                             f"{self.temperature}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top-p must be above 0 and at most 1, not {self.top_p}")
        if self.top_k is not None and self.top_k < 0:
            raise ValueError(f"top-k must be 0 or more, not {self.top_k}")
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed must be 0..{MAX_SEED}, not {self.seed}")

    def arguments(self, settings: GenerationConfig) -> dict:
        """Return the arguments of transformers' ``generate``, given the checkpoint's settings."""
        if not self.temperature:
            return {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
        # Without a value, transformers would take its own: the 50 most likely tokens.
        top_k = (settings.top_k or 0) if self.top_k is None else self.top_k
        top_p = (settings.top_p or 1.0) if self.top_p is None else self.top_p
        return {"do_sample": True, "temperature": self.temperature, "top_k": top_k, "top_p": top_p}


#: The most likely token, always.
GREEDY = Sampling()


class PossibleToken(LogitsProcessor):
    """Check before each choice that some token can be chosen, and that no score is NaN.

    Otherwise the choice would be arbitrary. Raises :class:`.CheckpointError`.

    Parameters
    ----------
    path : str
        The checkpoint, for error messages.
    """

    def __init__(self, path: str):
        self._path = path

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores (1, vocabulary) as they are."""
        if torch.isnan(best := scores.max()):
            raise CheckpointError(f"{self._path}: its logits are NaN; check the weights of the "
                                  f"source, and {FILE}")
        if torch.isneginf(best):
            raise CheckpointError(f"{self._path}: its logits exclude every token; check the "
                                  f"weights of the source, and the tokens that {FILE} suppresses")
        return scores
