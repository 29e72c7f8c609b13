"""TritMatrix: a quantized matrix as plain integers."""

from dataclasses import dataclass

import numpy as np

from .fixed import GROUP, SCALES, check_depth, half_range, information_bits, stored_bits

__all__ = ["TritMatrix"]


@dataclass(frozen=True, eq=False)
class TritMatrix:
    """A quantized matrix: ``w[n, k] = table[codes[n, k // 16]] * q[n, k] / h``.

    Parameters
    ----------
    depth : int
        Balanced trits a weight, 1..4.
    shape : (int, int)
        Rows N (outputs) and columns K (inputs), without padding.
    q : int8 (N, Kp)
        Integer weights in -h..h; Kp is K rounded up to 16, the rest zero.
    codes : uint8 (N, Kp / 16)
        Scale codes 0..26.
    table : float32 (27,)
        Scales, positive, in any order.
    """

    depth: int
    shape: tuple[int, int]
    q: np.ndarray
    codes: np.ndarray
    table: np.ndarray

    def __post_init__(self):
        check_depth(self.depth)
        rows, columns = self.shape
        if rows < 1 or columns < 1:
            raise ValueError(f"shape must be positive, not {rows} x {columns}")
        groups = -(-columns // GROUP)
        self._check("q", np.int8, (rows, groups * GROUP))
        self._check("codes", np.uint8, (rows, groups))
        self._check("table", np.float32, (SCALES,))
        if np.abs(self.q.astype(np.int16)).max() > self.half_range:
            raise ValueError(f"q must be in -{self.half_range}..{self.half_range}")
        if self.codes.max() >= SCALES:
            raise ValueError(f"codes must be below {SCALES}, not {self.codes.max()}")
        if not (np.isfinite(self.table).all() and (self.table > 0).all()):
            raise ValueError("table must be finite and positive")

    def _check(self, name, dtype, shape):
        value = getattr(self, name)
        if value.dtype != dtype or value.shape != shape:
            raise ValueError(f"{name} must be {np.dtype(dtype)} {shape}, "
                             f"not {value.dtype} {value.shape}")

    @property
    def rows(self) -> int:
        return self.shape[0]

    @property
    def columns(self) -> int:
        return self.shape[1]

    @property
    def groups(self) -> int:
        """Groups of a row."""
        return self.codes.shape[1]

    @property
    def half_range(self) -> int:
        return half_range(self.depth)

    @property
    def information_bits(self) -> float:
        return information_bits(self.depth)

    @property
    def stored_bits(self) -> float:
        return stored_bits(self.depth)
