from itertools import product

import pytest

from tritstream.hw.compute.beat_buffer import BeatBuffer
from tritstream.sim.harness import simulate
from tritstream.sim.streams import coin

LANES = 2
#: Bytes beside every idle cycle: X in other simulators, so that they must never come out.
GARBAGE = 0xDEAD
#: Beat of an idle cycle. The sequencer describes the next word before it comes.
IDLE = {"valid": 0, **dict.fromkeys(
    ("weight", "first", "scale_start", "scale_last", "group_first", "group_last"), 1)}


def beats_of(groups, depth):
    """Beats of a row block, each with a word of its own number."""
    beats = []
    for group in range(groups):
        edges = {"valid": 1, "group_first": group == 0, "group_last": group == groups - 1}
        for _ in range(16):
            beats += [{"weight": 1, "first": digit == 0, **edges} for digit in range(depth)]
        beats += [{"scale_start": digit == 0, "scale_last": digit == 2, **edges}
                  for digit in range(3)]
    return [({"weight": 0, "first": 0, "scale_start": 0, "scale_last": 0, **beat}, number)
            for number, beat in enumerate(beats, 1)]


def run(beats, gap, cycles, restart_at=None):
    """(beat, word, cycle) of all that leaves, and the cycle in which each word came."""
    dut = BeatBuffer(LANES)
    left, came = [], {}

    async def drive(ctx):
        waiting = list(beats)
        for cycle in range(cycles):
            ctx.set(dut.restart, cycle == restart_at)
            ctx.set(dut.i, IDLE)
            ctx.set(dut.i_word, GARBAGE)
            assert ctx.get(dut.o_word) != GARBAGE
            if waiting and not gap():
                beat, word = waiting.pop(0)
                ctx.set(dut.i, {name: int(value) for name, value in beat.items()})
                ctx.set(dut.i_word, word)
                came[word] = cycle
            if ctx.get(dut.o.valid):
                beat = ctx.get(dut.o)
                left.append(({name: beat[name] for name in beats[0][0]},
                             ctx.get(dut.o_word), cycle))
            await ctx.tick()
        assert not waiting

    simulate(dut, drive, cycles=cycles + 1)
    return left, came


@pytest.mark.parametrize("depth", [1, 3, 4])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_order_is_kept_and_scale_beats_leave_together(depth, share):
    beats = beats_of(groups=4, depth=depth)
    cycles = round(len(beats) / (1 - share) * 1.3) + 50
    left, _ = run(beats, coin(depth, share), cycles)
    assert [(beat, word) for beat, word, _ in left] == beats
    first = [cycle for beat, _, cycle in left if beat["scale_start"]]
    last  = [cycle for beat, _, cycle in left if beat["scale_last"]]
    assert len(first) == len(last) == 4
    assert [end - begin for begin, end in zip(first, last, strict=True)] == 4 * [2]


def test_every_pattern_of_gaps_around_scale_beats():
    # Up to three empty cycles before each of a weight beat and the three scale beats.
    patterns = list(product(range(4), repeat=4))
    beats = [(beat, 4 * number + index) for number in range(len(patterns))
             for index, (beat, _) in enumerate(beats_of(groups=1, depth=1)[15:])]
    gaps = [flag for pattern in patterns for count in pattern for flag in [True] * count + [False]]
    left, _ = run(beats, lambda: gaps.pop(0), len(gaps) + 4)
    assert [(beat, word) for beat, word, _ in left] == beats
    cycles = [cycle for _, _, cycle in left]
    for number, pattern in enumerate(patterns):
        first = cycles[4 * number + 1]
        assert cycles[4 * number + 1:4 * number + 4] == [first, first + 1, first + 2], pattern


def test_latency_is_that_of_two_more_beats_and_two_cycles():
    beats = beats_of(groups=3, depth=2)
    left, came = run(beats, coin(7, 0.4), 300)
    leave = {word: cycle for _, word, cycle in left}
    for beat, word in beats:
        if beat["weight"]:      # one that came in the wake of scale beats moves on with them
            assert leave[word] <= came[word + 2] + 2, word
        elif beat["scale_start"]:
            assert leave[word] == came[word + 2] + 2, word
        elif beat["scale_last"]:
            assert leave[word] == came[word] + 2 + 2, word
        else:
            assert leave[word] == came[word + 1] + 1 + 2, word


def test_a_beat_a_cycle():
    beats = beats_of(groups=4, depth=3)
    left, came = run(beats, lambda: False, len(beats) + 10)
    assert [cycle for _, _, cycle in left] == list(range(4, 4 + len(beats)))
    assert list(came.values()) == list(range(len(beats)))


def test_scale_beats_do_not_wait_for_what_follows():
    beats = beats_of(groups=1, depth=1)
    left, came = run(beats, lambda: False, len(beats) + 10)
    assert left[-1][1:] == (len(beats), came[len(beats)] + 4)


def test_restart_forgets():
    beats = beats_of(groups=1, depth=1)
    for kept in range(1, len(beats)):
        gaps = [False] * kept + [True] + [False] * (len(beats) - kept)
        left, _ = run(beats, lambda gaps=gaps: gaps.pop(0) if gaps else True, 40, restart_at=kept)
        # Three beats before the restart are inside; those after it pass as ever.
        words = [word for _, word, _ in left]
        gone = range(kept - 2, kept + 1)
        assert words == [n for n in range(1, len(beats) + 1) if n not in gone], kept


def test_restart_ends_a_flush():
    beats = beats_of(groups=1, depth=1)
    gaps = [False] * len(beats)
    left, _ = run(beats, lambda: gaps.pop(0) if gaps else True, 40, restart_at=len(beats))
    assert [word for _, word, _ in left] == list(range(1, len(beats) - 2))
