"""Placement of all matrices of a model on devices or channels, by their memory and speed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

from tritstream.host.placement.cutting import CUT_WORDS, Region, Share, Unit, cut
from tritstream.host.placement.work import Step

__all__ = ["PlacementError", "Plan", "place", "step_bytes"]


class PlacementError(ValueError):
    """The matrices do not fit the memory."""


@dataclass(frozen=True)
class Plan:
    """Where each part of each matrix is.

    Members
    -------
    units : tuple of Unit
        Devices, or channels.
    steps : tuple of Step
        Matrices in the order in which a token needs them.
    shares : mapping
        Parts of each matrix in the order of its rows, by name.
    """

    units:  tuple[Unit, ...]
    steps:  tuple[Step, ...]
    shares: Mapping[str, tuple[Share, ...]]

    @property
    def nbytes(self) -> list[int]:
        """Bytes of words that each unit holds."""
        held = [0] * len(self.units)
        for shares in self.shares.values():
            for share in shares:
                held[share.unit] += self.units[share.unit].nbytes(share.work, share.span)
        return held

    def of_step(self, step: Step) -> list[list[Share]]:
        """Return the shares of a step, for each unit."""
        found: list[list[Share]] = [[] for _ in self.units]
        for work in step.works:
            for share in self.shares[work.name]:
                found[share.unit].append(share)
        return found


def place(
    steps: Sequence[Step], units: Sequence[Unit], layers: bool = False, least: int = CUT_WORDS,
) -> Plan:
    """Place the matrices of a model.

    The units of a step end at about the same time as far as their memory permits. A unit whose
    memory is full takes no part of the steps that follow.

    Parameters
    ----------
    steps : sequence of Step
    units : sequence of Unit
    layers : bool
        Whether each card has complete layers, so that a step is cut only between the units of a
        card. By default, a step is cut between all units.
    least : int
        Words that a part of a row block must have: :func:`.cut`.

    Raises :class:`PlacementError` if the matrices do not fit the memory.
    """
    placer = _Placer(units, least)
    shares: dict[str, list[Share]] = {work.name: [] for step in steps for work in step.works}
    for found in (placer.layers(steps) if layers else map(placer.step, steps)):
        if found is None:
            raise PlacementError(_reason(steps, units))
        for share in found:
            shares[share.work.name].append(share)
    return Plan(tuple(units), tuple(steps),
                {name: tuple(sorted(some, key=_place)) for name, some in shares.items()})


def _place(share: Share) -> tuple[int, int]:
    return share.span.tiles.start, share.span.chunks.start


def _reason(steps: Sequence[Step], units: Sequence[Unit]) -> str:
    size, room = sum(map(step_bytes, steps)), sum(unit.memory or 0 for unit in units)
    scale, name = (1e6, "MB") if room >= 1e6 else (1e3, "kB")
    return (f"{size / scale:.1f} {name} of weights and their padding do not fit "
            f"{room / scale:.1f} {name}")


class _Placer:
    """Memory that the units have left, and the cuts so far."""

    def __init__(self, units: Sequence[Unit], least: int):
        self._units, self._least = units, least
        self._left = [unit.memory for unit in units]
        #: Shares by shapes and units, without the limits of memory.
        self._cuts: dict[tuple, list[tuple[int, Share]]] = {}

    def step(self, step: Step, card: int | None = None) -> list[Share] | None:
        """Place a step on the units of a card, or on all units; None if there is no room."""
        places = [place for place, unit in enumerate(self._units) if card in (None, unit.card)]
        shares: list[Share] | None = self._unlimited(step, places)
        if not self._fits(shares or []):
            shares = self._cut(step, places, [self._left[place] for place in places])
        for share in shares or []:
            left, unit = self._left[share.unit], self._units[share.unit]
            if left is not None:
                self._left[share.unit] = left - unit.nbytes(share.work, share.span)
        return shares

    def layers(self, steps: Sequence[Step]) -> Iterator[list[Share] | None]:
        """Place complete layers on cards, in order, in proportion to their speed."""
        cards  = sorted({unit.card for unit in self._units})
        speeds = [sum(unit.rate * unit.lanes for unit in self._units if unit.card == card)
                  for card in cards]
        ends   = [end / sum(speeds) for end in accumulate(speeds)]
        total, done = sum(step_bytes(step) for step in steps), 0
        for _, some in groupby(steps, lambda step: step.layer):
            layer = list(some)
            size = sum(map(step_bytes, layer))
            first = next((place for place, end in enumerate(ends)
                          if done + size / 2 <= end * total), len(cards) - 1)
            done += size
            yield from self._layer(layer, cards[first:] + cards[:first])

    def _layer(self, layer: Sequence[Step], cards: Sequence[int]) -> list[list[Share] | None]:
        """Place a layer on the first card that has room."""
        before = list(self._left)
        for card in cards:
            found = [self.step(step, card) for step in layer]
            if None not in found:
                return found
            self._left = list(before)
        return [None]

    def _unlimited(self, step: Step, places: Sequence[int]) -> list[Share]:
        """Return the shares of a step as if the memory were not limited."""
        key = step.works, tuple(places)
        if key not in self._cuts:
            shares = self._cut(step, places, [None] * len(places)) or []
            index = {work.name: number for number, work in enumerate(step.works)}
            self._cuts[key] = [(index[share.work.name], share) for share in shares]
        return [replace(share, work=step.works[number]) for number, share in self._cuts[key]]

    def _cut(
        self, step: Step, places: Sequence[int], left: Sequence[int | None],
    ) -> list[Share] | None:
        found = cut([Region(work, work.span) for work in step.works],
                    [self._units[place] for place in places], left, self._least)
        return found and [replace(share, unit=places[share.unit]) for share in found]

    def _fits(self, shares: Sequence[Share]) -> bool:
        taken = [0] * len(self._units)
        for share in shares:
            taken[share.unit] += self._units[share.unit].nbytes(share.work, share.span)
        return all(left is None or size <= left
                   for size, left in zip(taken, self._left, strict=True))


def step_bytes(step: Step) -> int:
    """Return the bytes of the weights of a step, without padding."""
    return sum(work.nbytes for work in step.works)
