"""How many cards a model needs, and what would fit if it does not."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from tritstream.host.placement.plan import PlacementError, Plan, place, step_bytes
from tritstream.host.placement.targets import Target
from tritstream.host.placement.work import Step

__all__ = ["MOST_CARDS", "fit"]

#: Most cards that work together, because the driver gives each device several numbers of its own.
MOST_CARDS = 32


def fit(
    steps: Sequence[Step], target: Target, cards: int | None = None, layers: bool = False,
    lower: Callable[[], Sequence[tuple[int, Sequence[Step]]]] = tuple,
) -> Plan:
    """Place a model on so many cards, or on as few as possible.

    ``lower`` returns the steps of the same model at lower depths, the highest first, for the error.
    ``layers`` is that of :func:`.place`.

    Raises :class:`.PlacementError`, with what would fit, if the model does not fit, and
    :class:`ValueError` for an impossible number of cards.
    """
    if cards is None:
        return _fewest(steps, target, layers)
    if not 1 <= cards <= MOST_CARDS:
        raise ValueError(f"cards must be 1..{MOST_CARDS}, not {cards}")
    try:
        return place(steps, target.units(cards), layers)
    except PlacementError as error:
        would = ", or ".join(_advice(steps, target, cards, layers, lower)) or "nothing smaller does"
        raise PlacementError(f"{error} of {_cards(cards, target)}; what fits: {would}") from None


def _fewest(steps: Sequence[Step], target: Target, layers: bool) -> Plan:
    size, room = sum(map(step_bytes, steps)), sum(unit.memory or 0 for unit in target.units(1))
    for cards in range(max(1, -(-size // room)), MOST_CARDS + 1):
        try:
            return place(steps, target.units(cards), layers)
        except PlacementError:
            continue
    raise PlacementError(f"{size / 1e6:.1f} MB of weights do not fit {_cards(MOST_CARDS, target)} "
                         f"of {room / 1e6:.1f} MB each, and no more can work together")


def _advice(
    steps: Sequence[Step], target: Target, cards: int, layers: bool,
    lower: Callable[[], Sequence[tuple[int, Sequence[Step]]]],
) -> Iterator[str]:
    with suppress(PlacementError):
        yield _cards(len({unit.card for unit in _fewest(steps, target, layers).units}), target)
    for depth, others in lower():
        try:
            place(others, target.units(cards), layers)
            yield f"depth {depth} on {_cards(cards, target)}"
            return
        except PlacementError:
            continue


def _cards(cards: int, target: Target) -> str:
    return f"{cards} {'card' if cards == 1 else 'cards'} {target.name}"
