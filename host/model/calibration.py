"""Calibration: moments of every packed layer's inputs and results, from a few windows of tokens."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from golden.moments import BLOCK, Moment, blocks

__all__ = ["collect_moments", "random_windows"]


def collect_moments(
    model: PreTrainedModel, layers: Mapping[str, str], windows: Iterable[Tensor], *,
    seed: int = 0, progress: Callable[[], None] | None = None,
) -> dict[str, Moment]:
    """Moments of linear layers, one forward and one backward pass a window.

    The derivatives are of the log-likelihood of next tokens that are drawn from the model itself,
    so no token of a window is a label.

    Parameters
    ----------
    model : PreTrainedModel
        Unquantized, as :func:`host.model.load.load_model` loads it; its parameters are frozen.
    layers : mapping
        Module of each linear layer, by the name that its moments get.
    windows : iterable of Tensor
        Token ids (T,).
    seed : int
        Of the drawn tokens.
    progress : callable
        Called after each window.
    """
    model.requires_grad_(False)
    sums = {name: _Sums(model.get_submodule(module)) for name, module in layers.items()}
    drawn, count = torch.Generator().manual_seed(seed), 0
    with ExitStack() as stack:
        for name, module in layers.items():
            hook = model.get_submodule(module).register_forward_hook(sums[name].watch)
            stack.callback(hook.remove)
        for window in windows:
            _backward(model, window, drawn)
            count += len(window)
            if progress:
                progress()
    return {name: one.moment(count) for name, one in sums.items()}


def random_windows(vocabulary: int, special: Iterable[int], size: int, count: int) -> list[Tensor]:
    """Windows of tokens drawn evenly from a vocabulary without its special tokens: (size,) each."""
    rng = np.random.default_rng(0)
    plain = np.setdiff1d(np.arange(vocabulary), list(special))
    return [torch.from_numpy(rng.choice(plain, size)) for _ in range(count)]


def _backward(model: PreTrainedModel, window: Tensor, drawn: torch.Generator) -> None:
    embedded = model.get_input_embeddings()(window[None]).requires_grad_(True)
    with torch.enable_grad():
        logits = model(inputs_embeds=embedded, use_cache=False).logits[0].float()
        shares = torch.softmax(logits.detach(), dim=-1)
        came = torch.multinomial(shares, 1, generator=drawn)[:, 0]
        cross_entropy(logits, came, reduction="sum").backward()


class _Sums:
    """Sums over tokens for one layer: F by diagonal blocks, and squared derivatives by result."""

    def __init__(self, layer: nn.Linear):
        size = layer.in_features
        self._inputs = torch.zeros(size, min(size, BLOCK))
        self._results = torch.zeros(layer.out_features)

    def watch(self, layer: nn.Module, inputs: tuple[Tensor, ...], results: Tensor) -> None:
        """The forward hook: have the derivatives come with what was put in."""
        results.register_hook(partial(self._add, inputs[0][0].detach().float()))

    def moment(self, tokens: int) -> Moment:
        """What the sums amount to."""
        mean = self._results.mean()
        shares = self._results / mean if mean > 0 else torch.ones_like(self._results)
        return Moment((self._inputs / tokens).numpy(), shares.numpy())

    def _add(self, inputs: Tensor, derivatives: Tensor) -> None:
        squares = derivatives[0].float() ** 2
        self._results += squares.sum(dim=0)
        weighted = inputs * squares.mean(dim=1, keepdim=True)
        for columns in blocks(inputs.shape[1]):
            self._inputs[columns, :columns.stop - columns.start] += (
                weighted[:, columns].T @ inputs[:, columns])
