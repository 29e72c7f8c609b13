"""Forms: the order of operations and the roundings by which a weight is dequantized.

In real numbers all forms are ``s * q / h``. In floating point they differ in the last bits, so a
checkpoint of dequantized weights shows which form made it. A :class:`Form` multiplies the scale
by the integer. A :class:`DigitForm` adds up the values of the integer's balanced ternary digits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

__all__ = ["FORM", "FORMS", "DigitForm", "Form", "float_bits", "magnitude_mask", "rec", "to_dtype"]

_SINGLE = np.dtype(np.float32)
_HALVES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def float_bits(values: np.ndarray) -> np.ndarray:
    """Return floats of 2 or 4 bytes as unsigned integers of the same size, without a copy."""
    return values.view(np.dtype(f"u{values.dtype.itemsize}"))


def magnitude_mask(dtype: np.dtype) -> np.unsignedinteger:
    """Return the mask of all bits of an unsigned dtype except the highest one, the sign."""
    return dtype.type(np.iinfo(dtype).max >> 1)


@dataclass(frozen=True)
class Form:
    """Order of operations and roundings for a weight.

    Members
    -------
    name : str
        Name in packed checkpoints.
    order : str
        Order of the two operations: ``s*q/h``, ``s*(q/h)`` or ``s/h*q``.
    step, last : numpy.dtype
        Dtypes to which the results of the first and of the second operation are rounded.
    """

    name:  str
    order: str
    step:  np.dtype
    last:  np.dtype

    def weights(self, scales: np.ndarray, q: np.ndarray, half: int) -> np.ndarray:
        """Return float32 weights for scales (float32) and integers, which broadcast."""
        if self == FORM:
            return rec(scales, q, half)
        q, h = q.astype(np.float32), np.float32(half)
        # A division may overflow to infinity, and infinity times an integer 0 is NaN.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            if self.order == "s*q/h":
                result = to_dtype(scales * q, self.step) / h
            elif self.order == "s*(q/h)":
                result = scales * to_dtype(q / h, self.step)
            else:
                result = to_dtype(scales / h, self.step) * q
        return to_dtype(result, self.last)


def rec(scales: np.ndarray, q: np.ndarray, half: int) -> np.ndarray:
    """Return float32 weights ``(s * q) / half``, the form of matrices that name no form."""
    with np.errstate(over="ignore"):
        product = scales * q.astype(np.float32, copy=False)
    product /= np.float32(half)
    return product


def to_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return float32 values rounded to the precision of ``dtype``, half to even, as float32."""
    if dtype == np.float32:
        return values
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(dtype).astype(np.float32)


#: Rounds float32 values to the dtype in which a form computes.
_Round = Callable[[np.ndarray], np.ndarray]
#: Returns the value of a digit +1, from scales, the digit's index, powers of three, h, rounding.
_Plane = Callable[[np.ndarray, int, np.ndarray, np.float32, _Round], np.ndarray]


def _top(s: np.ndarray, p: np.ndarray, h: np.float32) -> np.ndarray:
    """Return ``z = s * m / h``, the scale of the highest digit, whose power of three is ``m``."""
    return s * p[-1] / h


def _rising(s: np.ndarray, i: int, p: np.ndarray, h: np.float32, r: _Round) -> np.ndarray:
    plane = r(s / h)
    for _ in range(i):
        plane = r(plane * p[1])
    return plane


def _falling(s: np.ndarray, i: int, p: np.ndarray, h: np.float32, r: _Round) -> np.ndarray:
    plane = r(_top(s, p, h))
    for _ in range(len(p) - 1 - i):
        plane = r(plane / p[1])
    return plane


#: Rules for the values of digits, by their part of a form's name. ``t`` is a digit, ``p`` its power
#: of three, ``P`` the value of the digit before it, ``R`` a rounding, ``z`` and ``m`` as in _top.
_PLANES: dict[str, _Plane] = {
    "sum t*R(s*p/h)":    lambda s, i, p, h, r: r(s * p[i] / h),
    "sum t*R(R(s*p)/h)": lambda s, i, p, h, r: r(r(s * p[i]) / h),
    "sum t*R(s*R(p/h))": lambda s, i, p, h, r: r(s * r(p[i] / h)),
    "sum t*R(R(s/h)*p)": lambda s, i, p, h, r: r(r(s / h) * p[i]),
    "sum t*R(z*R(p/m))": lambda s, i, p, h, r: r(_top(s, p, h) * r(p[i] / p[-1])),
    "sum t*R(3*P)":      _rising,
    "sum t*R(P/3)":      _falling,
    "(sum t*R(s*p))/h":  lambda s, i, p, h, r: r(s * p[i]),
    "s*(sum t*R(p/h))":  lambda s, i, p, h, r: r(p[i] / h),
    "z*(sum t*R(p/m))":  lambda s, i, p, h, r: r(p[i] / p[-1]),
}
_SINGLE_RULES = ("sum t*R(s*p/h)", "sum t*R(s*R(p/h))", "sum t*R(R(s/h)*p)", "sum t*R(3*P)",
                 "(sum t*R(s*p))/h", "s*(sum t*R(p/h))")
