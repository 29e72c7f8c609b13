"""Depths of matrices by how much each gains: as few errors as a number of bits allows.

What a matrix loses at each depth is measured on some of its rows. Then every matrix begins at depth
1, and the one that gains most for the bits it takes goes deeper, as long as the bits last: greedy
steps along the lower convex hull of each matrix's losses, which is best but for the last step
(Everett, 1963; Shoham and Gersho, 1988).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np

from tritstream.golden.fixed_point import MAX_DEPTH, SCALES, tiles_shape
from tritstream.golden.groups import WeightRows
from tritstream.golden.matrix import dequantize, whole
from tritstream.golden.quantizers.error_feedback import feed_back
from tritstream.golden.quantizers.moments import Moment
from tritstream.golden.quantizers.registry import Method

__all__ = ["DEPTHS", "Losses", "choose_depths", "measure"]

DEPTHS = tuple(range(1, MAX_DEPTH + 1))

#: Rows that are measured, in so many runs, spread over the matrix.
_ROWS, _RUNS = 256, 8


@dataclass(frozen=True)
class Losses:
    """What a matrix (N, K) loses at each of the depths 1..4.

    Nats a token with a calibration; without, weights times relative squared error.
    """

    shape:  tuple[int, int]
    losses: tuple[float, ...]

    def bits(self, depth: int) -> int:
        """Stored bits of the matrix at a depth: padding and table included."""
        return 8 * int(np.prod(tiles_shape(self.shape, depth))) + 32 * SCALES


def measure(weights: WeightRows, method: Method, name: str) -> Losses:
    """Losses of a matrix by encoding some of its rows at each depth."""
    runs = _runs(weights.shape[0])
    part = np.concatenate([weights[run] for run in runs]).astype(np.float32)
    rows = np.concatenate([np.arange(run.start, run.stop) for run in runs])
    moment = method.moment(name, weights.shape)
    moment = moment and moment.take(rows)
    losses = [_loss(part, depth, name, method, moment) for depth in DEPTHS]
    return Losses(tuple(weights.shape),
                  tuple(loss * weights.shape[0] / len(part) for loss in losses))


def _loss(
    weights: np.ndarray, depth: int, name: str, method: Method, moment: Moment | None,
) -> float:
    if moment is not None:
        matrix = feed_back(weights, depth, moment, name, engine=method.engine)
        return moment.loss(dequantize(matrix) - weights)
    square = float((weights ** 2).sum(dtype=np.float64))
    errors = dequantize(whole(method.encode(weights, depth, name))) - weights
    return float((errors ** 2).sum(dtype=np.float64)) * weights.size / (square or 1.0)


def choose_depths(losses: Mapping[str, Losses], budget: float) -> dict[str, int]:
    """Depth of each matrix such that all take at most ``budget`` stored bits a weight.

    Raises :class:`ValueError` for a budget that depth 1 exceeds.
    """
    weights = sum(int(np.prod(one.shape)) for one in losses.values())
    depths = dict.fromkeys(losses, 1)
    left = budget * weights - sum(one.bits(1) for one in losses.values())
    if left < 0:
        least = sum(one.bits(1) for one in losses.values()) / weights
        raise ValueError(f"budget must be at least {least:.3f} bits a weight, which is depth 1 "
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
    """The greatest gain for a bit from this depth, and the depth it leads to; 0 for none."""
    steps = [((one.losses[depth - 1] - one.losses[deeper - 1])
              / (one.bits(deeper) - one.bits(depth)), deeper)
             for deeper in DEPTHS[depth:]]
    gain, deeper = max(steps, default=(0.0, 0))
    return (gain, deeper) if gain > 0 else (0.0, 0)


def _runs(count: int) -> list[slice]:
    if count <= _ROWS:
        return [slice(0, count)]
    size = _ROWS // _RUNS
    return [slice(first, first + size)
            for first in (run * (count - size) // (_RUNS - 1) for run in range(_RUNS))]
