"""Search for smoothing factors: capture inputs on a text, then try several factors per input."""

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
from tritstream.host.model.skeleton import linear_layer

__all__ = ["ALPHAS", "Choice", "capture_inputs", "choose", "find_factors"]

#: Exponents to try; 0 leaves the weights unchanged.
ALPHAS = tuple(step / 10 for step in range(10))

#: Maximum number of vectors and of rows in a trial.
_VECTORS, _ROWS = 256, 512
#: Maximum ratio of the largest channel to the smallest, because a channel may be always zero.
_SPAN = 1e4


@dataclass(frozen=True)
class Choice:
    """Factors chosen for an input set.

    Members
    -------
    inputs : InputSet
    alpha : float
        Exponent of the factors.
    factors : numpy.ndarray
        Factor per row of the producer, float32.
    before, after : float
        Squared error of the readers' results with quantized weights and activations, relative to
        the squares of the exact results, averaged over the readers: without and with factors.
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
        Unquantized model of :func:`.load_model`.
    sets : sequence of InputSet
    windows : iterable of Tensor
        Token ids (T,) of a calibration text.
    depth : int
        Trits per weight of the later quantization.
    progress : callable
        Called with the first reader of each set after its factors are chosen.
    """
    vectors, choices = capture_inputs(model, sets, windows), []
    for inputs in sets:
        weights = [linear_layer(model, name).weight.detach().float().numpy()
                   for name in inputs.readers]
        choices.append(choose(inputs, vectors.pop(inputs.readers[0]), weights, depth))
        if progress:
            progress(inputs.readers[0])
    return choices


@torch.inference_mode()
def capture_inputs(
    model: PreTrainedModel, sets: Sequence[InputSet], windows: Iterable[Tensor],
) -> dict[str, np.ndarray]:
    """Return the inputs of each set for windows of T token ids: float32 (all T, K) by reader."""
    found: dict[str, list[Tensor]] = {inputs.readers[0]: [] for inputs in sets}
    hooks = [model.get_submodule(name).register_forward_pre_hook(
        lambda module, inputs, into=into: into.append(inputs[0][0].float()))
        for name, into in found.items()]
    try:
        for window in windows:
            model.base_model(input_ids=window[None], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(vectors).numpy() for name, vectors in found.items()}


def choose(
    inputs: InputSet, vectors: np.ndarray, weights: Sequence[np.ndarray], depth: int,
) -> Choice:
    """Try factors for one input set, and return the best ones.

    The factor of a channel is a power of its size: the root mean square of its values, each divided
    by the root mean square of its vector.

    Parameters
    ----------
    inputs : InputSet
    vectors : numpy.ndarray
        Captured inputs, float32 (T, K).
    weights : sequence of numpy.ndarray
        Matrices of the readers, float32 (N, K).
    depth : int
        Trits per weight.
    """
    sizes = _sizes(inputs, vectors)
    vectors = _thinned(vectors, _VECTORS)
    weights = [_thinned(weight, _ROWS) for weight in weights]
    factors = {alpha: _factors(sizes, alpha) for alpha in ALPHAS}
    errors = {alpha: _error(vectors, weights, factors[alpha][inputs.channels], depth)
              for alpha in ALPHAS}
    best = min(ALPHAS, key=lambda alpha: errors[alpha])
    return Choice(inputs, best, factors[best], errors[ALPHAS[0]], errors[best])


def _factors(sizes: np.ndarray, alpha: float) -> np.ndarray:
    factors = sizes ** np.float32(alpha)
    return factors / np.sqrt(factors.max() * factors.min())


def _sizes(inputs: InputSet, vectors: np.ndarray) -> np.ndarray:
    """Return the size of the largest channel per row of the producer, float32, within _SPAN."""
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
    """Return at most ``most`` rows, evenly spaced."""
    return rows[::-(-len(rows) // most)]
