"""Comparison of a generated text with the choices of another model, token by token."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

__all__ = ["Agreement", "agreement"]


@dataclass(frozen=True)
class Agreement:
    """Most likely token of a model at each generated position.

    The model gets the prompt and the generated tokens before that position.

    Members
    -------
    choices : list of int
        Most likely token per generated token.
    same : int
        Number of choices that equal the generated token.
    first_difference : int or None
        Index of the first choice that differs from the generated token, from 0.
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
