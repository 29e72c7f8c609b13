import numpy as np
import pytest

from tritstream.golden.trit import decode, to_trit
from tritstream.hw.compute.datapath import Datapath
from tritstream.hw.compute.dsp_lanes import DspLanes
from tritstream.hw.compute.lane import Lane
from tritstream.hw.compute.multiplier_lane import MultiplierLane
from tritstream.sim.harness import simulate
from tritstream.sim.streams import coin, never

#: Cycles from a block's last scale beat to its last row sum, as documented.
LATENCY = 28
#: Cycles without a beat before a restart, as documented.
REST = 1
LANE_KINDS = [Lane, MultiplierLane, DspLanes]
PAIRS = np.array([0b00, 0b01, 0b11])


def row_sums(words, depth, x, mantissas):
    """(blocks, columns, 5 L) of words (blocks, groups, 16d+3, L) and x (columns, K), in int64."""
    digits = decode(words)                                              # (b, g, byte, l, row)
    trits  = to_trit(digits[:, :, :16 * depth]).astype(np.int64)
    trits  = trits.reshape(*trits.shape[:2], 16, depth, *trits.shape[3:])
    q      = np.einsum("bgjdlr,d->bgjlr", trits, 3**np.arange(depth))
    codes  = np.einsum("bgdlr,d->bglr", digits[:, :, 16 * depth:].astype(int), [1, 3, 9])
    groups = x.astype(np.int64).reshape(len(x), -1, 16)
    sums   = np.einsum("bgjlr,cgj->bcglr", q, groups) * mantissas[codes][:, None]
    return sums.sum(axis=2).reshape(len(words), len(x), -1)


def beats_of(words, depth):
    """(beat, word, is last of a block) for each word."""
    blocks, groups, size, _ = words.shape
    for block, group, place in np.ndindex(blocks, groups, size):
        scale = place - 16 * depth
        beat = {
            "valid": 1, "weight": int(scale < 0), "first": int(scale < 0 and place % depth == 0),
            "scale_first": int(scale == 0), "scale_last": int(scale == 2),
            "group_first": int(group == 0), "group_last": int(group == groups - 1),
        }
        word = int.from_bytes(words[block, group, place].tobytes(), "little")
        yield beat, word, group == groups - 1 and scale == 2


#: What an idle cycle says beside ``valid`` must not matter.
NO_BEAT = {"valid": 0, **dict.fromkeys(
    ("weight", "first", "scale_first", "scale_last", "group_first", "group_last"), 1)}


