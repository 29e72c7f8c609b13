"""Calibration: moments of every packed layer's inputs and results, from a few windows of tokens."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tritstream.golden.quantizers.moments import BLOCK, Moment, blocks

__all__ = ["Keeper", "collect_moments", "random_windows"]

#: Logits, or derivatives of them, that are worked on at a time.
_VALUES = 1 << 23


class Keeper(Protocol):
    """Where sums are kept, so that a calibration resumes after a kill.

    :class:`tritstream.golden.calibration_job.CalibrationJob` is one. Arrays are float32, by name.
    """

    def restore(self, sums: Mapping[str, np.ndarray]) -> int:
        """Fill arrays with what was kept; returns of how many windows that is."""

    def offer(self, sums: Mapping[str, np.ndarray], windows: int) -> None:
        """Keep arrays, which are of the first windows, or leave it for now."""


def collect_moments(
    model: PreTrainedModel, layers: Mapping[str, str], windows: Sequence[Tensor], *,
    seed: int = 0, progress: Callable[[], None] | None = None, keeper: Keeper | None = None,
) -> dict[str, Moment]:
    """Moments of linear layers, one forward and one backward pass a window.

    The derivatives are of the log-likelihood of next tokens that are drawn from the model itself,
    so no token of a window is a label. The tokens of a window depend on its place alone, so that
    windows that a keeper has need not be read again, and the moments are the same.

    Parameters
    ----------
    model : PreTrainedModel
        Unquantized, as :func:`.load_model` loads it; its parameters are frozen.
    layers : mapping
        Module of each linear layer, by the name that its moments get.
    windows : sequence of Tensor
        Token ids (T,).
    seed : int
        Seed of the drawn tokens.
    progress : callable
        Called after each window, and at once for those that the keeper has.
    keeper : Keeper
        Keeps the sums.
    """
    model.requires_grad_(False)
    sums = {name: _Sums(model.get_submodule(module)) for name, module in layers.items()}
    arrays = {f"{name}.{part}": values for name, one in sums.items()
              for part, values in one.arrays().items()}
    done = keeper.restore(arrays) if keeper else 0
    with ExitStack() as stack:
        for name, module in layers.items():
            hook = model.get_submodule(module).register_forward_hook(sums[name].watch)
            stack.callback(hook.remove)
        for place, window in enumerate(windows):
            if place >= done:
                _backward(model, window, torch.Generator().manual_seed(seed + place))
                if keeper:
                    keeper.offer(arrays, place + 1)
            if progress:
                progress()
    count = sum(map(len, windows))
    return {name: one.moment(count) for name, one in sums.items()}


def random_windows(vocabulary: int, special: Iterable[int], size: int, count: int) -> list[Tensor]:
    """Windows of tokens drawn evenly from a vocabulary without its special tokens: (size,) each."""
    rng = np.random.default_rng(0)
    plain = np.setdiff1d(np.arange(vocabulary), list(special))
    return [torch.from_numpy(rng.choice(plain, size)) for _ in range(count)]


def _backward(model: PreTrainedModel, window: Tensor, drawn: torch.Generator) -> None:
    embedded = model.get_input_embeddings()(window[None]).requires_grad_(True)
    with torch.enable_grad():
        # Not those of one sequence: autograd would hold them all once more.
        logits = model(inputs_embeds=embedded, use_cache=False).logits
        logits.backward(_derivatives(logits[0].detach(), drawn)[None])


def _derivatives(logits: Tensor, drawn: torch.Generator) -> Tensor:
    """Derivatives (T, V) of the negative log-likelihood of tokens drawn from logits (T, V).

    They are shares, less 1 at what was drawn; a few tokens at a time, since logits are large.
    """
    derivatives = torch.empty_like(logits)
    for rows, out in zip(*_by_rows(logits, derivatives), strict=True):
        shares = torch.softmax(rows.float(), dim=-1)
        came = torch.multinomial(shares, 1, generator=drawn)
        out.copy_(shares.scatter_add_(1, came, torch.full(came.shape, -1.0)))
    return derivatives


def _by_rows(whole: Tensor, other: Tensor) -> list[tuple[Tensor, ...]]:
    """Two tensors of as many rows, in parts of a few rows of the first."""
    count = max(1, _VALUES // whole.shape[1])
    return [whole.split(count), other.split(count)]


class _Sums:
    """Sums over tokens for one layer: F by diagonal blocks, and squared derivatives by result."""

    def __init__(self, layer: nn.Linear):
        size = layer.in_features
        self._inputs = torch.zeros(size, min(size, BLOCK))
        self._results = torch.zeros(layer.out_features)

    def watch(self, layer: nn.Module, inputs: tuple[Tensor, ...], results: Tensor) -> None:
        """The forward hook: have the derivatives come with what was put in."""
        results.register_hook(partial(self._add, inputs[0][0].detach().float()))

    def arrays(self) -> dict[str, np.ndarray]:
        """The sums, as they lie in memory."""
        return {"inputs": self._inputs.numpy(), "results": self._results.numpy()}

    def moment(self, tokens: int) -> Moment:
        """What the sums amount to, in their place: they are no sums any more."""
        mean = self._results.mean()
        shares = self._results / mean if mean > 0 else torch.ones_like(self._results)
        return Moment(self._inputs.div_(tokens).numpy(), shares.numpy())

    def _add(self, inputs: Tensor, derivatives: Tensor) -> None:
        means = torch.empty(len(inputs), 1)
        for rows, out in zip(*_by_rows(derivatives[0], means), strict=True):
            squares = rows.float() ** 2
            self._results += squares.sum(dim=0)
            torch.mean(squares, dim=1, keepdim=True, out=out)
        weighted = inputs * means
        for columns in blocks(inputs.shape[1]):
            self._inputs[columns, :columns.stop - columns.start] += (
                weighted[:, columns].T @ inputs[:, columns])
