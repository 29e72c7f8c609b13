"""Few scales for many groups: points that pierce intervals, or unions of them."""

import numpy as np

from tritstream.golden.recover.lattice import Pieces

__all__ = ["pierce", "pierce_most"]

#: Exchanges of one point for another before a search gives up.
_EXCHANGES = 5000
#: Groups with several pieces that are looked at, at most: those with the fewest.
_LOOSE = 1500


def pierce(pieces: Pieces, limit: int) -> tuple[np.ndarray | None, int]:
    """At most ``limit`` points that pierce a piece of each group, and how many it takes at least.

    The points are bits of scales, ascending; None when there are none, or none were found.
    """
    tight, loose = _reduce(pieces)
    points = _stab(tight)
    if not loose.owner.size or len(points) > limit:
        return (np.array(points) if len(points) <= limit else None), len(points)
    cover = _Cover(_joined(tight, loose))
    least = cover.least()
    return (cover.search(limit) if least <= limit else None), least


def pierce_most(pieces: Pieces, limit: int) -> tuple[np.ndarray, int]:
    """At most ``limit`` points that pierce a piece of many groups, ascending, and of how many."""
    cover = _Cover(pieces)
    chosen = cover.greedy(limit)
    return np.sort(cover.points[chosen]), cover.count(chosen)


class _Cover:
    """Groups in rows, those with the fewest choices first; candidate points in columns.

    Right ends of pieces are candidates enough: any other point can move right to the next one.
    """

    def __init__(self, pieces: Pieces):
        self.points = np.unique(pieces.high)
        _, owner = np.unique(pieces.owner, return_inverse=True)
        table = np.zeros((owner.max() + 1, self.points.size + 1), np.int8)
        np.add.at(table, (owner, np.searchsorted(self.points, pieces.low)), 1)
        np.add.at(table, (owner, np.searchsorted(self.points, pieces.high) + 1), -1)
        np.cumsum(table, axis=1, out=table)
        choices = np.count_nonzero(table, axis=1)
        self._pierced = table[np.argsort(choices, kind="stable"), :-1].view(bool)

    def least(self) -> int:
        """As many points are needed at least: groups that share no candidate."""
        used = np.zeros(self.points.size, bool)
        count = 0
        for row in self._pierced:
            if not (row & used).any():
                used |= row
                count += 1
        return count

    def greedy(self, limit: int) -> list[int]:
        """Candidates, each piercing as many of the groups still open as any does."""
        chosen, still = [], np.ones(len(self._pierced), bool)
        gain = np.count_nonzero(self._pierced, axis=0)
        while still.any() and len(chosen) < limit:
            chosen.append(int(gain.argmax()))
            new = still & self._pierced[:, chosen[-1]]
            gain -= np.count_nonzero(self._pierced[new], axis=0)
            still &= ~new
        return chosen

    def count(self, chosen: list[int]) -> int:
        """Groups that these candidates pierce."""
        return np.count_nonzero(self._pierced[:, chosen].any(axis=1))

    def search(self, limit: int) -> np.ndarray | None:
        """Points that pierce every group, or None when none were found.

        A greedy choice, then exchanges: the point that is missed least goes, the best for an open
        group comes, and groups weigh the more the longer they are open.
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
    """Groups of one piece that holds no other's, and the other groups that hold none of them.

    Whatever pierces a piece pierces all that hold it.
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
    """Groups with the fewest pieces, when there are too many groups."""
    owners, counts = np.unique(pieces.owner, return_counts=True)
    chosen = owners[np.argsort(counts, kind="stable")[:_LOOSE]]
    return pieces.take(np.isin(pieces.owner, chosen))


def _stab(tight: Pieces) -> list[int]:
    """The fewest points that pierce pieces sorted by both their ends: right ends."""
    points: list[int] = []
    for low, high in zip(tight.low.tolist(), tight.high.tolist(), strict=True):
        if not points or low > points[-1]:
            points.append(high)
    return points


def _joined(one: Pieces, other: Pieces) -> Pieces:
    return Pieces(*(np.concatenate(pair) for pair in (
        (one.owner, other.owner), (one.low, other.low), (one.high, other.high))))
