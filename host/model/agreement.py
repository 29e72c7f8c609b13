"""Whether another model would have gone on in the same way, token by token."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

__all__ = ["Agreement", "agreement"]


@dataclass(frozen=True)
class Agreement:
    """What a model takes for likeliest at each new token, after the prompt and the tokens before.

    Members
    -------
    choices : list of int
        Its token for each that was generated.
    same : int
        How many of them are the generated ones.
    first_difference : int or None
        Number of the first that is not, from zero.
    """

    choices:          list[int]
    same:             int
    first_difference: int | None


@torch.inference_mode()
def agreement(model: PreTrainedModel, prompt: list[int], tokens: list[int]) -> Agreement:
    """Compare generated tokens with the choices of a model, in one pass over all of them."""
    logits = model(torch.tensor([prompt + tokens[:-1]])).logits[0, len(prompt) - 1:]
    choices = logits.argmax(dim=-1).tolist()
    others = [at for at, pair in enumerate(zip(choices, tokens, strict=True)) if len(set(pair)) > 1]
    return Agreement(choices, len(tokens) - len(others), others[0] if others else None)
