"""IEEE 754 by exact fractions: rounding to nearest, ties to even, and bit patterns."""

import math
from fractions import Fraction
from typing import NamedTuple

__all__ = ["BF16", "F16", "F32", "F64", "Format", "from_bits", "rounded", "to_bits"]


class Format(NamedTuple):
    """Bits of a binary format: of its exponent, and of its fraction without the hidden one."""

    exponent: int
    fraction: int

    @property
    def bias(self):
        return (1 << self.exponent - 1) - 1


F16, BF16, F32, F64 = Format(5, 10), Format(8, 7), Format(8, 23), Format(11, 52)


def rounded(value, format):
    """The nearest number of a format: a Fraction, or an infinity."""
    if value == 0 or not math.isfinite(value):
        return value
    step = _step(Fraction(value), format)
    value = round(value / step) * step
    if abs(value) >= Fraction(2) ** (format.bias + 1):
        return math.copysign(math.inf, value)
    return value


def to_bits(value, format):
    """Hex digits of the bit pattern of a number that the format has; zeros have no sign."""
    digits = (1 + format.exponent + format.fraction) // 4
    sign = int(value < 0) << format.exponent + format.fraction
    if not math.isfinite(value):
        bits = (1 << format.exponent) - 1 << format.fraction
    elif value == 0:
        bits = 0
    else:
        step = _step(Fraction(value), format)
        steps = abs(value) / step
        assert steps.denominator == 1
        # The hidden one of a normal number adds one to the exponent's field.
        power = step.numerator.bit_length() - step.denominator.bit_length() + format.fraction
        bits = (power + format.bias - 1 << format.fraction) + steps.numerator
    return f"{sign | bits:0{digits}x}"


def from_bits(text, format):
    """The finite number of a bit pattern."""
    bits = int(text, 16)
    fraction = bits & (1 << format.fraction) - 1
    field = bits >> format.fraction & (1 << format.exponent) - 1
    assert field < (1 << format.exponent) - 1
    sign = -1 if bits >> format.fraction + format.exponent else 1
    steps = fraction + (1 << format.fraction if field else 0)
    return sign * steps * Fraction(2) ** (max(field, 1) - format.bias - format.fraction)


def _step(value, format):
    """Distance of neighbours where a number lies, which is not zero."""
    power = abs(value.numerator).bit_length() - value.denominator.bit_length()
    if Fraction(2) ** power > abs(value):
        power -= 1
    return Fraction(2) ** (max(power, 1 - format.bias) - format.fraction)
