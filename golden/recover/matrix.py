"""Depth, form and scale table of a matrix that holds dequantized weights."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tritstream.golden.fixed_point import GROUP, MAX_DEPTH, SCALES, half_range
from tritstream.golden.recover.fitting import Attempt, Fitting
from tritstream.golden.recover.magnitudes import MAX_DISTINCT, Magnitudes, pick_groups, scan
from tritstream.golden.rounding import FORM, FORMS, DigitForm, Form, float_bits, to_dtype

__all__ = ["DEPTHS", "Misfit", "Recovery", "Unfit", "ratios", "recover"]

#: Depths in the order in which they are tried.
DEPTHS = tuple(range(1, MAX_DEPTH + 1))


@dataclass(frozen=True)
class Recovery:
    """What a matrix was made of.

    Members
    -------
    depth : int
        Trits of a weight.
    form : str
        Name of the form of :data:`tritstream.golden.rounding.FORMS` in which weights were computed.
    table : tuple of float
        27 float32, ascending; codes that are too many hold the least scale again.
    distinct : int
        Distinct magnitudes but zero.
    negative_zeros : int
        Weights that are a negative zero, which becomes a zero.
    attempts : tuple of Attempt
        What was tried, in order.
    """

    depth:          int
    form:           str
    table:          tuple[float, ...]
    distinct:       int
    negative_zeros: int
    attempts:       tuple[Attempt, ...]

    @property
    def scales(self) -> int:
        """Different scales."""
        return len(set(self.table))


@dataclass(frozen=True)
class Unfit:
    """Why no table of 27 scales makes a matrix, or none was found.

    Members
    -------
    reason : str
        One line that names the matrix, the nearest fit and the first group that it leaves over.
    distinct : int
        Distinct magnitudes but zero; of as many rows as were looked at.
    attempts : tuple of Attempt
        What was tried, in order.
    """

    reason:   str
    distinct: int
    attempts: tuple[Attempt, ...] = ()


class Misfit(ValueError):
    """A matrix that does not fit; ``unfit`` says why."""

    def __init__(self, unfit: Unfit):
        super().__init__(unfit.reason)
        self.unfit = unfit


def recover(
    weights: np.ndarray, name: str = "matrix", depths: Sequence[int] = DEPTHS,
    likely: str = FORM.name,
) -> Recovery:
    """Find what a matrix (N, K) of float16, bfloat16 or float32 was made of.

    Takes the first of ``depths``, and for it the form named ``likely`` or the first of
    :data:`.FORMS`, that makes every weight, but for signs of zeros. Raises
    :class:`Misfit` when none does, and :class:`ValueError` for another shape or a value that is not
    finite; both name the matrix.
    """
    magnitudes = scan(weights, name)
    bits = float_bits(weights)
    if magnitudes.bits.size > SCALES * half_range(max(depths)):
        raise Misfit(Unfit(_too_many(name, magnitudes, max(depths)), magnitudes.bits.size))
    tried: list[Fitting] = []
    for depth, form in _candidates(magnitudes, depths, likely):
        tried.append(Fitting(bits, magnitudes, depth, form))
        table = tried[-1].run()
        if table is not None:
            return _recovery(magnitudes, tried, tried[-1], table)
    best, table = _nearest(tried)
    wrong = best.wrong(table)
    # A search may give up too early, and what was to be reported turn out to fit.
    if not wrong.size:
        return _recovery(magnitudes, tried, best, table)
    raise Misfit(Unfit(_left_over(name, weights, best, wrong), magnitudes.bits.size,
                       tuple(one.attempt for one in tried)))


def ratios(weights: np.ndarray, most: int = 32) -> list[tuple[float, float]]:
    """What weights are over the largest of their group: ratios in thousandths, and their shares.

    The most frequent ones, in groups evenly spread over the matrix.
    """
    magnitudes = scan(weights)
    groups = np.abs(pick_groups(weights, magnitudes.groups).astype(np.float64))
    found = Counter(_over_largest(groups[groups.any(axis=1)]).ravel().tolist())
    return [(ratio, count / found.total()) for ratio, count in sorted(found.most_common(most))]


def _candidates(
    magnitudes: Magnitudes, depths: Sequence[int], likely: str,
) -> list[tuple[int, Form]]:
    """Depths and forms to try, in order."""
    # Digits that were added up in what they are stored in are the likelier ones.
    forms = sorted(FORMS.values(), key=lambda form: (
        form.name != likely, isinstance(form, DigitForm) and form.step != magnitudes.dtype))
    return [(depth, form) for depth in depths
            if magnitudes.bits.size <= SCALES * half_range(depth)
            for form in forms if _worthwhile(form, depth, magnitudes)]


def _worthwhile(form: Form, depth: int, magnitudes: Magnitudes) -> bool:
    """Whether a form may give what those before it do not."""
    if not isinstance(form, DigitForm):
        return form.name != f"s*q/h via {magnitudes.dtype.name}"        # which every form is
    if depth == 1 or not magnitudes.bits.size:
        return False
    if form.last != form.step:
        return form.step != magnitudes.dtype and form.step != np.float32
    # One addition has no order, and is rounded once.
    return (depth > 2 or form.order == "low first") and _holds(form.last, magnitudes)


def _holds(dtype: np.dtype, magnitudes: Magnitudes) -> bool:
    """Whether a dtype has all magnitudes, as far as that of the matrix has its values."""
    values = magnitudes.values
    with np.errstate(over="ignore", under="ignore"):
        held = to_dtype(to_dtype(values, dtype), magnitudes.dtype)
    return magnitudes.dtype.itemsize < dtype.itemsize or bool((held == values).all())


def _too_many(name: str, magnitudes: Magnitudes, depth: int) -> str:
    if magnitudes.too_many:
        return (f"{name} does not fit: more than {MAX_DISTINCT} distinct magnitudes in its first "
                f"{magnitudes.rows} rows, which is not what 27 scales make")
    return (f"{name} does not fit: {magnitudes.bits.size} distinct magnitudes, of which 27 scales "
            f"make at most {SCALES * half_range(depth)} at d = {depth}")


def _recovery(
    magnitudes: Magnitudes, tried: Sequence[Fitting], fitting: Fitting, table: np.ndarray,
) -> Recovery:
    return Recovery(fitting.depth, fitting.form.name, tuple(table.tolist()), magnitudes.bits.size,
                    magnitudes.negative_zeros, tuple(one.attempt for one in tried))


def _nearest(tried: Sequence[Fitting]) -> tuple[Fitting, np.ndarray]:
    """Which leaves the fewest of the groups looked at over, and its table."""
    best, share, table = tried[0], -1.0, None
    for fitting in tried:
        if fitting.hope > share:
            its_share, its_table = fitting.nearest()
            if its_share > share:
                best, share, table = fitting, its_share, its_table
    return best, table


def _left_over(name: str, weights: np.ndarray, best: Fitting, wrong: np.ndarray) -> str:
    """Message with the best fit and the first group that it leaves over."""
    groups = -(-weights.shape[1] // GROUP)
    row, place = divmod(int(wrong[0]), groups)
    first = np.abs(pick_groups(weights, wrong[:1]).astype(np.float64))
    shown = " ".join(f"{ratio:g}" for ratio in np.unique(_over_largest(first)))
    need = f"needs {best.attempt.least} scales and " if best.attempt.least > SCALES else ""
    return (f"{name} does not fit: nearest is d = {best.depth}, {best.form.name}, which {need}"
            f"leaves {wrong.size} of {groups * len(weights)} groups over, the first at row {row}, "
            f"column {GROUP * place}, with ratios {shown}")


def _over_largest(groups: np.ndarray) -> np.ndarray:
    """Magnitudes (n, 16) over the largest of their group, in thousandths."""
    return np.round(groups / groups.max(axis=1, keepdims=True), 3)
