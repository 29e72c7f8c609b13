"""Random weights as they are published after quantization: trits times scales, as floats."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.computed_tensor import ChunkedTensor
from tritstream.golden.checkpoints.generated import GeneratedTensor
from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.fixed_point import GROUP, group_count
from tritstream.golden.matrix import TritMatrix, row_dequantizer
from tritstream.golden.quantize import quantize
from tritstream.golden.row_chunks import row_chunks

__all__ = ["DequantizedTensor"]

#: Shape of the matrix that is quantized to draw groups from: 65536 groups.
_SAMPLE = 1024, 1024
#: Standard deviation of the logarithm of the factor by which tables of scales differ.
_SPREAD = 0.5


@dataclass(frozen=True)
class DequantizedTensor(ChunkedTensor):
    """Matrix of dequantized trits that depends only on its members: a SourceTensor.

    Its groups of 16 weights are drawn from 65536 groups of a random matrix that was quantized. Each
    matrix has a table of 27 scales of its own.

    Members
    -------
    name, dtype : str
        Name of the tensor, and its dtype as safetensors calls it.
    shape : tuple
        Rows and columns.
    seed : int
        Random seed.
    depth : int
        Trits per weight, 1..4.
    path : Path
        Path to name in messages.
    """

    name:  str
    dtype: str
    shape: tuple[int, int]
    seed:  int
    depth: int
    path:  Path = Path("generated")

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield chunks of rows in order."""
        (rows, columns), groups = self.shape, group_count(self.shape[1])
        random = np.random.Generator(np.random.SFC64([self.seed, *self.name.encode()]))
        choices = self._groups(np.float32(random.lognormal(0, _SPREAD)))
        for chunk in row_chunks(rows, columns):
            shape = chunk.stop - chunk.start, groups
            drawn = choices[random.integers(0, len(choices), prod(shape), np.uint16)]
            yield np.ascontiguousarray(drawn.reshape(shape[0], -1)[:, :columns])

    def _groups(self, factor: np.float32) -> np.ndarray:
        """Return the groups to draw from, with scales times a factor, in the dtype: (65536, 16)."""
        sample = _sample(self.depth)
        matrix = replace(sample, table=sample.table * factor)
        dequantize = row_dequantizer(matrix, DTYPES[self.dtype])
        return np.concatenate([dequantize(rows) for rows in row_chunks(*_SAMPLE)]
                              ).reshape(-1, GROUP)


@cache
def _sample(depth: int) -> TritMatrix:
    return quantize(GeneratedTensor("sample", "F32", _SAMPLE, seed=0).read(), depth)
