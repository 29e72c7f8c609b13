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

#: Depths, in the order in which they are tried.
DEPTHS = tuple(range(1, MAX_DEPTH + 1))


@dataclass(frozen=True)
class Recovery:
    """Depth, form and scale table from which a matrix was computed.

    Members
    -------
    depth : int
        Trits per weight.
    form : str
        Name of the form of the weights, in :data:`tritstream.golden.rounding.FORMS`.
    table : tuple of float
        Scale table: 27 float32, ascending. Unused entries repeat the least scale.
    distinct : int
        Number of distinct magnitudes except zero.
    negative_zeros : int
        Number of weights that are a negative zero, which becomes a positive zero.
    attempts : tuple of Attempt
        Results of the depths and forms tried, in order.
    """

    depth:          int
    form:           str
    table:          tuple[float, ...]
    distinct:       int
    negative_zeros: int
    attempts:       tuple[Attempt, ...]

    @property
    def scales(self) -> int:
        """Number of different scales."""
        return len(set(self.table))


@dataclass(frozen=True)
class Unfit:
    """Reason why no table of 27 scales was found for a matrix.

    Members
    -------
    reason : str
        One line with the name of the matrix, the nearest fit and the first group that does not
        match.
    distinct : int
        Number of distinct magnitudes except zero, in the rows examined.
    attempts : tuple of Attempt
        Results of the depths and forms tried, in order.
    """

    reason:   str
    distinct: int
    attempts: tuple[Attempt, ...] = ()


class Misfit(ValueError):
    """Raised for a matrix that does not fit; ``unfit`` has the reason."""

    def __init__(self, unfit: Unfit) -> None:
        super().__init__(unfit.reason)
        self.unfit = unfit


def recover(
    weights: np.ndarray, name: str = "matrix", depths: Sequence[int] = DEPTHS,
    likely: str = FORM.name,
) -> Recovery:
    """Find depth, form and scale table of a matrix (N, K) of float16, bfloat16 or float32.

    Returns the first depth, in the order of ``depths``, for which a form produces every weight,
    except for signs of zeros. The form named ``likely`` is tried first, then :data:`.FORMS` in
    order. Raises :class:`Misfit` if no depth and form fit, and :class:`ValueError` for another
    shape or a value that is not finite. The message has the ``name`` of the matrix.
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
    # A search may have given up too early, so the nearest table may fit after all.
    if not wrong.size:
        return _recovery(magnitudes, tried, best, table)
    raise Misfit(Unfit(_left_over(name, weights, best, wrong), magnitudes.bits.size,
                       tuple(fitting.attempt for fitting in tried)))


def ratios(weights: np.ndarray, most: int = 32) -> list[tuple[float, float]]:
    """Return ratios of weights to the largest weight of their group, and their shares.

    Ratios are rounded to thousandths. The result has the ``most`` most frequent ratios, ascending,
    in groups evenly spread over the matrix.
    """
    magnitudes = scan(weights)
    groups = np.abs(pick_groups(weights, magnitudes.groups).astype(np.float64))
    counts = Counter(_over_largest(groups[groups.any(axis=1)]).ravel().tolist())
    return [(ratio, count / counts.total()) for ratio, count in sorted(counts.most_common(most))]


def _candidates(
    magnitudes: Magnitudes, depths: Sequence[int], likely: str,
) -> list[tuple[int, Form]]:
    """Return the depths and forms to try, in order."""
    # Forms that add up digits in the stored dtype are more likely.
    forms = sorted(FORMS.values(), key=lambda form: (
        form.name != likely, isinstance(form, DigitForm) and form.step != magnitudes.dtype))
    return [(depth, form) for depth in depths
            if magnitudes.bits.size <= SCALES * half_range(depth)
            for form in forms if _worthwhile(form, depth, magnitudes)]


def _worthwhile(form: Form, depth: int, magnitudes: Magnitudes) -> bool:
    """Return whether a form may produce values that the forms before it cannot."""
    if not isinstance(form, DigitForm):
        # Every form is rounded to the stored dtype, so this form equals s*q/h.
        return form.name != f"s*q/h via {magnitudes.dtype.name}"
    if depth == 1 or not magnitudes.bits.size:
        return False
    if form.last != form.step:
        return form.step != magnitudes.dtype and form.step != np.float32
    # At depth 2 there is one addition, so the order makes no difference.
    return (depth > 2 or form.order == "low first") and _holds(form.last, magnitudes)


def _holds(dtype: np.dtype, magnitudes: Magnitudes) -> bool:
    """Return whether ``dtype`` can represent all magnitudes, up to rounding to the stored dtype."""
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
    """Return the fitting that reproduces the largest share of its groups, and its table."""
    best, (share, table) = tried[0], tried[0].nearest()
    for fitting in tried[1:]:
        if fitting.hope > share:
            its_share, its_table = fitting.nearest()
            if its_share > share:
                best, share, table = fitting, its_share, its_table
    return best, table


def _left_over(name: str, weights: np.ndarray, best: Fitting, wrong: np.ndarray) -> str:
    """Return a message with the best fit and the first group that does not match."""
    groups = -(-weights.shape[1] // GROUP)
    row, group = divmod(int(wrong[0]), groups)
    first = np.abs(pick_groups(weights, wrong[:1]).astype(np.float64))
    shown = " ".join(f"{ratio:g}" for ratio in np.unique(_over_largest(first)))
    need = f"needs {best.attempt.least} scales and " if best.attempt.least > SCALES else ""
    return (f"{name} does not fit: nearest is d = {best.depth}, {best.form.name}, which {need}"
            f"leaves {wrong.size} of {groups * len(weights)} groups over, the first at row {row}, "
            f"column {GROUP * group}, with ratios {shown}")


def _over_largest(groups: np.ndarray) -> np.ndarray:
    """Return ratios of magnitudes (n, 16) to the largest of their group, to thousandths."""
    return np.round(groups / groups.max(axis=1, keepdims=True), 3)
