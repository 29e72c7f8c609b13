"""Base model of the arena: a model with weights on no quantizer's grid."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tritstream.golden.checkpoints.changed_source import ChangedSource
from tritstream.golden.checkpoints.computed_tensor import ChangedTensor, ChunkedTensor
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.errors import CheckpointError
from tritstream.golden.gguf.source import GgufSource
from tritstream.golden.gguf.tensors import GgufTensor
from tritstream.scripts.console import reports_errors
from tritstream.scripts.options import Force, Output
from tritstream.scripts.weights.checkpoints import write_source

__all__ = ["DitheredTensor", "base", "dithered"]

#: Types whose levels are evenly spaced, with the step as the float16 that a block starts with.
_EVEN = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")


@reports_errors
def base(
    model: Annotated[Path, typer.Argument(
        help=f"GGUF file whose matrices are of the types {', '.join(_EVEN)}, F32, F16 or BF16.")],
    output: Output,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the noise.")] = 0,
    force: Force = False,
):
    """Write a base in bfloat16 from a quantized model, with noise that destroys its grid.

    Each weight of a quantized tensor moves by noise that is uniform within half a step of its block
    on either side. The weights then have every value with the probability density of a weight that
    was rounded to this grid, and no quantizer finds levels in them.
    """
    write_source(dithered(GgufSource(model), seed), output, force, "bfloat16")
    print(f"base: {output}")


def dithered(source: Source, seed: int) -> Source:
    """Return a GGUF source with noise on each quantized tensor.

    Raises :class:`.CheckpointError` for a quantized type whose levels are not evenly spaced.
    """
    return ChangedSource(source, lambda tensors: {
        name: DitheredTensor(tensor, seed)
        if isinstance(tensor, GgufTensor) and tensor.dequantized else tensor
        for name, tensor in tensors.items()})


@dataclass(frozen=True)
class DitheredTensor(ChangedTensor, ChunkedTensor):
    """Quantized GGUF tensor plus noise, uniform in half a step on either side: a SourceTensor.

    The noise is that of ``numpy.random.default_rng([seed, *name])``, with the name in UTF-8, in
    the order of the weights.
    """

    source: GgufTensor
    seed:   int

    dtype = "F32"

    def __post_init__(self):
        kind = self.source.raw.kind.name
        if kind not in _EVEN:
            raise CheckpointError(f"{self.path}: {self.name} is {kind}, whose levels are not "
                                  f"evenly spaced; give a model in {', '.join(_EVEN)}")

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield rows, float32 (rows, K)."""
        noise = np.random.default_rng([self.seed, *self.name.encode()])
        for values, steps in zip(self.source.chunks(), self._steps().chunks(), strict=True):
            yield (values + steps * noise.uniform(-0.5, 0.5, values.shape)).astype(np.float32)

    def _steps(self) -> GgufTensor:
        """Return a tensor with the step of its block in place of each weight."""
        raw = self.source.raw
        return replace(self.source, raw=replace(raw, kind=replace(raw.kind, values=_block_steps(
            raw.kind.weights))))


def _block_steps(weights: int) -> Callable[[np.ndarray], np.ndarray]:
    def steps(blocks: np.ndarray) -> np.ndarray:
        return np.repeat(blocks[:, :2].copy().view("<f2").astype(np.float32), weights, axis=1)
    return steps
