"""Scales of the groups of a matrix: coded by a table, or direct.

*Coded* scales are codes of a table of 27 float32. *Direct* scales are the numbers of the source:
float16, bfloat16 or float32, one per group or one per matrix. A device multiplies group sums by
integer mantissas. A host multiplies the row sums by the *unit*, the value of 1 in a mantissa.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import ml_dtypes
import numpy as np

from tritstream.golden.fixed_point import (
    DIRECT_MANTISSA_BITS,
    MANTISSA_MAX,
    SCALES,
    check_table,
    mantissas,
    table_unit,
)

__all__ = ["CODED", "DIRECT", "INVERSE", "KINDS", "CodedScales", "DirectScales", "Exactness",
           "Rows", "Scales", "direct_mantissas"]

#: Kinds of scales: codes of a table; numbers that weights are multiplied by, or divided by.
CODED, DIRECT, INVERSE = KINDS = ("coded", "direct", "inverse")

#: Rows of a matrix: a slice, or an array of row numbers.
Rows = slice | np.ndarray

_DTYPES = tuple(np.dtype(kind) for kind in (np.float16, ml_dtypes.bfloat16, np.float32))


@dataclass(frozen=True)
class Exactness:
    """How exactly mantissas represent the scales of a matrix.

    Members
    -------
    rows, groups : int
        Number of rows, and of groups of rows, with scales that are not exact.
    error : float
        Largest relative error of a scale; 1 if a scale becomes 0.
    """

    rows:   int
    groups: int
    error:  float


class Scales(ABC):
    """Scales of the groups of a matrix with N rows and C groups per row."""

    @property
    @abstractmethod
    def groups(self) -> int:
        """Groups per row, C."""

    @property
    @abstractmethod
    def units(self) -> np.ndarray:
        """Value of 1 in a mantissa: float64, () for the matrix, or (N,) per row."""

    @abstractmethod
    def values(self, rows: Rows) -> np.ndarray:
        """Return scales that dequantizing uses: float32 (rows, C)."""

    @abstractmethod
    def mantissas(self, rows: Rows) -> np.ndarray:
        """Return factors of group sums: int64 (rows, C)."""

    @property
    @abstractmethod
    def exactness(self) -> Exactness:
        """How exactly the mantissas represent the scales."""


@dataclass(frozen=True, eq=False)
class CodedScales(Scales):
    """Scales by code.

    Members
    -------
    codes : numpy.ndarray
        Code of each group, 0..26: uint8 (N, C).
    table : numpy.ndarray
        Scale of each code, finite and positive: float32 (27,).
    """

    codes: np.ndarray
    table: np.ndarray

    def __post_init__(self) -> None:
        check_table(self.table)
        if self.codes.max() >= SCALES:
            raise ValueError(f"codes must be 0..{SCALES - 1}, not {self.codes.max()}")

    @property
    def rows(self) -> int:
        """Rows N."""
        return len(self.codes)

    def take(self, rows: slice) -> "CodedScales":
        """Return the scales of some rows."""
        return CodedScales(self.codes[rows], self.table)

    @property
    def groups(self) -> int:
        """Groups per row."""
        return self.codes.shape[1]

    @property
    def units(self) -> np.ndarray:
        """Value of 1 in a mantissa: float64 ()."""
        return np.asarray(table_unit(self.table))

    def values(self, rows: Rows) -> np.ndarray:
        """Return scales that dequantizing uses: float32 (rows, C)."""
        return self.table[self.codes[rows]]

    def mantissas(self, rows: Rows) -> np.ndarray:
        """Return factors of group sums: int64 (rows, C)."""
        return self._mantissas[self.codes[rows]]

    @property
    def exactness(self) -> Exactness:
        """How exactly the mantissas represent the scales."""
        # 17 and 24 bits: the products are exact in float64.
        made = self._mantissas * float(self.table.max())
        wanted = self.table.astype(np.float64) * MANTISSA_MAX
        wrong = (made != wanted)[self.codes]
        errors = np.abs(made / wanted - 1)[np.unique(self.codes)]
        return Exactness(int(wrong.any(axis=1).sum()), int(wrong.sum()), float(errors.max()))

    @cached_property
    def _mantissas(self) -> np.ndarray:
        return mantissas(self.table)


@dataclass(frozen=True, eq=False)
class DirectScales(Scales):
    """Scales as the source stores them.

    With one group per row a device multiplies by nothing, and the unit of a row is its scale.

    Members
    -------
    stored : numpy.ndarray
        Stored numbers, finite and not negative: float16, bfloat16 or float32 (N, C), or (1, 1) for
        all rows of a matrix.
    rows : int
        Rows N.
    inverse : bool
        Whether a weight is divided by the stored number. Then the numbers are positive, and a
        scale is ``1 / number`` in float32.

    Raises :class:`ValueError` for other numbers, and names the first.
    """

    stored:  np.ndarray
    rows:    int
    inverse: bool = False

    def __post_init__(self) -> None:
        stored = self.stored
        shaped = stored.ndim == 2 and stored.shape[1] and (
            len(stored) == self.rows or stored.shape == (1, 1))
        if stored.dtype not in _DTYPES or not shaped:
            raise ValueError("scales must be float16, bfloat16 or float32 "
                             f"({self.rows}, C) or (1, 1), not {stored.dtype} {stored.shape}")
        self._check(~np.isfinite(stored) | (stored < 0), "finite and not negative")
        if self.inverse:
            self._check(~np.isfinite(self._all), "invertible as float32")

    def take(self, rows: slice) -> "DirectScales":
        """Return the scales of some rows."""
        single = self.stored.shape == (1, 1)
        return DirectScales(self.stored if single else self.stored[rows], rows.stop - rows.start,
                            self.inverse)

    @property
    def groups(self) -> int:
        """Groups per row."""
        return self.stored.shape[1]

    @property
    def units(self) -> np.ndarray:
        """Value of 1 in a mantissa: float64 (N,), or () for one scale of the matrix."""
        if self.groups > 1:
            return np.ldexp(1.0, self._fixed[1])
        return self._all[:, 0].astype(np.float64) if self.rows == len(self.stored) else (
            np.asarray(self._all[0, 0], np.float64))

    def values(self, rows: Rows) -> np.ndarray:
        """Return scales that dequantizing uses: float32 (rows, C)."""
        return self._per_row(self._all, rows)

    def mantissas(self, rows: Rows) -> np.ndarray:
        """Return factors of group sums: int64 (rows, C), all 1 if there is one group."""
        if self.groups > 1:
            return self._fixed[0][rows]
        return self._per_row(np.ones_like(self._all, np.int64), rows)

    @property
    def exactness(self) -> Exactness:
        """How exactly the mantissas represent the scales."""
        if self.groups == 1:
            return Exactness(0, 0, 0.0)
        found, exponents = self._fixed
        wanted = self._all.astype(np.float64)
        made = np.ldexp(found.astype(np.float64), exponents[:, None])
        wrong = made != wanted
        errors = np.abs(made[wrong] / wanted[wrong] - 1)
        return Exactness(int(wrong.any(axis=1).sum()), int(wrong.sum()),
                         float(errors.max(initial=0.0)))

    @cached_property
    def _all(self) -> np.ndarray:
        """Scales as float32, in the shape of ``stored``."""
        scales = self.stored.astype(np.float32)
        if not self.inverse:
            return scales
        with np.errstate(divide="ignore", over="ignore"):
            return np.float32(1) / scales

    @cached_property
    def _fixed(self) -> tuple[np.ndarray, np.ndarray]:
        return direct_mantissas(self._all)

    def _per_row(self, scales: np.ndarray, rows: Rows) -> np.ndarray:
        return np.broadcast_to(scales, (self.rows, self.groups))[rows]

    def _check(self, wrong: np.ndarray, wanted: str) -> None:
        if wrong.any():
            row, group = np.argwhere(wrong)[0]
            raise ValueError(f"scales must be {wanted}, not {self.stored[row, group]} at row {row},"
                             f" group {group}")


def direct_mantissas(scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 16-bit mantissas and exponents of scales: float (N, C) to int64 (N, C), int64 (N,).

    A scale is about ``m * 2**e``. The exponent of a row is ``floor(log2(max(scales))) - 15``, or
    one more if a mantissa would be rounded to ``2**16``; it is 0 for a row of zeros. Mantissas are
    rounded half to even. They are exact if all scales of the row are multiples of ``2**e``.
    """
    wide = scales.astype(np.float64)
    largest = wide.max(axis=1)
    exponents = np.where(largest > 0, np.frexp(largest)[1] - DIRECT_MANTISSA_BITS, 0)
    exponents += _rounded(largest[:, None], exponents)[:, 0] >> DIRECT_MANTISSA_BITS
    return _rounded(wide, exponents), exponents.astype(np.int64)


def _rounded(wide: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    return np.rint(np.ldexp(wide, -exponents[:, None])).astype(np.int64)
