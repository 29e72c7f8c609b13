"""How many cards a model needs, and what would fit if it does not."""

from collections.abc import Callable, Iterator, Sequence

from tritstream.host.placement.cutting import Unit
from tritstream.host.placement.plan import PlacementError, Plan, place, step_bytes
from tritstream.host.placement.targets import Target
from tritstream.host.placement.work import Step, at_depth

__all__ = ["MOST_CARDS", "advice", "fit"]

#: Most cards that work together, because the driver gives each device several numbers of its own.
MOST_CARDS = 32


def fit(
    steps: Sequence[Step], target: Target, cards: int | None = None, layers: bool = False,
) -> Plan:
    """Place a model on so many cards, or on as few as possible; ``layers`` as in :func:`.place`.

    Raises :class:`.PlacementError`, with what would fit, if the model does not fit, and
    :class:`ValueError` for an impossible number of cards.
    """
    if cards is None:
        if plan := _fewest(steps, target.units, layers):
            return plan
        raise PlacementError(
            f"{sum(map(step_bytes, steps)) / 1e6:.1f} MB of weights do not fit {MOST_CARDS} cards "
            f"{target.name} of {_room(target.units(1)) / 1e6:.1f} MB each, and no more can work "
            "together")
    if not 1 <= cards <= MOST_CARDS:
        raise ValueError(f"cards must be 1..{MOST_CARDS}, not {cards}")
    try:
        return place(steps, target.units(cards), layers)
    except PlacementError as error:
        name = f"{cards} {'card' if cards == 1 else 'cards'} {target.name}"
        would = advice(steps, target.units, cards, layers, f"cards {target.name}", name)
        raise PlacementError(f"{error} of {name}; {would}") from None


def advice(
    steps: Sequence[Step], units: Callable[[int], Sequence[Unit]], cards: int, layers: bool,
    more: str, these: str,
) -> str:
    """Return a text that says what would fit: more cards, or a lower depth on these cards.

    ``units`` returns the units of so many cards. ``more`` are words for further cards behind their
    number, and ``these`` are words for the cards that are there.
    """
    found = list(_fitting(steps, units, cards, layers, more, these))
    return f"what fits: {', or '.join(found)}" if found else "nothing smaller fits"


def _fitting(
    steps: Sequence[Step], units: Callable[[int], Sequence[Unit]], cards: int, layers: bool,
    more: str, these: str,
) -> Iterator[str]:
    if plan := _fewest(steps, units, layers):
        yield f"{len({unit.card for unit in plan.units})} {more}"
    depths = range(max(work.depth for step in steps for work in step.works) - 1, 0, -1)
    for depth in depths:
        if _placed(at_depth(steps, depth), units(cards), layers):
            yield f"depth {depth} on {these}"
            return


def _fewest(
    steps: Sequence[Step], units: Callable[[int], Sequence[Unit]], layers: bool,
) -> Plan | None:
    """Return the plan with the fewest cards."""
    least = -(-sum(map(step_bytes, steps)) // max(1, _room(units(1))))
    plans = (_placed(steps, units(cards), layers)
             for cards in range(max(1, least), MOST_CARDS + 1))
    return next(filter(None, plans), None)


def _placed(steps: Sequence[Step], units: Sequence[Unit], layers: bool) -> Plan | None:
    try:
        return place(steps, units, layers)
    except PlacementError:
        return None


def _room(units: Sequence[Unit]) -> int:
    return sum(unit.memory or 0 for unit in units)
