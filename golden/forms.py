"""Forms: in which order, and with which roundings, a weight was computed of scale and integer.

In real numbers all are ``s * q / h``; a checkpoint that holds the results tells them apart.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np

__all__ = ["FORM", "FORMS", "Form", "rec", "to_dtype"]


@dataclass(frozen=True)
class Form:
    """One way to compute a weight.

    Members
    -------
    name : str
        As packed checkpoints store it.
    order : str
        ``s*q/h``, ``s*(q/h)`` or ``s/h*q``: which of the two operations comes first.
    step, last : numpy.dtype
        What the result of the first operation, and that of the second, is rounded to.
    """

    name:  str
    order: str
    step:  np.dtype
    last:  np.dtype

    def weights(self, scales: np.ndarray, q: np.ndarray, half: int) -> np.ndarray:
        """Weights in float32 of scales (float32) and integers, which broadcast."""
        if self == FORM:
            return rec(scales, q, half)
        q, h = q.astype(np.float32), np.float32(half)
        # A scale that overflows when it is divided is an infinity, and no number times zero.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            if self.order == "s*q/h":
                result = to_dtype(scales * q, self.step) / h
            elif self.order == "s*(q/h)":
                result = scales * to_dtype(q / h, self.step)
            else:
                result = to_dtype(scales / h, self.step) * q
        return to_dtype(result, self.last)


def rec(scales: np.ndarray, q: np.ndarray, half: int) -> np.ndarray:
    """Weights that integers stand for, in float32: ``(s * q) / half``."""
    with np.errstate(over="ignore"):
        product = scales * q.astype(np.float32, copy=False)
    product /= np.float32(half)
    return product


def to_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Float32 values rounded to what ``dtype`` can hold, half to even, still as float32."""
    if dtype == np.float32:
        return values
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(dtype).astype(np.float32)


def _forms() -> dict[str, Form]:
    single = np.dtype(np.float32)
    halves = (("float16", np.dtype(np.float16)), ("bfloat16", np.dtype(ml_dtypes.bfloat16)))
    orders = ("s*q/h", "s*(q/h)", "s/h*q")
    forms = [Form(order, order, single, single) for order in orders]
    forms += [Form(f"{order} in {name}", order, half, half)
              for name, half in halves for order in orders]
    forms += [Form(f"s*q/h via {name}", "s*q/h", single, half) for name, half in halves]
    return {form.name: form for form in forms}


#: By name, in the order in which they are tried. ``in float16``: both results are rounded;
#: ``via float16``: the second only, which hides the order. Scales are not rounded: those of half
#: precision are float32 too.
FORMS = _forms()
#: The form of matrices that name none.
FORM = FORMS["s*q/h"]
