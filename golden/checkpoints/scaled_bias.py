"""Biases of ``quant_method`` bitnet that are multiplied by the scale of their matrix."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tritstream.golden.checkpoints.computed_tensor import ChangedTensor, ChunkedTensor
from tritstream.golden.checkpoints.safetensors_reader import Tensor

__all__ = ["ScaledBias"]


@dataclass(frozen=True)
class ScaledBias(ChangedTensor, ChunkedTensor):
    """Bias of an ``autobitlinear`` layer in float32: a SourceTensor.

    transformers multiplies the sum of products and bias by the scale of the weights, so the bias
    that is added to the results is the stored bias times the scale.
    """

    scale: Tensor

    dtype = "F32"

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the values, float32 (N,)."""
        yield self.source.read().astype(np.float32) * self.scale.read().astype(np.float32)
