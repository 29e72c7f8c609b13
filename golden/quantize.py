"""Quantizer of profile ``tritllm-v2``: weights to integers, scale codes and a scale table.

The scale of a group of 16 weights is the best of four of its magnitudes: those with index 10, 12,
14 and 15 in ascending order. These candidates are part of the published codec: E. Stentzel,
"Balanced Ternary Post-Training Quantization for Large Language Models", 2026, and its code,
https://huggingface.co/Entrit/tritllm-codec, ``compute_optimal_scale``, which takes the order
statistics G-6, G-4, G-2 and G-1 of G weights. Its notes call the four candidates a deliberate
trade of quality for computing time. :func:`.search` tries all 27 codes instead.

All operations are elementwise float32 or sums in a stated order, without fused multiply-add, so
that any implementation can produce the same bits.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from tritstream.golden.fixed_point import GROUP, SCALES, device_table, group_count, half_range
from tritstream.golden.groups import WeightRows, take_groups
from tritstream.golden.kernels import Kernels, load
from tritstream.golden.matrix import Encoded, TritMatrix, whole_coded
from tritstream.golden.rounding import FORM, Form
from tritstream.golden.row_chunks import row_chunks, run_in_threads

__all__ = ["CODEC", "Rounded", "Scaled", "choose_scales", "device_values", "quantize"]

#: Name of the profile in packed checkpoints.
CODEC = "tritllm-v2"


@dataclass(frozen=True, eq=False)
class Rounded(ABC):
    """Matrix with the nearest integers to its weights, computed for the rows that are requested.

    Members
    -------
    weights : WeightRows
        Weights (N, K) of any float dtype.
    depth : int
        Trits per weight, 1..4.
    table : numpy.ndarray
        Scale of each code: float32 (27,).
    kernels : Kernels
        Engine that computes the integers.
    form : tritstream.golden.rounding.Form
        Form in which dequantizing computes a weight.
    """

    weights: WeightRows
    depth:   int
    table:   np.ndarray
    kernels: Kernels
    form:    Form = field(default=FORM, kw_only=True)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows N and columns K, without padding."""
        rows, columns = self.weights.shape
        return rows, columns

    def take_rows(
        self, chunk: slice, groups: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return integers and codes for rows in ``chunk``: int8 (rows, Kp), uint8 (rows, Kp/16).

        Pass their weights as ``groups``, float32 (n, 16), if they are already loaded.
        """
        scales, codes = self.take_scales(chunk)
        groups = take_groups(self.weights, chunk) if groups is None else groups
        q = self.kernels.find_levels(groups, scales.ravel(), half_range(self.depth))
        return q.reshape(len(codes), -1), codes

    @abstractmethod
    def take_scales(self, chunk: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return scales and codes for the rows in ``chunk``: float32 and uint8 (rows, Kp/16).

        A scale is 0 for a group whose integers are all 0.
        """


@dataclass(frozen=True, eq=False)
class Scaled(Rounded):
    """Matrix with chosen group scales, coded by a table that is uniform in log scale.

    Members
    -------
    scales : numpy.ndarray
        Scale of each group before coding: float32 (N, Kp/16).
    edges : numpy.ndarray
        Boundaries between the codes, ascending: float64 (26,), or (0,) if one code is used.
    """

    scales: np.ndarray
    edges:  np.ndarray

    def take_scales(self, chunk: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return scales of the codes, and the codes: see :meth:`.Rounded.take_scales`."""
        scales = self.scales[chunk]
        codes = self.kernels.find_codes(scales, self.edges)
        coded = self.table.take(codes)
        coded[scales == 0] = 0
        return coded, codes


def quantize(
    weights: np.ndarray, depth: int, name: str = "matrix", *, engine: str | None = "numpy",
) -> TritMatrix:
    """Quantize a matrix (N, K) of any float dtype by the profile ``tritllm-v2``.

    The bits of this profile are fixed. One very small or very large group can increase the error
    of all other groups, because the table spans all scales. :func:`.search`, the default method
    for checkpoints, avoids that.

    Parameters
    ----------
    weights : numpy.ndarray
        Weights (N, K).
    depth : int
        Trits per weight, 1..4.
    name : str
        Name of the matrix in error messages.
    engine : str or None
        Engine of :mod:`tritstream.golden.kernels`; None is the fastest one. All engines return
        identical bits.

    Raises :class:`ValueError` for a depth outside 1..4, another shape, or a value that is not
    finite as float32. The message names the matrix and the first such row and column.
    """
    return whole_coded(choose_scales(np.asarray(weights), depth, name, engine=engine))


def choose_scales(
    weights: WeightRows, depth: int, name: str = "matrix", *,
    engine: str | None = "numpy",
) -> Scaled:
    """First pass of :func:`quantize`: choose the scale of each group and fit the table.

    The result computes integers and codes of any rows (second pass). With a reader as
    ``weights``, both passes read a few rows at a time, and the matrix is never completely in
    memory. Parameters and errors are as in :func:`quantize`.
    """
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
    """Return the weights a device computes with, by code and integer: float32 (27, 2h + 1).

    The first column is the integer -h. A device holds scales as 17-bit mantissas.
    """
    half = half_range(matrix.depth)
    return FORM.weights(device_table(matrix.table)[:, None], np.arange(-half, half + 1), half)


def _fit_table(scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a scale table uniform in log scale, float32 (27,), and the edges between its codes.

    There are 26 edges, float64, or 0 if all groups have the same scale.
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
