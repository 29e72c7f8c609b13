"""How functions are compiled: by numba, with the arithmetic of numpy and nothing else."""

from collections.abc import Callable

from numba import njit

__all__ = ["OPTIONS", "compiled", "inlined"]

#: Division as numpy does it, with no check of the divisor. No ``fastmath``: nothing may be
#: reordered, fused or flushed to zero.
OPTIONS = {"error_model": "numpy", "fastmath": False}


def compiled(function: Callable) -> Callable:
    """A function that runs outside of the GIL; compiled once a machine, where it can be kept."""
    try:
        return njit(function, nogil=True, cache=True, **OPTIONS)
    except RuntimeError:
        # Neither this directory nor the user's can be written; then once a process.
        return njit(function, nogil=True, **OPTIONS)


def inlined(function: Callable) -> Callable:
    """A part of compiled functions, copied into them."""
    return njit(function, inline="always", **OPTIONS)
