"""Relative errors of the groups of a matrix, counted by size so that memory stays small."""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["GroupErrors"]

#: Bins in an octave, as a power of two; bins reach from 2^_LEAST to 2^_MOST.
_BINS, _LEAST, _MOST = 7, -64, 64
#: Bits of a float64: fraction, bias of the exponent.
_FRACTION, _BIAS = 52, 1023
_FIRST = (_BIAS + _LEAST) << _BINS
_COUNT = (_MOST - _LEAST) << _BINS


def _no_groups() -> np.ndarray:
    return np.zeros(_COUNT, np.int64)


@dataclass(eq=False)
class GroupErrors:
    """Histogram of squared errors of groups, each relative to the square of the group's weights.

    Groups without weights do not count. The bins are 0.8 % wide.

    Members
    -------
    counts : numpy.ndarray
        int64: groups by bin.
    vanished : int
        Groups of which no weight is left.
    """

    counts:   np.ndarray = field(default_factory=_no_groups)
    vanished: int = 0

    @classmethod
    def of(cls, errors: np.ndarray, squares: np.ndarray) -> "GroupErrors":
        """Count groups by the sums of squares of their errors and weights: float64 (n,) twice."""
        held = squares > 0
        errors, squares = errors[held], squares[held]
        # The top bits of a positive float64 grow with its logarithm.
        bins = ((errors / squares).view(np.int64) >> (_FRACTION - _BINS)) - _FIRST
        counts = np.bincount(np.clip(bins, 0, _COUNT - 1), minlength=_COUNT)
        # With integers of 0 the two sums are the same.
        return cls(counts, int(np.count_nonzero(errors == squares)))

    def add(self, other: "GroupErrors") -> None:
        """Count the groups of another histogram too."""
        self.counts += other.counts
        self.vanished += other.vanished

    @property
    def groups(self) -> int:
        """Groups that hold weights."""
        return int(self.counts.sum())

    @property
    def median(self) -> float:
        """Median relative error: the lower end of its bin; 0 below the bins and without groups."""
        if not self.groups:
            return 0.0
        place = int(np.searchsorted(self.counts.cumsum(), (self.groups + 1) // 2))
        if not place:
            return 0.0
        return float(np.int64((place + _FIRST) << (_FRACTION - _BINS)).view(np.float64))
