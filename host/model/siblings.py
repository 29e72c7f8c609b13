"""Products with the same input, which a model asks for one by one, computed together."""

from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Generic, TypeVar

import numpy as np

__all__ = ["Siblings"]

_M = TypeVar("_M", bound=Hashable)


class Siblings(Generic[_M]):
    """Products that are computed together if they had the same input before.

    Modules ask for q, k and v one after the other. When k is asked for with the input that q had,
    it becomes a sibling of q. From then on, all siblings are computed when q is asked for, and k
    and v are already there when they are asked for. A result is used only if the input has the
    same values, so it is correct whatever the model does between. A sibling that was computed and
    not asked for is computed alone from then on.

    Parameters
    ----------
    compute : callable
        Function from matrices and their input (T, K) to one result per matrix.
    """

    def __init__(self, compute: Callable[[Sequence[_M], np.ndarray], Sequence[np.ndarray]]):
        self._compute = compute
        #: By the matrix that is asked for first: the others with the same input, in order.
        self._others: dict[_M, list[_M]] = {}
        self._first: _M | None = None
        self._input: tuple[tuple[int, ...], bytes] = ((), b"")
        self._results: dict[_M, np.ndarray] = {}
        # Inputs and results of two threads must not mix.
        self._lock = Lock()

    def product(self, matrix: _M, x: np.ndarray) -> np.ndarray:
        """Return the result of a matrix for an input (T, K)."""
        with self._lock:
            if self._first is None or (x.shape, x.tobytes()) != self._input:
                return self._begin(matrix, x)
            if matrix in self._results:
                return self._results.pop(matrix)
            others = self._others[self._first]
            if matrix == self._first or matrix in others:       # asked for twice
                return self._begin(matrix, x)
            others.append(matrix)
            return self._compute([matrix], x)[0]

    def _begin(self, matrix: _M, x: np.ndarray) -> np.ndarray:
        """Compute a matrix with a new input, together with its siblings."""
        if self._first is not None:
            self._others[self._first] = [
                other for other in self._others[self._first] if other not in self._results]
        self._first, self._results = None, {}       # stays so if the products fail
        others = self._others.setdefault(matrix, [])
        result, *results = self._compute([matrix, *others], x)
        self._first, self._input = matrix, (x.shape, x.tobytes())
        self._results = dict(zip(others, results, strict=True))
        return result
