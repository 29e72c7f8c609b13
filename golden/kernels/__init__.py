"""The inner loops of quantizing, behind one interface: :class:`Kernels`.

Two engines implement the interface and return identical bits. ``numpy`` is the reference.
``numba`` is several times as fast. Both work on groups of 16 weights, float32 (n, 16) and finite,
and allocate a few copies of their inputs, so callers pass a few rows at a time. Both release the
GIL.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import numpy as np

__all__ = ["ENGINES", "Kernels", "default_engine", "load"]

#: Modules, by name of the engine.
ENGINES = {
    "numpy": "tritstream.golden.kernels.numpy_engine",
    "numba": "tritstream.golden.kernels.numba_engine",
}


class Kernels(Protocol):
    """Functions of an engine. The module of an engine is such an object.

    ``half`` is the largest magnitude of an integer. ``rint`` rounds half to even. No operations
    are fused, and sums over the 16 weights of a group are in their order.

    Members
    -------
    CHUNK : int
        Rows to pass at a time, as ``times`` of :func:`tritstream.golden.row_chunks.row_chunks`.
    """

    @property
    def CHUNK(self) -> int: ...

    def choose_scales(self, groups: np.ndarray, half: int) -> np.ndarray:
        """Return the ``tritllm-v2`` scale of each group: float32 (n,).

        The candidates are the magnitudes with index 10, 12, 14 and 15, ascending. The first
        candidate with the least squared error is chosen. See :mod:`tritstream.golden.quantize`.
        """

    def find_codes(self, scales: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """Return the number of edges (float64) below each scale (float32): uint8, same shape."""

    def find_levels(self, groups: np.ndarray, scales: np.ndarray, half: int) -> np.ndarray:
        """Return integers for scales (n,): int8 (n, 16).

        ``q = rint(clip(w / s, -1, 1) * half)``, and 0 where ``s`` is 0.
        """

    def best_codes(
        self, groups: np.ndarray, table: np.ndarray, half: int,
        importance: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the code with the least error of each group, and the error.

        The results are uint8 (n,) and float32 (n,). If several codes have the least error, the
        lowest is chosen. If every error of a group overflows, its code is 0. ``table`` is float32
        (27,), positive. The error is the sum of ``importance * (t * t)``, or of ``t * t`` without
        importance, where ``t = |w| - s * q / half`` and ``q`` is as in :meth:`find_levels`.
        ``importance`` is float32 (m, 16), and group ``i`` has row ``i % m``: m is the number of
        groups per matrix row when importance depends on the column.
        """

    def square_sums(
        self, groups: np.ndarray, q: np.ndarray, codes: np.ndarray, values: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return sums of squared errors and of squared weights per group: float64 (n,) each.

        ``q`` is int8 (n, 16) and ``codes`` uint8 (n,). ``values`` has the weight for each code
        and integer: float32 (27, 2h + 1), ``q = -h`` first.
        """

    def count_levels(self, q: np.ndarray, half: int) -> np.ndarray:
        """Return how often each integer -h..h occurs in int8 (rows, n): int64 (2h + 1,)."""

    def pack_tiles(
        self, q: np.ndarray, codes: np.ndarray, digits: np.ndarray, code_digits: np.ndarray,
        depth: int,
    ) -> np.ndarray:
        """Return the tiles of some rows: uint8 (ceil(rows / 5), groups, 16 * depth + 3).

        ``q`` is int8 (rows, 16 * groups) and ``codes`` uint8 (rows, groups). Rows missing in the
        last tile are zeros. ``digits`` is uint32 (256,): byte ``i`` of an entry is digit ``i`` of
        the integer whose low byte is the index. ``code_digits`` (27,) is the same for codes.
        """

    def grid_errors(
        self, groups: np.ndarray, scales: np.ndarray, half: int, importance: np.ndarray,
    ) -> np.ndarray:
        """Return the error of each group at every scale: float32 (n, m).

        Errors are as in :meth:`best_codes`. ``scales`` are float32 (m,), positive, and
        ``importance`` is float32 (n, 16).
        """

    def own_errors(self, groups: np.ndarray, scales: np.ndarray, half: int) -> np.ndarray:
        """Return the error of each group at scales of its own: float32 (n, m).

        Errors are as in :meth:`best_codes`. ``scales`` are float32 (n, m), not negative.
        """

    def level_sums(
        self, groups: np.ndarray, scales: np.ndarray, half: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of ``|w| * |q|`` and of ``q * q`` per group: float32 (n,) each.

        ``q`` is as in :meth:`find_levels`, for scales (n,).
        """

    def feed_back(
        self, weights: np.ndarray, targets: np.ndarray, feedback: np.ndarray,
        importance: np.ndarray, table: np.ndarray, half: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Round columns one after the other, with error feedback (LDLQ).

        ``weights`` are the G columns of one group in n rows, float32 (G, n), and ``targets`` the
        same after the errors of all columns before the group were added. The sum of
        ``feedback[i, j] * e[i]`` over the columns i before column j is added to its target t, in
        their order. Then ``q = rint(clip(t * (half / s), -half, half))``, the error is ``e = w - (s
        / half) * q``, and ``importance[j] * (t - (s / half) * q)^2`` is added to the loss of the
        row. ``half / s`` is at most the largest float32. ``feedback`` is float32 (G, G), and
        ``importance`` float32 (G,). Of the table's 27 scales (float32, positive), the one with the
        least loss is chosen, and the lowest code if several have it. Returns q, int8 (G, n),
        codes, uint8 (n,), and e, float32 (G, n).
        """


def default_engine() -> str:
    """Return the name of the fastest engine that is installed."""
    return "numba" if find_spec("numba") else "numpy"


def load(engine: str | None = None) -> Kernels:
    """Return the kernels of an engine, by default of the fastest one installed.

    Raises :class:`ValueError` if the engine is unknown or not installed.
    """
    engine = engine or default_engine()
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {engine}")
    if engine == "numba" and not find_spec("numba"):
        raise ValueError("engine numba needs the package numba; run pip install "
                         "'tritstream[fast]', or take engine numpy: the bytes are the same")
    return import_module(ENGINES[engine])
