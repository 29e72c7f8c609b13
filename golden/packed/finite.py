"""Values that are not finite, counted while the bytes of a tensor are read for another purpose."""

from collections.abc import Iterable, Iterator
from math import prod

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import DTYPES

__all__ = ["FiniteCheck"]

#: Bits of the exponent, all of which are set in NaN and infinities, by dtype; and the integer.
_EXPONENTS = {"BF16": (0x7F80, "<u2"), "F16": (0x7C00, "<u2"), "F32": (0x7F800000, "<u4")}


class FiniteCheck:
    """Counts NaN and infinities of one tensor, a few megabytes at a time.

    Parameters
    ----------
    dtype : str
        Dtype as safetensors names it. Integers, and dtypes that numpy does not hold, have nothing
        to find.
    shape : tuple
        Sizes, outermost first.

    Members
    -------
    nans, infinities : int
        Values found so far.
    """

    def __init__(self, dtype: str, shape: tuple[int, ...]):
        self._dtype, self._shape = dtype, shape
        self._seen, self._first = 0, -1
        self.nans = self.infinities = 0

    def watch(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Hand on the bytes of the tensor, in pieces of complete values, and count on the way."""
        known = DTYPES.get(self._dtype)
        if known is None or known.kind in "biu":
            yield from pieces
            return
        for piece in pieces:
            self._count(np.frombuffer(memoryview(piece).cast("B"), known))
            yield piece

    @property
    def fault(self) -> str | None:
        """One line that says how many values are not finite, and where; None if all are finite."""
        if self._first < 0:
            return None
        count = self.nans + self.infinities
        place = [int(index) for index in np.unravel_index(self._first, self._shape or (1,))]
        verb = "is" if count == 1 else "are"
        return (f"{count} of {prod(self._shape)} values {verb} not finite ({self.nans} NaN, "
                f"{self.infinities} infinite), the first at {place}; a model that uses them stops, "
                "so repair them in the source")

    def _count(self, values: np.ndarray) -> None:
        places = np.flatnonzero(_is_not_finite(values, self._dtype))
        if len(places):
            with np.errstate(invalid="ignore"):
                nans = int(np.isnan(values[places]).sum())
            self.nans, self.infinities = self.nans + nans, self.infinities + len(places) - nans
            if self._first < 0:
                self._first = self._seen + int(places[0])
        self._seen += values.size


def _is_not_finite(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype not in _EXPONENTS:
        with np.errstate(invalid="ignore"):
            return ~np.isfinite(values)
    mask, integer = _EXPONENTS[dtype]
    # Several times as fast as isfinite of bfloat16.
    bits = values.view(integer)
    return (bits & bits.dtype.type(mask)) == mask
