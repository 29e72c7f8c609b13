"""Count of NaN and infinite values, taken while a tensor is read for another purpose."""

from collections.abc import Iterable, Iterator
from math import prod

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import DTYPES

__all__ = ["FiniteCheck"]

#: Mask of the exponent bits, all 1 in NaN and infinities, and integer dtype of the same size.
_EXPONENTS = {"BF16": (0x7F80, "<u2"), "F16": (0x7C00, "<u2"), "F32": (0x7F800000, "<u4")}


class FiniteCheck:
    """Counter of NaN and infinite values in one tensor, a few megabytes at a time.

    Parameters
    ----------
    dtype : str
        Dtype as safetensors calls it. Nothing is counted for integers and unknown dtypes.
    shape : tuple
        Sizes, outermost first.

    Members
    -------
    nans, infinities : int
        Numbers of NaN and of infinite values so far.
    """

    def __init__(self, dtype: str, shape: tuple[int, ...]):
        self._dtype, self._shape = dtype, shape
        self._seen, self._first = 0, -1
        self.nans = self.infinities = 0

    def watch(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the pieces unchanged, and count. Each piece must consist of complete values."""
        known = DTYPES.get(self._dtype)
        if known is None or known.kind in "biu":
            yield from pieces
            return
        for piece in pieces:
            self._count(np.frombuffer(memoryview(piece).cast("B"), known))
            yield piece

    @property
    def fault(self) -> str | None:
        """Line with the number of non-finite values and the first index, None if all are finite."""
        if self._first < 0:
            return None
        count = self.nans + self.infinities
        first = [int(index) for index in np.unravel_index(self._first, self._shape or (1,))]
        verb = "is" if count == 1 else "are"
        return (f"{count} of {prod(self._shape)} values {verb} not finite ({self.nans} NaN, "
                f"{self.infinities} infinite), the first at {first}; a model that uses them stops, "
                "so repair them in the source")

    def _count(self, values: np.ndarray) -> None:
        indices = np.flatnonzero(_is_not_finite(values, self._dtype))
        if len(indices):
            with np.errstate(invalid="ignore"):
                nans = int(np.isnan(values[indices]).sum())
            self.nans, self.infinities = self.nans + nans, self.infinities + len(indices) - nans
            if self._first < 0:
                self._first = self._seen + int(indices[0])
        self._seen += values.size


def _is_not_finite(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype not in _EXPONENTS:
        with np.errstate(invalid="ignore"):
            return ~np.isfinite(values)
    mask, integer = _EXPONENTS[dtype]
    # Several times as fast as numpy.isfinite for bfloat16.
    bits = values.view(integer)
    return (bits & bits.dtype.type(mask)) == mask
