"""Quantizer of profile tritllm-v2: weights to integers, scale codes and a scale table.

Everything is elementwise float32 or a sum in a stated order, without fused multiply-add, so that
any implementation can give the same bits.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from tritstream.golden.fixed_point import (
    GROUP,
    SCALES,
    device_table,
    group_count,
    half_range,
)
from tritstream.golden.groups import WeightRows, take_groups
from tritstream.golden.kernels import Kernels, load
from tritstream.golden.kernels.numpy_arithmetic import levels
from tritstream.golden.matrix import Encoded, TritMatrix, whole
from tritstream.golden.rounding import FORM, Form, rec
from tritstream.golden.row_chunks import row_chunks, run_in_threads

__all__ = [
    "CODEC", "Rounded", "Scaled", "choose_scales", "device_values", "levels", "quantize", "rec",
]

#: Name of the profile in packed checkpoints.
CODEC = "tritllm-v2"


@dataclass(frozen=True, eq=False)
class Rounded(ABC):
    """A matrix whose integers are the nearest to its weights, found when they are asked for.

    Members
    -------
    weights : WeightRows
        Weights (N, K) of any float dtype.
    depth : int
        Trits of a weight.
    table : numpy.ndarray
        float32 (27,): scale of each code.
    kernels : Kernels
        What computes.
    """

    weights: WeightRows
    depth:   int
    table:   np.ndarray
    kernels: Kernels
    form:    Form = field(default=FORM, kw_only=True)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows N and columns K, without padding."""
        return tuple(self.weights.shape)

    def take_rows(
        self, chunk: slice, groups: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Integers and codes of some rows: int8 (rows, Kp) and uint8 (rows, Kp/16)."""
        scales, codes = self.take_scales(chunk)
        groups = take_groups(self.weights, chunk) if groups is None else groups
        q = self.kernels.find_levels(groups, scales.ravel(), half_range(self.depth))
        return q.reshape(len(codes), -1), codes

    @abstractmethod
    def take_scales(self, chunk: slice) -> tuple[np.ndarray, np.ndarray]:
        """Scales, 0 where all integers are, and codes of some rows.

        float32 and uint8 (rows, Kp/16).
        """


@dataclass(frozen=True, eq=False)
class Scaled(Rounded):
    """One whose scales are chosen, and follow from a table even in logarithm.

    Members
    -------
    scales : numpy.ndarray
        float32 (N, Kp/16): the scale of each group, before it is coded.
    edges : numpy.ndarray
        float64: what separates codes.
    """

    scales: np.ndarray
    edges:  np.ndarray

    def take_scales(self, chunk: slice) -> tuple[np.ndarray, np.ndarray]:
        """Those of the codes: :meth:`tritstream.golden.quantize.Rounded.take_scales`."""
        scales = self.scales[chunk]
        codes = self.kernels.find_codes(scales, self.edges)
        coded = self.table.take(codes)
        coded[scales == 0] = 0
        return coded, codes


def quantize(
    weights: np.ndarray, depth: int, name: str = "matrix", *, engine: str | None = "numpy",
) -> TritMatrix:
    """Quantize a matrix (N, K) of any float dtype, a few rows at a time in as many threads.

    This is the profile ``tritllm-v2``, whose bits are fixed. One tiny or huge group can cost the
    others much: :func:`.search`, by which checkpoints are packed unless told
    otherwise, is robust against that.

    Any engine of :mod:`tritstream.golden.kernels` gives the same bits; None is the fastest.

    Raises :class:`ValueError` for a depth outside 1..4, another shape, or a value that is not
    finite as float32 (it names the matrix and the first such place).
    """
    return whole(choose_scales(np.asarray(weights), depth, name, engine=engine))


def choose_scales(
    weights: WeightRows, depth: int, name: str = "matrix", *,
    engine: str | None = "numpy",
) -> Scaled:
    """The same in two steps, of which this is the first; of a reader nobody holds all rows."""
    half, kernels = half_range(depth), load(engine)
    if len(weights.shape) != 2 or 0 in weights.shape:
        raise ValueError(f"{name} must be a matrix with rows and columns, not {weights.shape}")
    rows, groups = weights.shape[0], group_count(weights.shape[1])
    scales = np.empty((rows, groups), np.float32)

    def work(chunk: slice) -> None:
        chosen = kernels.choose_scales(take_groups(weights, chunk, name), half)
        scales[chunk] = chosen.reshape(-1, groups)

    run_in_threads(work, row_chunks(rows, GROUP * groups, times=kernels.CHUNK))
    table, edges = _fit_table(scales)
    return Scaled(weights, int(depth), table, kernels, scales, edges)


def device_values(matrix: Encoded) -> np.ndarray:
    """Weights that a device computes with: float32 (27, 2h + 1), by code and integer, -h first."""
    half = half_range(matrix.depth)
    return FORM.weights(device_table(matrix.table)[:, None], np.arange(-half, half + 1), half)


def _fit_table(scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale table float32 (27,), even in logarithm, and edges between its codes, float64.

    There are 26 edges, or none where one code serves all.
    """
    largest = scales.max()
    if largest == 0:
        return np.ones(SCALES, np.float32), np.empty(0)
    smallest = np.min(scales, where=scales > 0, initial=largest)
    low, high = math.log(float(smallest)), math.log(float(largest))
    step = (high - low) / (SCALES - 1)
    table = np.array([math.exp(low + step * k) for k in range(SCALES)]).astype(np.float32)
    count = SCALES - 1 if high > low else 0
    return table, np.array(sorted(math.exp(low + step * (k + 0.5)) for k in range(count)))