def run(words, depth, x, mantissas, gap, spoilt=0, lane=Lane):
    """Row sums (blocks, columns, 5 L), cycles of each block's last beat and of its last slot.

    Before the words proper, ``spoilt`` of them are fed and given up by a restart.
    """
    blocks, lanes = len(words), words.shape[3]
    dut = Datapath(lanes, len(x), lane)
    sums = np.full((blocks, len(x), lanes, 5), 2**60)
    ends, slots, takes = [], [], []

    async def drive(ctx):
        for code, mantissa in enumerate(mantissas):
            pairs = PAIRS[code // np.array([1, 3, 9]) % 3]
            ctx.set(dut.load, {"en": 1, "code": int(pairs @ [1, 4, 16]),
                               "mantissa": int(mantissa)})
            await ctx.tick()
        ctx.set(dut.load, {"en": 0, "code": 0, "mantissa": 0})
        beats = list(beats_of(words, depth))
        await feed(ctx, beats[:spoilt], REST if spoilt else 0)
        takes.clear()
        await feed(ctx, beats, 60)
        assert len(slots) == blocks

    async def feed(ctx, beats, after):
        ctx.set(dut.restart, 1)
        await ctx.tick()
        ctx.set(dut.restart, 0)
        element, cycle, left = 0, 0, after
        while beats or left:
            fed = beats and not gap()
            beat, word, end = beats.pop(0) if fed else (NO_BEAT, 2**(8 * lanes) - 1, False)
            left -= not beats and not fed
            ctx.set(dut.beat, beat)
            ctx.set(dut.word, word)
            for column in range(len(x)):
                ctx.set(dut.activations.x[column], int(x[column, element]))
            if fed:
                takes.append(cycle)
            if end:
                ends.append(cycle)
            element = (element + ctx.get(dut.activations.advance)) % x.shape[1]
            collect(ctx, cycle)
            await ctx.tick()
            cycle += 1
        ctx.set(dut.beat, NO_BEAT)

    def collect(ctx, cycle):
        slot = ctx.get(dut.rows.slot)
        if not (slot.valid and slot.last):
            return
        row, turn = divmod(slot.index, 3)
        for column in range(len(x)):
            # Up to eight lanes a word out carries one sum: lane 3 u + t has turn t of unit u.
            for unit in range(-(-lanes // 3)):
                if 3 * unit + turn < lanes:
                    sums[len(slots), column, 3 * unit + turn, row] = ctx.get(
                        dut.rows.sums[column][0][unit])
        if slot.index == 14:
            slots.append(cycle)

    simulate(dut, drive, cycles=5 * words.size // lanes + 1_000)
    return sums.reshape(blocks, len(x), -1), ends, slots, takes


def example(lanes, depth, blocks, groups, columns=1, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, (blocks, groups, 16 * depth + 3, lanes), np.uint8), depth,
            rng.integers(-128, 128, (columns, 16 * groups), np.int8),
            rng.integers(0, 2**17, 27))


@pytest.mark.parametrize("lane, lanes", [
    (Lane, 1), (Lane, 2), (Lane, 8), (MultiplierLane, 2), (DspLanes, 1), (DspLanes, 2)])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_row_sums_are_those_of_numpy(lane, lanes, depth):
    job = example(lanes, depth, blocks=2, groups=2, seed=depth)
    sums, *_ = run(*job, coin(lanes, 0.2), lane=lane)
    np.testing.assert_array_equal(sums, row_sums(*job))


@pytest.mark.parametrize("columns", [2, 3, 4, 8])
def test_columns_share_the_words(columns):
    job = example(lanes=2, depth=2, blocks=2, groups=3, columns=columns)
    sums, *_ = run(*job, coin(1, 0.2))
    np.testing.assert_array_equal(sums, row_sums(*job))


@pytest.mark.parametrize("lane", LANE_KINDS)
def test_blocks_of_one_group_of_nineteen_beats(lane):
    job = example(lanes=2, depth=1, blocks=6, groups=1)
    sums, *_ = run(*job, never, lane=lane)
    np.testing.assert_array_equal(sums, row_sums(*job))


@pytest.mark.parametrize("lane", LANE_KINDS)
def test_largest_sums_of_both_signs(lane):
    # Every trit -1 or +1, every code 26.
    words = np.full((2, 3, 67, 1), 0x7E, np.uint8)
    words[1, :, :64] = np.flatnonzero((decode(np.arange(256, dtype=np.uint8)) == 1).all(axis=1))[0]
    job = words, 4, np.full((1, 48), -128, np.int8), np.full(27, 2**17 - 1)
    sums, *_ = run(*job, never, lane=lane)
    expected = 3 * 81920 * (2**17 - 1)
    assert (sums[0] == expected).all()
    assert (sums[1] == -expected).all()
    np.testing.assert_array_equal(sums, row_sums(*job))


@pytest.mark.parametrize("lane", LANE_KINDS)
@pytest.mark.parametrize("spoilt", [1, 17, 30, 47, 48, 49, 50, 51, 52])
def test_restart_forgets_what_came_before(spoilt, lane):
    # Given up in the weights, in the scale beats and after them.
    job = example(lanes=1, depth=3, blocks=1, groups=2, seed=4)
    sums, *_ = run(*job, never, spoilt, lane)
    np.testing.assert_array_equal(sums, row_sums(*job))


@pytest.mark.parametrize("lane", LANE_KINDS)
@pytest.mark.parametrize("share", [0, 0.5])
def test_last_row_sum_leaves_after_the_latency(share, lane):
    job = example(lanes=1, depth=1, blocks=3, groups=2)
    _, ends, slots, _ = run(*job, coin(5, share), lane=lane)
    due = LATENCY + lane.LATENCY - 1
    assert [slot - end for slot, end in zip(slots, ends, strict=True)] == 3 * [due]


def test_takes_a_beat_a_cycle():
    words, *rest = example(lanes=1, depth=2, blocks=3, groups=2)
    *_, takes = run(words, *rest, never)
    assert takes == list(range(words.size))
