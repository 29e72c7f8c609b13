"""Scale tables from points: each entry is the middle of the interval that its groups allow."""

import numpy as np

from tritstream.golden.fixed_point import SCALES
from tritstream.golden.recover.lattice import Pieces, scale_of_bits

__all__ = ["choose_table"]


def choose_table(points: np.ndarray, pieces: Pieces) -> np.ndarray:
    """Return a table, float32 (27,), ascending, from at most 27 points (bits of scales, ascending).

    Each entry is the middle of the interval that its groups allow. A group that several points
    serve restricts none of them as long as one of the middles serves it. Unused entries repeat the
    least scale, so that the last codes are the ones in use.
    """
    pieces, point = _hits(points, pieces)
    counts = np.bincount(pieces.owner)
    bound = counts[pieces.owner] == 1
    while True:
        scales = _middles(points, pieces.take(bound), point[bound])
        made = scales[point]
        fits = (scale_of_bits(pieces.low) <= made) & (made <= scale_of_bits(pieces.high))
        left = ~np.isin(pieces.owner, pieces.owner[fits])
        if not left.any():
            spare = SCALES - len(points)
            return np.concatenate([np.repeat(scales[:1], spare), scales])
        _, first = np.unique(pieces.owner[left], return_index=True)
        bound[np.flatnonzero(left)[first]] = True


def _hits(points: np.ndarray, pieces: Pieces) -> tuple[Pieces, np.ndarray]:
    """Return the intervals that contain points, once per point, and the index of the point."""
    first = np.searchsorted(points, pieces.low)
    count = np.searchsorted(points, pieces.high, side="right") - first
    source = np.repeat(np.arange(len(count)), count)
    step = np.arange(source.size) - np.repeat(np.cumsum(count) - count, count)
    return pieces.take(source), first[source] + step


def _middles(points: np.ndarray, pieces: Pieces, point: np.ndarray) -> np.ndarray:
    """Return the middle of the intervals that restrict each point, or the point itself."""
    low, high = np.zeros_like(points), np.full_like(points, np.iinfo(np.int64).max)
    np.maximum.at(low, point, pieces.low)
    np.minimum.at(high, point, pieces.high)
    free = ~np.isin(np.arange(len(points)), point)
    low[free] = high[free] = points[free]
    ends = scale_of_bits(low).astype(np.float64) + scale_of_bits(high)
    return (ends / 2).astype(np.float32)
