"""Histogram of the relative errors of the groups of a matrix, of constant size."""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["GroupErrors"]

#: Logarithm of the number of bins per octave. The bins cover 2^_LEAST to 2^_MOST.
_BINS, _LEAST, _MOST = 7, -64, 64
#: Format of float64: bits of the fraction, bias of the exponent.
_FRACTION, _BIAS = 52, 1023
_FIRST = (_BIAS + _LEAST) << _BINS
_COUNT = (_MOST - _LEAST) << _BINS


def _no_groups() -> np.ndarray:
    return np.zeros(_COUNT, np.int64)


@dataclass(eq=False)
class GroupErrors:
    """Histogram of squared errors of groups, relative to the sum of squares of their weights.

    Groups with only zeros are not counted. A bin is 0.8 % wide.

    Members
    -------
    counts : numpy.ndarray
        Number of groups per bin: int64.
    vanished : int
        Number of groups whose integers are all 0.
    """

    counts:   np.ndarray = field(default_factory=_no_groups)
    vanished: int = 0

    @classmethod
    def of(cls, errors: np.ndarray, squares: np.ndarray) -> "GroupErrors":
        """Count groups, given the sums of squares of errors and of weights: float64 (n,) each."""
        held = squares > 0
        errors, squares = errors[held], squares[held]
        # The top bits of a positive float64 grow with its logarithm.
        bins = ((errors / squares).view(np.int64) >> (_FRACTION - _BINS)) - _FIRST
        counts = np.bincount(np.clip(bins, 0, _COUNT - 1), minlength=_COUNT)
        # If all integers of a group are 0, the two sums are equal.
        return cls(counts, int(np.count_nonzero(errors == squares)))

    def add(self, other: "GroupErrors") -> None:
        """Add the counts of another histogram."""
        self.counts += other.counts
        self.vanished += other.vanished

    @property
    def groups(self) -> int:
        """Number of groups with weights other than zero."""
        return int(self.counts.sum())

    @property
    def median(self) -> float:
        """Median relative error, as lower end of its bin; 0 below the bins and without groups."""
        if not self.groups:
            return 0.0
        index = int(np.searchsorted(self.counts.cumsum(), (self.groups + 1) // 2))
        if not index:
            return 0.0
        return float(np.int64((index + _FIRST) << (_FRACTION - _BINS)).view(np.float64))
