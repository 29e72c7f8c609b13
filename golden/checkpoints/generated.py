"""Random weights with the statistics of trained weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np

from tritstream.golden.checkpoints.computed_tensor import ChunkedTensor
from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.row_chunks import row_chunks

__all__ = ["GeneratedTensor"]

#: Tail parameter of Tukey's h distribution: weights are ``z * exp(TAIL * z * z / 2)``, z normal.
_TAIL = 0.05
#: Standard deviations of the logarithms of row and column magnitudes.
_ROWS, _COLUMNS = 0.2, 0.2
#: Share of outlier columns, and the factor of their magnitudes.
_OUTLIERS, _OUTLIER_SIZE = 1 / 256, 3.0


@dataclass(frozen=True)
class GeneratedTensor(ChunkedTensor):
    """Tensor with random values that depend only on its name and a seed: a SourceTensor.

    Rows and columns of a matrix differ in magnitude, and a few columns are outliers. The elements
    of a vector all have the same distribution.

    Members
    -------
    name, dtype : str
        Name of the tensor, and its dtype as safetensors calls it.
    shape : tuple
        One or two sizes, outermost first.
    seed : int
        Random seed.
    center, spread : float
        Mean and standard deviation of the normal distribution behind the values.
    path : Path
        Path to name in messages.
    """

    name:   str
    dtype:  str
    shape:  tuple[int, ...]
    seed:   int
    center: float = 0.0
    spread: float = 0.02
    path:   Path = Path("generated")

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield chunks of rows in order."""
        rows, columns = self.shape if len(self.shape) == 2 else (1, self.shape[0])
        row_sizes, column_sizes = self._sizes(rows, columns)
        random = self._random("values")
        for chunk in row_chunks(rows, columns):
            shape = chunk.stop - chunk.start, columns
            values = _quantiles()[random.integers(0, 1 << 16, shape, np.uint16)]
            values *= row_sizes[chunk] * column_sizes
            values += np.float32(self.center)
            yield values.astype(DTYPES[self.dtype])

    def _sizes(self, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the magnitudes of rows, float32 (N, 1), and of columns, float32 (K,)."""
        if len(self.shape) == 1:
            return np.full((1, 1), self.spread, np.float32), np.ones(columns, np.float32)
        random = self._random("columns")
        sizes = random.lognormal(0, _COLUMNS, columns)
        sizes[random.random(columns) < _OUTLIERS] *= _OUTLIER_SIZE
        row_sizes = self.spread * self._random("rows").lognormal(0, _ROWS, (rows, 1))
        return row_sizes.astype(np.float32), sizes.astype(np.float32)

    def _random(self, part: str) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self.seed, *f"{self.name}.{part}".encode()]))


@cache
def _quantiles() -> np.ndarray:
    """Return 65536 equally likely values: float32 (65536,).

    Looking values up is ten times as fast as drawing normal numbers.
    """
    normal = NormalDist()
    z = np.array([normal.inv_cdf((index + 0.5) / (1 << 16)) for index in range(1 << 16)])
    return (z * np.exp(_TAIL / 2 * z * z)).astype(np.float32)
