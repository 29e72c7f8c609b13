"""Calibration statistics of linear layers: second moments of inputs and output derivatives."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tritstream.golden.quantizers.moments import BLOCK, Moment, blocks
from tritstream.host.model.skeleton import linear_layer

__all__ = ["SHRINKAGE", "Keeper", "Sums", "collect_moments", "drawn_derivatives",
           "random_windows", "watched"]

#: Shrinkage of F to the identity: what is added to the diagonal, as a share of its mean. Inputs of
#: other kinds of text have directions that the tokens read do not show.
SHRINKAGE = 0.05

#: Logits, or their derivatives, processed at a time.
_VALUES = 1 << 23


class Keeper(Protocol):
    """Storage for partial sums, so that a calibration can resume after an interruption.

    :class:`.CalibrationJob` implements it. Arrays are float32, by name.
    """

    def restore(self, sums: Mapping[str, np.ndarray]) -> int:
        """Fill arrays with stored sums; return the number of windows in the sums."""

    def offer(self, sums: Mapping[str, np.ndarray], windows: int) -> None:
        """Store the sums of the first windows, or skip this call."""


def collect_moments(
    model: PreTrainedModel, layers: Mapping[str, str], windows: Sequence[Tensor], *,
    seed: int = 0, progress: Callable[[int], None] | None = None, keeper: Keeper | None = None,
) -> dict[str, Moment]:
    """Return the calibration statistics of linear layers: one forward and backward pass per window.

    F is shrunk: :data:`SHRINKAGE` of the mean of its diagonal is added to the diagonal.

    The derivatives are those of the log-likelihood of next tokens drawn from the model itself, so
    no token of a window serves as a label. The random numbers for a window depend on ``seed`` and
    the index of the window only. A resumed calibration therefore returns the same statistics.

    Parameters
    ----------
    model : PreTrainedModel
        Unquantized model of :func:`.load_model`. Its parameters are frozen.
    layers : mapping
        Module of each linear layer, by the name for its statistics.
    windows : sequence of Tensor
        Token ids (T,).
    seed : int
        Random seed of the drawn tokens.
    progress : callable
        Called with the number of finished windows: first with the number that the keeper restored,
        then after each window.
    keeper : Keeper
        Stores partial sums.

    Raises :class:`TypeError` if a layer is not a ``torch.nn.Linear``.
    """
    model.requires_grad_(False)
    linear = {name: linear_layer(model, module) for name, module in layers.items()}
    sums = {name: Sums(layer) for name, layer in linear.items()}
    arrays = {f"{name}.{part}": values for name, one in sums.items()
              for part, values in one.arrays().items()}
    report = progress or _silent
    report(done := keeper.restore(arrays) if keeper else 0)
    with watched(linear, sums):
        for index, window in enumerate(windows[done:], done):
            _backward(model, window, torch.Generator().manual_seed(seed + index))
            if keeper:
                keeper.offer(arrays, index + 1)
            report(index + 1)
    count = sum(map(len, windows))
    return {name: one.moment(count) for name, one in sums.items()}


def random_windows(vocabulary: int, special: Iterable[int], size: int, count: int) -> list[Tensor]:
    """Return windows of random tokens, int64 (size,) each, without the ``special`` tokens."""
    rng = np.random.default_rng(0)
    plain = np.setdiff1d(np.arange(vocabulary), list(special))
    return [torch.from_numpy(rng.choice(plain, size)) for _ in range(count)]


def _silent(windows: int) -> None:
    pass


@contextmanager
def watched(layers: Mapping[str, nn.Linear], sums: Mapping[str, "Sums"]) -> Iterator[None]:
    """Collect sums in every pass through the layers, until the context ends."""
    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_hook(sums[name].watch).remove)
        yield


def _backward(model: PreTrainedModel, window: Tensor, drawn: torch.Generator) -> None:
    embedded = model.get_input_embeddings()(window[None]).requires_grad_(True)
    with torch.enable_grad():
        # A cache of keys and values would make autograd hold them once more.
        logits = model(inputs_embeds=embedded, use_cache=False).logits
        logits.backward(drawn_derivatives(logits[0].detach(), drawn)[None])


def drawn_derivatives(logits: Tensor, drawn: torch.Generator) -> Tensor:
    """Derivatives (T, V) of the negative log-likelihood of tokens drawn from logits (T, V).

    A derivative is the probability of the token, less 1 for the drawn token. A few tokens are
    processed at a time, because logits are large.
    """
    derivatives = torch.empty_like(logits)
    for rows, out in zip(*_by_rows(logits, derivatives), strict=True):
        shares = torch.softmax(rows.float(), dim=-1)
        tokens = torch.multinomial(shares, 1, generator=drawn)
        out.copy_(shares.scatter_add_(1, tokens, torch.full_like(shares[:, :1], -1.0)))
    return derivatives


def _by_rows(first: Tensor, second: Tensor) -> list[tuple[Tensor, ...]]:
    """Split two tensors with the same number of rows into chunks of rows, sized by the first."""
    count = max(1, _VALUES // first.shape[1])
    return [first.split(count), second.split(count)]


class Sums:
    """Sums over tokens for one layer: diagonal blocks of F, and squared derivatives per output."""

    def __init__(self, layer: nn.Linear):
        size, device = layer.in_features, layer.weight.device
        self._inputs = torch.zeros(size, min(size, BLOCK), device=device)
        self._results = torch.zeros(layer.out_features, device=device)

    def watch(self, layer: nn.Module, inputs: tuple[Tensor, ...], results: Tensor) -> None:
        """Forward hook: add to the sums when the derivatives of the results arrive."""
        vectors = inputs[0].detach().float().flatten(0, -2)
        # An expert to which no token is routed has no derivatives.
        if len(vectors):
            results.register_hook(partial(self._add, vectors))

    def arrays(self) -> dict[str, np.ndarray]:
        """Sums as arrays that share their memory."""
        return {"inputs": self._inputs.numpy(), "results": self._results.numpy()}

    def moment(self, tokens: int) -> Moment:
        """Turn the sums into statistics, in place: the sums are unusable afterwards."""
        mean = self._results.mean()
        shares = self._results / mean if mean > 0 else torch.ones_like(self._results)
        inputs = self._inputs.div_(tokens)
        columns = torch.arange(len(inputs), device=inputs.device)
        diagonal = inputs[columns, columns % BLOCK]
        inputs[columns, columns % BLOCK] = diagonal + SHRINKAGE * diagonal.mean()
        return Moment(inputs.numpy(force=True), shares.numpy(force=True))

    def _add(self, inputs: Tensor, derivatives: Tensor) -> None:
        means = torch.empty(len(inputs), 1, device=inputs.device)
        for rows, out in zip(*_by_rows(derivatives.flatten(0, -2), means), strict=True):
            squares = rows.float() ** 2
            self._results += squares.sum(dim=0)
            torch.mean(squares, dim=1, keepdim=True, out=out)
        weighted = inputs * means
        for columns in blocks(inputs.shape[1]):
            self._inputs[columns, :columns.stop - columns.start] += (
                weighted[:, columns].T @ inputs[:, columns])
