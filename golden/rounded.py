"""Matrices whose integers are the nearest to their weights."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from golden.fixed import half_range
from golden.forms import FORM, Form
from golden.groups import RowReader, take_groups
from golden.kernels import Kernels

__all__ = ["Rounded"]


@dataclass(frozen=True, eq=False)
class Rounded(ABC):
    """A matrix whose integers are the nearest to its weights, found when they are asked for.

    Members
    -------
    weights : numpy.ndarray or RowReader
        Weights (N, K) of any float dtype.
    depth : int
        Trits of a weight.
    table : numpy.ndarray
        float32 (27,): scale of each code.
    kernels : Kernels
        What computes.
    """

    weights: np.ndarray | RowReader
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