_ORDERS = ("low first", "high first", "at once")


@dataclass(frozen=True)
class DigitForm(Form):
    """Form that adds up a weight from the digits of its integer, ``q = sum t_i * 3^i``.

    ``order`` is ``low first`` or ``high first`` if each addition is rounded to ``step``, and
    ``at once`` if only the complete sum is rounded.

    Members
    -------
    rule : str
        Rule for the values of the digits, and the operation after a sum in parentheses.
    """

    rule: str

    @property
    def has_planes(self) -> bool:
        """Whether the values of digits are floats of 16 bits, so that there are few of them."""
        return self.step != _SINGLE and self.rule[1] != "*"

    def plane(self, scales: np.ndarray, number: int, half: int) -> np.ndarray:
        """Return the value of digit ``number`` (0 is the lowest) when it is +1: float32."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return _PLANES[self.rule](scales, number, _powers(half), np.float32(half), self._round)

    def planes(self, scales: np.ndarray, half: int) -> list[np.ndarray]:
        """Return :meth:`plane` of all digits, the lowest first."""
        return [self.plane(scales, number, half) for number in range(len(_powers(half)))]

    def weights(self, scales: np.ndarray, q: np.ndarray, half: int) -> np.ndarray:
        """Return float32 weights for scales (float32) and integers, which broadcast."""
        return self.add(self.planes(scales, half), scales, q, half)

    def add(
        self, planes: list[np.ndarray], scales: np.ndarray, q: np.ndarray, half: int,
    ) -> np.ndarray:
        """Return float32 weights for scales whose :meth:`planes` are already computed."""
        # Infinities of opposite signs add up to NaN.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            terms = [plane * digit for plane, digit in zip(planes, _digits(q, half), strict=True)]
            total = self._finish(self._sum(terms), scales, half)
        return to_dtype(total, self.last)

    def _round(self, values: np.ndarray) -> np.ndarray:
        return to_dtype(values, self.step)

    def _sum(self, terms: Sequence[np.ndarray]) -> np.ndarray:
        first, *others = terms[::-1] if self.order == "high first" else terms
        for term in others:
            first = first + term
            if self.order != "at once":
                first = self._round(first)
        return to_dtype(first, self.last)

    def _finish(self, total: np.ndarray, scales: np.ndarray, half: int) -> np.ndarray:
        if self.rule.startswith("("):
            return total / np.float32(half)
        if self.rule.startswith("s*"):
            return scales * total
        if self.rule.startswith("z*"):
            return _top(scales, _powers(half), np.float32(half)) * total
        return total


def _powers(half: int) -> np.ndarray:
    """Return 3^0, 3^1 and so on, one power per digit: float32."""
    return np.array([power for power in (1, 3, 9, 27) if power <= half], np.float32)


def _digits(q: np.ndarray, half: int) -> list[np.ndarray]:
    """Return the digits -1, 0, 1 of integers, the lowest first: float32."""
    return [((q + half) // int(power) % 3 - 1).astype(np.float32) for power in _powers(half)]


def _product_forms() -> list[Form]:
    orders = ("s*q/h", "s*(q/h)", "s/h*q")
    forms = [Form(order, order, _SINGLE, _SINGLE) for order in orders]
    forms += [Form(f"{order} in {name}", order, half, half)
              for name, half in _HALVES.items() for order in orders]
    return forms + [Form(f"s*q/h via {name}", "s*q/h", _SINGLE, half)
                    for name, half in _HALVES.items()]


def _digit_forms() -> list[DigitForm]:
    # In 16 bits, R(s/h)*p is left out, because s*p/h gives the same values for another scale. In
    # float32, R(s*p)/h equals s*p/h, and the rules with z are left out, because z does not take
    # every value, so that some stored float32 values would have no table entry.
    forms = [DigitForm(f"{rule} {order} in {name}", order, half, half, rule)
             for name, half in _HALVES.items() for rule in _PLANES for order in _ORDERS
             if rule != "sum t*R(R(s/h)*p)"]
    forms += [DigitForm(f"{rule} {order} in float32", order, _SINGLE, _SINGLE, rule)
              for rule in _SINGLE_RULES for order in _ORDERS[:2]]
    return forms + [DigitForm(f"{rule} unrounded in {name}", "at once", half, _SINGLE, rule)
                    for name, half in _HALVES.items() for rule in _PLANES
                    if rule.startswith("sum") and rule != "sum t*R(R(s/h)*p)"]


#: Forms by name, in the order in which recovery tries them. ``in float16``: both results are
#: rounded. ``via float16``: only the second result is rounded, which hides the order. Scales are
#: not rounded, because every half-precision scale is also a float32.
FORMS: dict[str, Form] = {form.name: form for form in (*_product_forms(), *_digit_forms())}
#: Form of matrices that name no form.
FORM = FORMS["s*q/h"]
