"""The search for smoothing factors: calibration on a text, then a trial of a few for each input."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tritstream.golden.activation import quantize_activation
from tritstream.golden.checkpoints.smoothed import InputSet
from tritstream.golden.matrix import dequantize
from tritstream.golden.quantize import quantize

__all__ = ["ALPHAS", "Choice", "capture_inputs", "choose", "find_factors"]

#: Exponents that are tried; 0 leaves everything as it is.
ALPHAS = tuple(step / 10 for step in range(10))

#: Vectors and rows that a trial is judged by, at most.
_VECTORS, _ROWS = 256, 512
#: Largest channel over the smallest that counts: a channel that is always zero needs no care.
_SPAN = 1e4


@dataclass(frozen=True)
class Choice:
    """What was found for an input set.

    Members
    -------
    inputs : InputSet
    alpha : float
        Exponent of the factors.
    factors : numpy.ndarray
        float32: the factor of each row of the producer.
    before, after : float
        Squared error of the readers' results relative to their squares, weights and activations
        quantized, averaged over the readers: without factors, and with them.
    """

    inputs:  InputSet
    alpha:   float
    factors: np.ndarray
    before:  float
    after:   float


def find_factors(
    model: PreTrainedModel, sets: Sequence[InputSet], windows: Iterable[Tensor], depth: int,
    progress: Callable[[str], None] | None = None,
) -> list[Choice]:
    """Choose factors for every input set of an unquantized model.

    Parameters
    ----------
    model : PreTrainedModel
        As :func:`tritstream.host.model.load.load_model` loads it.
    sets : sequence of InputSet
    windows : iterable of Tensor
        Token ids (T,) of a calibration text.
    depth : int
        Trits of a weight that the model is to be quantized to.
    progress : callable
        Gets the first reader of each set when its choice is made.
    """
    vectors, choices = capture_inputs(model, sets, windows), []
    for inputs in sets:
        weights = [model.get_submodule(name).weight.detach().float().numpy()
                   for name in inputs.readers]
        choices.append(choose(inputs, vectors.pop(inputs.readers[0]), weights, depth))
        if progress:
            progress(inputs.readers[0])
    return choices


@torch.inference_mode()
def capture_inputs(
    model: PreTrainedModel, sets: Sequence[InputSet], windows: Iterable[Tensor],
) -> dict[str, np.ndarray]:
    """What each input set is given for windows of token ids (T,): float32 (all T, K) by reader."""
    found: dict[str, list[Tensor]] = {inputs.readers[0]: [] for inputs in sets}
    hooks = [model.get_submodule(name).register_forward_pre_hook(
        lambda module, inputs, into=into: into.append(inputs[0][0].float()))
        for name, into in found.items()]
    try:
        for window in windows:
            model.model(input_ids=window[None], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(vectors).numpy() for name, vectors in found.items()}


def choose(
    inputs: InputSet, vectors: np.ndarray, weights: Sequence[np.ndarray], depth: int,
) -> Choice:
    """Try factors for one input set and take the best.

    The factor of a channel is a power of how large it is: its root mean square, each vector taken
    relative to its own. ``weights`` are the readers', float32 (N, K).
    """
    largeness = _largeness(inputs, vectors)
    vectors = _thinned(vectors, _VECTORS)
    weights = [_thinned(weight, _ROWS) for weight in weights]
    best, before = None, None
    for alpha in ALPHAS:
        factors = largeness ** np.float32(alpha)
        factors /= np.sqrt(factors.max() * factors.min())
        error = _error(vectors, weights, factors[inputs.channels], depth)
        before = error if before is None else before
        if best is None or error < best.after:
            best = Choice(inputs, alpha, factors, before, error)
    return best


def _largeness(inputs: InputSet, vectors: np.ndarray) -> np.ndarray:
    """Float32, one for each row of the producer, of its largest channel; within _SPAN."""
    size = np.sqrt((vectors ** 2).mean(axis=1, keepdims=True))
    relative = np.divide(vectors, size, out=np.zeros_like(vectors), where=size > 0)
    largest = np.zeros(inputs.channels.max() + 1, np.float32)
    np.maximum.at(largest, inputs.channels, np.sqrt((relative ** 2).mean(axis=0)))
    return np.maximum(largest, largest.max() / _SPAN)


def _error(
    vectors: np.ndarray, weights: Sequence[np.ndarray], factors: np.ndarray, depth: int,
) -> float:
    levels, scales = quantize_activation(vectors / factors)
    rounded = levels.astype(np.float32) * scales[:, None].astype(np.float32)
    errors = []
    for weight in weights:
        exact = vectors @ weight.T
        result = rounded @ dequantize(quantize(weight * factors, depth)).T
        errors.append(((result - exact) ** 2).sum() / (exact ** 2).sum())
    return float(np.mean(errors))


def _thinned(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many rows, evenly spaced."""
    return rows[::-(-len(rows) // most)]
