"""A scale table of the points that were found: the middle of what each may be."""

import numpy as np

from tritstream.golden.fixed_point import SCALES
from tritstream.golden.recover.lattice import Pieces, scale_of_bits

__all__ = ["choose_table"]


def choose_table(points: np.ndarray, pieces: Pieces) -> np.ndarray:
    """Table float32 (27,), ascending, of at most 27 points (bits of scales, ascending).

    Each entry is the middle of the interval that its groups leave it. A group that several points
    do for binds none of them while one of the middles does for it. Codes too many hold the least
    scale again: the last codes are the ones in use.
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
    """Pieces that hold points, one for each, and the index of the point."""
    first = np.searchsorted(points, pieces.low)
    count = np.searchsorted(points, pieces.high, side="right") - first
    source = np.repeat(np.arange(len(count)), count)
    step = np.arange(source.size) - np.repeat(np.cumsum(count) - count, count)
    return pieces.take(source), first[source] + step


def _middles(points: np.ndarray, pieces: Pieces, point: np.ndarray) -> np.ndarray:
    """Middle of the pieces that bind each point; a point that none binds itself."""
    low, high = np.zeros_like(points), np.full_like(points, np.iinfo(np.int64).max)
    np.maximum.at(low, point, pieces.low)
    np.minimum.at(high, point, pieces.high)
    free = ~np.isin(np.arange(len(points)), point)
    low[free] = high[free] = points[free]
    ends = scale_of_bits(low).astype(np.float64) + scale_of_bits(high)
    return (ends / 2).astype(np.float32)
