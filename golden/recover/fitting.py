"""One depth and one form tried on a matrix."""

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

#: Groups added to those looked at, about, of those that a table turns out not to fit.
_MORE = 1024

#: Share of a few groups that a form of digits must make to be looked at closer.
_PROMISING = 0.75

_ONES = np.ones(SCALES, np.float32)


@dataclass(frozen=True)
class Attempt:
    """How a depth and a form (by its name) did on the groups looked at, which all differ.

    Members
    -------
    looked : int
        Groups looked at.
    unfit : int
        Groups among them that no scale makes.
    least : int
        Scales that they need, at least; 0 when that was not asked, some being unfit.
    """

    depth:  int
    form:   str
    looked: int
    unfit:  int
    least:  int


class Fitting:
    """A search for the scale table, on a few groups; those that it does not fit then join them.

    ``bits`` (N, K) hold the weights, of which ``magnitudes`` are known.
    """

    def __init__(self, bits: np.ndarray, magnitudes: Magnitudes, depth: int, form: Form):
        self.depth, self.form, self._half = depth, form, half_range(depth)
        self._bits, self._least = bits, 0
        if isinstance(form, DigitForm):
            self._begin(*magnitudes.of_few(bits))
            if self.hope < _PROMISING:
                return
        self._begin(magnitudes)

    @property
    def attempt(self) -> Attempt:
        """What there is to tell."""
        return Attempt(self.depth, self.form.name, self._looked, self._unfit, self._least)

    @property
    def hope(self) -> float:
        """Share of the groups looked at that some scale makes."""
        return 1 - self._unfit / self._looked

    def run(self) -> np.ndarray | None:
        """A table (27,) that makes every group of the matrix, None when none was found."""
        while not self._unfit:
            table = _ONES           # which does for zeros
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
        """Share of the groups looked at that a table makes, and the table."""
        if not self._pieces.owner.size:
            return 0.0, _ONES
        points, pierced = pierce_most(self._pieces, SCALES)
        return pierced / self._looked, choose_table(points, self._pieces)

    def wrong(self, table: np.ndarray) -> np.ndarray:
        """Numbers of the groups of the matrix that no scale of a table makes, ascending."""
        coder = Coder(table, self._magnitudes.dtype, self.form, self._half)
        groups = -(-self._bits.shape[1] // GROUP)

        def find(rows: slice) -> np.ndarray:
            _, found = coder.codes(coder.numbers(grouped(self._bits, rows)))
            return np.flatnonzero(~found) + rows.start * groups

        return np.concatenate(list(in_threads(find, row_chunks(*self._bits.shape))))

    def _begin(self, magnitudes: Magnitudes, least: float = 0.0) -> None:
        """Take the groups in which magnitudes were seen; ``least`` is as of :class:`Lattice`."""
        self._magnitudes = magnitudes
        self._lattice = Lattice(magnitudes.values, magnitudes.dtype, self.form, self._half, least)
        self._look(magnitudes.groups)

    def _look(self, numbers: np.ndarray) -> None:
        """Take these groups of the matrix as those to fit."""
        groups = self._magnitudes.indices(pick_groups(self._bits, numbers))
        groups = np.unique(np.sort(groups, axis=1), axis=0)
        groups = groups[groups.any(axis=1)]
        self._numbers, self._looked = numbers, len(groups)
        self._pieces: Pieces = self._lattice.pieces(groups)
        self._unfit = len(groups) - np.unique(self._pieces.owner).size
