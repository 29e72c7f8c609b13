"""Depth of each matrix, chosen for the least loss within a budget of stored bits.

The loss of a matrix at each depth is measured on some of its rows. Every matrix starts at depth 1.
Then the matrix with the greatest gain per bit gets a larger depth, as long as bits are left. These
are greedy steps along the lower convex hull of each matrix's losses, which is optimal except for
the last step (Everett, 1963; Shoham and Gersho, 1988).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np

from tritstream.golden.fixed_point import MAX_DEPTH
from tritstream.golden.groups import WeightRows
from tritstream.golden.matrix import dequantize, whole
from tritstream.golden.quantizers.error_feedback import feed_back
from tritstream.golden.quantizers.moments import Moment
from tritstream.golden.quantizers.registry import Method

__all__ = ["DEPTHS", "Losses", "choose_depths", "measure"]

#: All depths, ascending.
DEPTHS = tuple(range(1, MAX_DEPTH + 1))

#: Number of rows that are measured, and number of chunks of rows, spread over the matrix.
_ROWS, _CHUNKS = 256, 8


@dataclass(frozen=True)
class Losses:
    """Losses and sizes of a matrix (N, K) at the depths 1..4.

    Members
    -------
    losses : tuple of float
        Nats per token with a calibration. Without a calibration, a loss is the number of weights
        times the relative squared error.
    sizes : tuple of int
        Stored bytes, padding and table included.
    """

    shape:  tuple[int, int]
    losses: tuple[float, ...]
    sizes:  tuple[int, ...]

    def bits(self, depth: int) -> int:
        """Return the stored bits of the matrix at a depth."""
        return 8 * self.sizes[depth - 1]


def measure(weights: WeightRows, method: Method, name: str) -> tuple[float, ...]:
    """Return the losses of a matrix at each depth, measured by encoding some of its rows."""
    rows, columns = weights.shape
    chunks = _chunks(rows)
    sample = np.concatenate([weights[chunk] for chunk in chunks]).astype(np.float32)
    indices = np.concatenate([np.arange(chunk.start, chunk.stop) for chunk in chunks])
    moment = method.moment(name, (rows, columns))
    moment = moment and moment.take(indices)
    losses = [_loss(sample, depth, name, method, moment) for depth in DEPTHS]
    return tuple(loss * rows / len(sample) for loss in losses)


def _loss(
    weights: np.ndarray, depth: int, name: str, method: Method, moment: Moment | None,
) -> float:
    if moment is not None:
        matrix = feed_back(weights, depth, moment, name, engine=method.engine,
                           group=method.grouping.length(weights.shape[1]))
        return moment.loss(dequantize(matrix) - weights)
    square = float((weights ** 2).sum(dtype=np.float64))
    errors = dequantize(whole(method.encode(weights, depth, name))) - weights
    return float((errors ** 2).sum(dtype=np.float64)) * weights.size / (square or 1.0)


def choose_depths(losses: Mapping[str, Losses], budget: float) -> dict[str, int]:
    """Return the depth of each matrix, for at most ``budget`` stored bits per weight in total.

    Raises :class:`ValueError` if depth 1 for all matrices exceeds the budget.
    """
    weights = sum(int(np.prod(one.shape)) for one in losses.values())
    depths = dict.fromkeys(losses, 1)
    left = budget * weights - sum(one.bits(1) for one in losses.values())
    if left < 0:
        least = sum(one.bits(1) for one in losses.values()) / weights
        raise ValueError(f"budget must be at least {least:.3f} bits per weight, which is depth 1 "
                         f"everywhere, not {budget}")
    steps = [(-gain, name, depth) for name, one in losses.items()
             for gain, depth in [_next(one, 1)] if depth]
    heapify(steps)
    while steps:
        _, name, depth = heappop(steps)
        cost = losses[name].bits(depth) - losses[name].bits(depths[name])
        if cost > left:
            continue
        left -= cost
        depths[name] = depth
        gain, deeper = _next(losses[name], depth)
        if deeper:
            heappush(steps, (-gain, name, deeper))
    return depths


def _next(one: Losses, depth: int) -> tuple[float, int]:
    """Return the greatest gain per bit from this depth, and its depth; 0 if there is no gain."""
    steps = [((one.losses[depth - 1] - one.losses[deeper - 1])
              / (one.bits(deeper) - one.bits(depth)), deeper)
             for deeper in DEPTHS[depth:]]
    gain, deeper = max(steps, default=(0.0, 0))
    return (gain, deeper) if gain > 0 else (0.0, 0)


def _chunks(count: int) -> list[slice]:
    """Return the rows to measure, of ``count`` rows."""
    if count <= _ROWS:
        return [slice(0, count)]
    size = _ROWS // _CHUNKS
    return [slice(first, first + size)
            for first in (index * (count - size) // (_CHUNKS - 1) for index in range(_CHUNKS))]
