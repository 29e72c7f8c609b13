"""Generated products to measure with: a matrix, activations, and what is due."""

import numpy as np

from golden.activation import quantize_activation
from golden.gemv import gemv
from golden.generated import GeneratedTensor
from golden.quantize import TritMatrix, quantize
from golden.sizes import QWEN25
from scripts.running.stream import generated_activations

__all__ = ["check_size", "product"]


def check_size(name: str) -> None:
    """Raise :class:`ValueError` unless there is a Qwen2.5 of this size."""
    if name not in QWEN25:
        raise ValueError(f"no size {name!r} of Qwen2.5; there are {', '.join(QWEN25)}")


def product(
    name: str, shape: tuple[int, int], depth: int,
) -> tuple[TritMatrix, np.ndarray, np.ndarray]:
    """A quantized matrix (N, K), int8 activations (K,) and the row sums int64 (N,) of golden."""
    matrix = quantize(GeneratedTensor(name, "F32", shape, seed=0).read(), depth, engine=None)
    x, _ = quantize_activation(generated_activations(0, shape[1])[0])
    return matrix, x, gemv(matrix, x)
