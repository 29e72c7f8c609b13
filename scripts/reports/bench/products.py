"""Generated products to measure with: a matrix, activations, and the expected row sums."""

import numpy as np

from tritstream.golden.activation import quantize_activation
from tritstream.golden.checkpoints.generated import GeneratedTensor
from tritstream.golden.gemv import gemv
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.model_sizes import QWEN25
from tritstream.golden.quantize import quantize
from tritstream.scripts.running.stream import generated_activations

__all__ = ["check_size", "product"]


def check_size(name: str) -> None:
    """Raise :class:`ValueError` unless a Qwen2.5 of this size exists."""
    if name not in QWEN25:
        raise ValueError(f"no size {name!r} of Qwen2.5; there are {', '.join(QWEN25)}")


def product(
    name: str, shape: tuple[int, int], depth: int,
) -> tuple[TritMatrix, np.ndarray, np.ndarray]:
    """Return a matrix (N, K), int8 activations (K,) and golden's row sums, int64 (N,)."""
    matrix = quantize(GeneratedTensor(name, "F32", shape, seed=0).read(), depth, engine=None)
    x, _ = quantize_activation(generated_activations(0, shape[1])[0])
    return matrix, x, gemv(matrix, x)
