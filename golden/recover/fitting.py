"""Search for the scale table of a matrix at one depth and in one form."""

from dataclasses import dataclass

import numpy as np

from tritstream.golden.fixed_point import GROUP, SCALES, half_range
from tritstream.golden.recover.coder import Coder
from tritstream.golden.recover.cover import pierce, pierce_most
from tritstream.golden.recover.lattice import Lattice, Pieces
from tritstream.golden.recover.magnitudes import Magnitudes, grouped, pick_groups
from tritstream.golden.recover.table import choose_table
from tritstream.golden.rounding import DigitForm, Form
from tritstream.golden.row_chunks import in_threads, row_chunks

__all__ = ["Attempt", "Fitting"]

#: Approximate number of groups to add when a table does not fit some groups of the matrix.
_MORE = 1024

#: Share of a few groups that a form of digits must reproduce to be examined further.
_PROMISING = 0.75

_ONES = np.ones(SCALES, np.float32)


@dataclass(frozen=True)
class Attempt:
    """Result of a depth and a form on the groups examined, which are all different.

    Members
    -------
    depth : int
        Trits per weight.
    form : str
        Name of the form.
    looked : int
        Number of groups examined.
    unfit : int
        Number of these groups that no scale produces.
    least : int
        Lower bound of the number of scales needed, or 0 if it was not computed because some groups
        are unfit.
    """

    depth:  int
    form:   str
    looked: int
    unfit:  int
    least:  int


class Fitting:
    """Search for a scale table on a few groups, repeated with the groups that do not fit.

    ``bits`` (N, K) are the bits of the weights, and ``magnitudes`` their distinct magnitudes.
    """

    def __init__(self, bits: np.ndarray, magnitudes: Magnitudes, depth: int, form: Form) -> None:
        self.depth, self.form, self._half = depth, form, half_range(depth)
        self._bits, self._least = bits, 0
        if isinstance(form, DigitForm):
            self._begin(*magnitudes.of_few(bits))
            if self.hope < _PROMISING:
                return
        self._begin(magnitudes)

    @property
    def attempt(self) -> Attempt:
        """The result so far."""
        return Attempt(self.depth, self.form.name, self._looked, self._unfit, self._least)

    @property
    def hope(self) -> float:
        """Share of the groups examined that some scale produces."""
        return 1 - self._unfit / self._looked

    def run(self) -> np.ndarray | None:
        """Return a table (27,) that produces every group of the matrix, or None if not found."""
        while not self._unfit:
            table = _ONES           # sufficient for a matrix of zeros
            if self._looked:
                points, self._least = pierce(self._pieces, SCALES)
                if points is None:
                    return None
                table = choose_table(points, self._pieces)
            wrong = self.wrong(table)
            if not wrong.size:
                return table
            self._look(np.union1d(self._numbers, wrong[::-(-wrong.size // _MORE)]))
        return None

    def nearest(self) -> tuple[float, np.ndarray]:
        """Return the share of the groups examined that the best table produces, and the table."""
        if not self._pieces.owner.size:
            return 0.0, _ONES
        points, pierced = pierce_most(self._pieces, SCALES)
        return pierced / self._looked, choose_table(points, self._pieces)

    def wrong(self, table: np.ndarray) -> np.ndarray:
        """Return the numbers of the groups that no scale of a table produces, ascending."""
        coder = Coder(table, self._magnitudes.dtype, self.form, self._half)
        groups = -(-self._bits.shape[1] // GROUP)

        def find(rows: slice) -> np.ndarray:
            _, fits = coder.codes(coder.numbers(grouped(self._bits, rows)))
            return np.flatnonzero(~fits) + rows.start * groups

        return np.concatenate(list(in_threads(find, row_chunks(*self._bits.shape))))

    def _begin(self, magnitudes: Magnitudes, least: float = 0.0) -> None:
        """Start with the groups of ``magnitudes``; ``least`` is as in :class:`.Lattice`."""
        self._magnitudes = magnitudes
        self._lattice = Lattice(magnitudes.values, magnitudes.dtype, self.form, self._half, least)
        self._look(magnitudes.groups)

    def _look(self, numbers: np.ndarray) -> None:
        """Set the groups to fit, by their numbers in the matrix."""
        groups = self._magnitudes.indices(pick_groups(self._bits, numbers))
        groups = np.unique(np.sort(groups, axis=1), axis=0)
        groups = groups[groups.any(axis=1)]
        self._numbers, self._looked = numbers, len(groups)
        self._pieces: Pieces = self._lattice.pieces(groups)
        self._unfit = len(groups) - np.unique(self._pieces.owner).size
