"""The inner loops of quantizing, behind one interface: :class:`Kernels`.

Two engines have it, and the same bits: ``numpy``, which is the truth, and ``numba``, which is
faster by a multiple. Both work on groups of 16 weights, float32 (n, 16) and finite, and hold no
more than a few copies of what they are given: callers give them a few rows at a time. They compute
outside of the GIL.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import numpy as np

__all__ = ["ENGINES", "Kernels", "default_engine", "load"]

#: Modules by the name of the engine.
ENGINES = {"numpy": "tritstream.golden.kernels.numpy_engine", "numba": "tritstream.golden.kernels.numba_engine"}


class Kernels(Protocol):
    """What an engine can do; a module is one.

    ``half`` is the largest magnitude of an integer; ``rint`` rounds half to even. Nothing is
    fused, sums go over the 16 places in their order.

    Members
    -------
    CHUNK : int
        How much to give at a time, in chunks of :func:`tritstream.golden.row_chunks.row_chunks`.
    """

    CHUNK: int

    def choose_scales(self, groups: np.ndarray, half: int) -> np.ndarray:
        """Scale of each group by ``tritllm-v2``: float32 (n,).

        Of the magnitudes at places 10, 12, 14 and 15, ascending, the first of the least error.
        """

    def find_codes(self, scales: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """Number of edges (float64) smaller than each scale (float32): uint8, of that shape."""

    def find_levels(self, groups: np.ndarray, scales: np.ndarray, half: int) -> np.ndarray:
        """Integers for scales (n,): ``rint(clip(w / s, -1, 1) * half)``, 0 where s is 0, as int8.
        """

    def best_codes(
        self, groups: np.ndarray, table: np.ndarray, half: int,
        importance: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Code of the least error of each group, the lowest of several: uint8 (n,), float32 (n,).

        ``table`` is float32 (27,), positive. The error is the sum of ``importance * (t * t)``, of
        ``t * t`` without importance, ``t = |w| - s * q / half`` for ``q`` as above. ``importance``
        is float32 (m, 16), of which group ``i`` has row ``i % m``: of the columns, m is the groups
        of a row. A group of which every error overflows gets code 0.
        """

    def square_sums(
        self, groups: np.ndarray, q: np.ndarray, codes: np.ndarray, values: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sums of the squares of errors and of weights, of each group: float64 (n,) twice.

        ``q`` is int8 (n, 16), ``codes`` uint8 (n,), ``values`` what they stand for: float32
        (27, 2h + 1), that of ``q = -h`` first.
        """

    def count_levels(self, q: np.ndarray, half: int) -> np.ndarray:
        """How often each integer occurs in int8 (rows, n): int64 (2h + 1,)."""

    def pack_tiles(
        self, q: np.ndarray, codes: np.ndarray, lanes: np.ndarray, code_lanes: np.ndarray,
        depth: int,
    ) -> np.ndarray:
        """Tiles of some rows: uint8 (ceil(rows / 5), groups, 16 * depth + 3).

        Of int8 (rows, 16 * groups) and uint8 (rows, groups); missing rows are zeros. Lanes (uint32,
        256) have the digits of an integer, by its low byte, in their bytes.
        """

    def grid_errors(
        self, groups: np.ndarray, scales: np.ndarray, half: int, importance: np.ndarray,
    ) -> np.ndarray:
        """Errors, as of :meth:`best_codes`, of each group at every scale: float32 (n, m).

        ``scales`` are float32 (m,), positive; ``importance`` is float32 (n, 16).
        """

    def feed_back(
        self, columns: np.ndarray, upper: np.ndarray, table: np.ndarray, half: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Round the columns of a group one after the other, each mending the errors before it.

        Of weights (n, 16), one group of n rows, column j is rounded to ``q`` as above, its error
        ``e = (w - s * q / half) / upper[j, j]``, and ``upper[j, k] * e`` is taken from the columns
        k behind it. Of the table's 27 scales (float32, positive) that with the least sum of
        ``e * e`` is taken, the lowest code of several: int8 (n, 16), codes uint8 (n,), and e,
        float32 (n, 16). ``upper`` is float32 (16, 16).
        """


def default_engine() -> str:
    """The fastest there is here."""
    return "numba" if find_spec("numba") else "numpy"


def load(engine: str | None = None) -> Kernels:
    """Kernels of an engine, by default of the fastest; :class:`ValueError` when it is not there."""
    engine = engine or default_engine()
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {engine}")
    if engine == "numba" and not find_spec("numba"):
        raise ValueError("engine numba needs the package numba; run pip install "
                         "'tritstream[fast]', or take engine numpy: the bytes are the same")
    return import_module(ENGINES[engine])
