"""Few scales for many groups: points that pierce intervals or unions of intervals."""

import numpy as np

from tritstream.golden.recover.lattice import Pieces

__all__ = ["pierce", "pierce_most"]

#: Number of exchanges of a point before a search gives up.
_EXCHANGES = 5000
#: Largest number of groups with several intervals to search; those with the fewest are taken.
_LOOSE = 1500


def pierce(pieces: Pieces, limit: int) -> tuple[np.ndarray | None, int]:
    """Find at most ``limit`` points that pierce an interval of each group.

    Returns the points, which are bits of scales, ascending, and a lower bound of the number of
    points needed. The points are None if they do not exist or were not found.
    """
    tight, loose = _reduce(pieces)
    points = _stab(tight)
    if not loose.owner.size or len(points) > limit:
        return (np.array(points) if len(points) <= limit else None), len(points)
    cover = _Cover(_joined(tight, loose))
    least = cover.least()
    return (cover.search(limit) if least <= limit else None), least


def pierce_most(pieces: Pieces, limit: int) -> tuple[np.ndarray, int]:
    """Find at most ``limit`` points that pierce many groups; return them and that number."""
    cover = _Cover(pieces)
    chosen = cover.greedy(limit)
    return np.sort(cover.points[chosen]), cover.count(chosen)


class _Cover:
    """Matrix of groups (rows, fewest candidates first) and candidate points (columns).

    The right ends of intervals are sufficient candidates, because any other point can move right
    to the next one.
    """

    def __init__(self, pieces: Pieces) -> None:
        self.points = np.unique(pieces.high)
        _, owner = np.unique(pieces.owner, return_inverse=True)
        table = np.zeros((owner.max() + 1, self.points.size + 1), np.int8)
        np.add.at(table, (owner, np.searchsorted(self.points, pieces.low)), 1)
        np.add.at(table, (owner, np.searchsorted(self.points, pieces.high) + 1), -1)
        np.cumsum(table, axis=1, out=table)
        choices = np.count_nonzero(table, axis=1)
        self._pierced = table[np.argsort(choices, kind="stable"), :-1].view(bool)

    def least(self) -> int:
        """Return a lower bound of the number of points: groups without common candidates."""
        used = np.zeros(self.points.size, bool)
        count = 0
        for row in self._pierced:
            if not (row & used).any():
                used |= row
                count += 1
        return count

    def greedy(self, limit: int) -> list[int]:
        """Return at most ``limit`` candidates, each with the most newly pierced groups."""
        chosen: list[int] = []
        still = np.ones(len(self._pierced), bool)
        gain = np.count_nonzero(self._pierced, axis=0)
        while still.any() and len(chosen) < limit:
            chosen.append(int(gain.argmax()))
            new = still & self._pierced[:, chosen[-1]]
            gain -= np.count_nonzero(self._pierced[new], axis=0)
            still &= ~new
        return chosen

    def count(self, chosen: list[int]) -> int:
        """Return the number of groups that these candidates pierce."""
        return int(np.count_nonzero(self._pierced[:, chosen].any(axis=1)))

    def search(self, limit: int) -> np.ndarray | None:
        """Return points that pierce every group, ascending, or None if none were found.

        A greedy choice is improved by exchanges. The point with the least loss is removed, and the
        best point for a group that is not pierced is added. The weight of a group grows while it
        is not pierced.
        """
        rng = np.random.default_rng(0)
        chosen = self.greedy(limit)
        weights = np.ones(len(self._pierced))
        for _ in range(_EXCHANGES):
            counts = np.count_nonzero(self._pierced[:, chosen], axis=1)
            if counts.all():
                return np.sort(self.points[chosen])
            weights[counts == 0] += 1
            losses = (weights * (counts == 1)) @ self._pierced[:, chosen]
            gone = chosen.pop(int(losses.argmin()))
            still = ~self._pierced[:, chosen].any(axis=1)
            group = rng.choice(np.flatnonzero(counts == 0))
            choices = np.flatnonzero(self._pierced[group])
            gains = weights[still] @ self._pierced[np.ix_(still, choices)]
            gains[choices == gone] = -1
            chosen.append(int(choices[gains.argmax()]))
        return None


def _reduce(pieces: Pieces) -> tuple[Pieces, Pieces]:
    """Drop groups that are pierced whenever another group is; return two kinds of groups.

    The first have one interval each, which contains no other such interval. The second have
    several intervals, none of which contains an interval of the first. A point that pierces an
    interval also pierces all intervals that contain it.
    """
    single = np.bincount(pieces.owner)[pieces.owner] == 1
    tight, loose = pieces.take(single), pieces.take(~single)
    if tight.owner.size:
        tight = tight.take(np.lexsort((-tight.high, tight.low)))
        least = np.minimum.accumulate(tight.high[::-1])[::-1]
        tight = tight.take(np.append(tight.high[:-1] < least[1:], True))
    after = np.searchsorted(tight.low, loose.low)
    holds = np.append(tight.high, np.iinfo(np.int64).max)[after] <= loose.high
    return tight, _fewest(loose.take(~np.isin(loose.owner, loose.owner[holds])))


def _fewest(pieces: Pieces) -> Pieces:
    """Return the groups with the fewest intervals if there are too many groups."""
    owners, counts = np.unique(pieces.owner, return_counts=True)
    chosen = owners[np.argsort(counts, kind="stable")[:_LOOSE]]
    return pieces.take(np.isin(pieces.owner, chosen))


def _stab(tight: Pieces) -> list[int]:
    """Return the fewest points (right ends) that pierce intervals sorted by both ends."""
    points: list[int] = []
    for low, high in zip(tight.low.tolist(), tight.high.tolist(), strict=True):
        if not points or low > points[-1]:
            points.append(high)
    return points


def _joined(one: Pieces, other: Pieces) -> Pieces:
    return Pieces(*(np.concatenate(pair) for pair in (
        (one.owner, other.owner), (one.low, other.low), (one.high, other.high))))
