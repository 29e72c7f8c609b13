"""One-line forms of what most users need; ``import tritstream`` exports them."""

from collections.abc import Iterable

import numpy as np

from tritstream.golden import gemv as reference
from tritstream.golden.activation import quantize_activation
from tritstream.golden.matrix import DirectMatrix, TritMatrix, dequantized_chunks, whole
from tritstream.golden.packed.report import square_sums
from tritstream.golden.quantizers.grouping import GROUPING, Grouping
from tritstream.golden.quantizers.registry import method_of
from tritstream.host.sync_device import SyncDevice

__all__ = ["gemv", "multiply", "quantize", "relative_error"]


def quantize(
    weights: np.ndarray, depth: int = 3, method: str = "search", *, group: int = GROUPING.group,
    scales: str = GROUPING.scales,
) -> TritMatrix | DirectMatrix:
    """Quantize weights (N, K) of any float dtype to ``depth`` balanced ternary digits, 1..4.

    ``group`` consecutive weights of a row share a scale; it is a multiple of 16, and a shorter row
    is one group. ``scales`` are ``coded``, one of 27 per matrix, or ``direct``, a float16 each. The
    result is a :class:`.DirectMatrix` for direct scales.

    Raises :class:`ValueError` for an unknown depth, method, group length or kind of scales, another
    shape, or weights that are not finite or beyond the range of the scales.
    """
    chosen = method_of(method, grouping=Grouping(group, scales))
    return whole(chosen.encode(np.asarray(weights), depth, "matrix"))


def relative_error(weights: np.ndarray, matrix: TritMatrix | DirectMatrix) -> float:
    """Return the squared error of the dequantized weights over the squared sum of the weights."""
    weights = np.asarray(weights)
    if weights.shape != tuple(matrix.shape):
        raise ValueError(f"weights must have shape {tuple(matrix.shape)}, not {weights.shape}")
    chunks: Iterable[tuple[slice, np.ndarray]] = dequantized_chunks(matrix)
    error, total = square_sums(chunks, weights)
    return error / total if total else 0.0


def gemv(
    matrix: TritMatrix | DirectMatrix, x: np.ndarray, device: str | None = None,
) -> np.ndarray:
    """Return the exact row sums of a matrix and int8 activations: (K,) to int64 (N,).

    A batch (B, K) gives (B, N). Without ``device``, numpy computes the sums; with a device such as
    ``"sim:lanes=8"``, the device does. Both give the same integers.
    """
    if device is None:
        return reference.gemv(matrix, x)
    with SyncDevice(device) as opened:
        return opened.gemv(matrix, x)


def multiply(
    matrix: TritMatrix | DirectMatrix, x: np.ndarray, device: str | None = None,
) -> np.ndarray:
    """Return float32 results for float activations: (K,) to (N,), or (B, K) to (B, N).

    Activations are rounded to int8 with one scale per vector. ``device`` is as for :func:`gemv`.
    """
    if device is not None:
        with SyncDevice(device) as opened:
            return opened.multiply(matrix, x)
    levels, scale = quantize_activation(x)
    return reference.results(reference.gemv(matrix, levels), matrix.scales.units, matrix.depth,
                             scale)
