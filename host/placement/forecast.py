"""Projected time of a token on a target, by the formula of the cycles; not measured."""

from collections.abc import Iterable
from dataclasses import dataclass

from tritstream.golden.fixed_point import GROUP, ROWS
from tritstream.host.layout.cost import activations_cost, gemv_cycles, scales_cost
from tritstream.host.placement.cutting import Share, Unit
from tritstream.host.placement.plan import Plan
from tritstream.host.placement.targets import Target
from tritstream.host.protocol.frames import answer_bytes
from tritstream.hw.protocol import DONE_FIELDS, REQUEST_ALIGN, SUM_BYTES

__all__ = ["Forecast", "forecast"]

#: Activations that an engine stores per cycle, if its words have as many bytes.
_LOAD = 8


@dataclass(frozen=True)
class Forecast:
    """What a token takes. Steps follow each other, and the units of a step work in parallel.

    Members
    -------
    packed, words : float
        Bytes of weights that a token needs, and bytes of words with the padding of row blocks.
    cycles : float
        Cycles of the engines in which a memory always has a word: of the slowest unit per step.
    seconds, link_seconds : float
        Time of the engines with their memory, and time of the link; the latter is 0 if the target
        does not say how fast the link is.
    round_trips : float
        Lists of requests for whose results the next list has to wait.
    roofline : float
        Tokens per second if every unit read its packed weights at the peak of its memory.
    bandwidth_share : float
        Words per second divided by the peak bandwidth of all units.
    """

    packed:          float
    words:           float
    cycles:          float
    seconds:         float
    link_seconds:    float
    round_trips:     float
    roofline:        float
    bandwidth_share: float

    @property
    def tokens(self) -> float:
        """Tokens per second of one sequence, if the host needs no time."""
        return 1 / (self.seconds + self.link_seconds)


@dataclass(frozen=True)
class _Load:
    """What a unit has to do in a step."""

    words:    int = 0
    cycles:   int = 0
    sent:     int = 0
    received: int = 0


def forecast(plan: Plan, target: Target) -> Forecast:
    """Project the time of a token. The units of the plan are channels of the target."""
    peak  = len(plan.units) * target.bandwidth
    words = cycles = seconds = link = trips = packed = 0.0
    known: dict[tuple, list[_Load]] = {}
    for step in plan.steps:
        # Most layers are alike.
        key = tuple(plan.shares[work.name] for work in step.works)
        loads = known[key] = known.get(key) or [
            _load(unit, shares)
            for unit, shares in zip(plan.units, plan.of_step(step), strict=True)]
        packed  += step.uses * sum(work.nbytes for work in step.works)
        words   += step.uses * sum(load.words * target.lanes for load in loads)
        cycles  += step.uses * max(load.cycles for load in loads)
        seconds += step.uses * max(_seconds(load, target) for load in loads)
        link    += step.uses * _link_seconds(plan, loads, target)
        trips   += step.uses
    return Forecast(packed, words, cycles, seconds, link, trips, peak / packed,
                    words / (seconds + link) / peak)


def _load(unit: Unit, shares: Iterable[Share]) -> _Load:
    """Return the words, cycles and bytes of the link of some shares with one vector.

    A unit loads the activations of each range of columns once, and a table of scales per matrix.
    Header and trailer of a request take as many cycles as words.
    """
    words = cycles = sent = received = 0
    ranges, tables = set(), set()
    for share in shares:
        work, blocks = share.work, unit.blocks(share.span)
        scales = work.scales(unit.max_k)
        words += unit.words(work, share.span)
        for first, count in _parts(unit, share):
            cycles += gemv_cycles(unit.lanes, work.depth, count, blocks, 1, scales)
            cycles += 2 * REQUEST_ALIGN // unit.lanes
            sent += 2 * REQUEST_ALIGN
            received += blocks * answer_bytes(SUM_BYTES * ROWS * unit.lanes, unit.lanes)
            received += answer_bytes(8 * len(DONE_FIELDS), unit.lanes)
            ranges.add((first, count))
        if not scales.direct:
            tables.add(work.name)
    for _, count in ranges:
        cost = activations_cost(GROUP * count, unit.lanes)
        cycles += 2 * REQUEST_ALIGN // unit.lanes + GROUP * count // min(unit.lanes, _LOAD)
        sent, received = sent + cost.sent, received + cost.received
    cost = scales_cost(unit.lanes)
    return _Load(words, cycles + len(tables) * cost.sent // unit.lanes,
                 sent + len(tables) * cost.sent, received + len(tables) * cost.received)


def _parts(unit: Unit, share: Share) -> Iterable[tuple[int, int]]:
    """Return first chunk and number of chunks of each GEMV of a share."""
    scales, chunks = share.work.scales(unit.max_k), share.span.chunks
    step = unit.max_k // scales.columns * scales.length
    return [(first, min(step, chunks.stop - first))
            for first in range(chunks.start, chunks.stop, step)]


def _seconds(load: _Load, target: Target) -> float:
    """Return the time of a unit: its cycles, and those in which its memory is slower."""
    return load.cycles / target.clock + load.words * (1 / target.rate - 1 / target.clock)


def _link_seconds(plan: Plan, loads: list[_Load], target: Target) -> float:
    """Return the time of the slowest link to a card."""
    if target.write is None or target.read is None:
        return 0.0
    cards: dict[int, float] = {}
    for unit, load in zip(plan.units, loads, strict=True):
        time = load.sent / target.write + load.received / target.read
        cards[unit.card] = cards.get(unit.card, 0.0) + time
    return max(cards.values())
