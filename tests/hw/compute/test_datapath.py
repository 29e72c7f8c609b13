import numpy as np
import pytest

from tritstream.golden.trit import decode
from tritstream.hw.compute.datapath import Datapath
from tritstream.hw.compute.dsp_lanes import DspLanes
from tritstream.hw.compute.lane import Lane
from tritstream.hw.compute.multiplier_lane import MultiplierLane
from tritstream.hw.compute.result_banks import UnitMap
from tritstream.hw.protocol import GemvArguments
from tritstream.sim.harness import simulate
from tritstream.sim.streams import coin, never

from support.gemv_words import GemvWords

#: Cycles from a block's last scale beat to its last row sum, as documented.
LATENCY = 28
#: Cycles without a beat before a restart, as documented.
REST = 1
LANE_KINDS = [Lane, MultiplierLane, DspLanes]
PAIRS = np.array([0b00, 0b01, 0b11])


def beats_of(words, arguments):
    """(beat, word, is last of a block) for each word (blocks, words, L)."""
    lengths = [min(arguments.length, arguments.chunks - at)
               for at in range(0, arguments.chunks, arguments.length)]
    tail = 10 if arguments.direct else 3
    for block in words:
        numbers = iter(int.from_bytes(word.tobytes(), "little") for word in block)
        for group, length in enumerate(lengths):
            edges = {"group_first": int(group == 0), "group_last": int(group == len(lengths) - 1)}
            for place in range(16 * length * arguments.depth):
                yield {"valid": 1, "weight": 1, "first": int(place % arguments.depth == 0),
                       "scale_start": 0, "scale_last": 0, **edges}, next(numbers), False
            for left in range(tail, 0, -1):
                yield {"valid": 1, "weight": 0, "first": 0, "scale_start": int(left == 3),
                       "scale_last": int(left == 1), **edges}, next(numbers), (
                           left == 1 and group == len(lengths) - 1)
        assert next(numbers, None) is None


#: What an idle cycle says beside ``valid`` must not matter.
NO_BEAT = {"valid": 0, **dict.fromkeys(
    ("weight", "first", "scale_start", "scale_last", "group_first", "group_last"), 1)}


def run(jobs, gap=never, spoilt=0, lane=Lane):
    """Row sums (columns, blocks, 5 L) of each job, cycles of each block's last beat and last slot.

    Jobs follow each other without a reset. Scales are loaded for the first. Before its words,
    ``spoilt`` of them are fed and given up by a restart.
    """
    lanes, columns = jobs[0].lanes, jobs[0].arguments.columns
    dut = Datapath(lanes, columns, lane)
    of = UnitMap(lanes)
    sums, found = [], []
    ends, slots, takes = [], [], []

    async def drive(ctx):
        for code, mantissa in enumerate(jobs[0].table):
            pairs = PAIRS[code // np.array([1, 3, 9]) % 3]
            ctx.set(dut.load, {"en": 1, "code": int(pairs @ [1, 4, 16]),
                               "mantissa": int(mantissa)})
            await ctx.tick()
        ctx.set(dut.load, {"en": 0, "code": 0, "mantissa": 2**17 - 1})
        for job in jobs:
            beats = list(beats_of(job.words, job.arguments))
            ctx.set(dut.direct, int(job.arguments.direct))
            await feed(ctx, job.x, beats[:spoilt], REST if spoilt else 0)
            takes.clear()
            slots.clear()
            found[:] = np.full((job.arguments.blocks, columns, lanes, 5), 2**60)
            await feed(ctx, job.x, beats, 60)
            assert len(slots) == job.arguments.blocks
            sums.append(np.array(found).transpose(1, 0, 2, 3).reshape(columns, len(found), -1))

    async def feed(ctx, x, beats, after):
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
        for column, place, unit in np.ndindex(columns, of.places, of.units):
            if turn < of.unit_lanes(unit):
                found[len(slots)][column, of.lane(place, unit, turn, row), row] = ctx.get(
                    dut.rows.sums[column][place][unit])
        if slot.index == 14:
            slots.append(cycle)

    simulate(dut, drive, cycles=sum(5 * job.words[..., 0].size for job in jobs) + 1_000)
    return sums, ends, slots, takes


def example(lanes, depth, blocks, chunks, columns=1, length=1, direct=False, seed=0):
    return GemvWords(lanes, GemvArguments(depth, chunks, columns, blocks, length, direct), seed)


def check(job, gap=never, spoilt=0, lane=Lane):
    (sums,), *rest = run([job], gap, spoilt, lane)
    np.testing.assert_array_equal(sums, job.sums)
    return rest


@pytest.mark.parametrize("lane, lanes", [
    (Lane, 1), (Lane, 2), (Lane, 8), (MultiplierLane, 2), (DspLanes, 1), (DspLanes, 2)])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_row_sums_are_those_of_numpy(lane, lanes, depth):
    check(example(lanes, depth, blocks=2, chunks=2, seed=depth), coin(lanes, 0.2), lane=lane)


@pytest.mark.parametrize("lane, lanes", [(Lane, 1), (Lane, 2), (Lane, 4), (Lane, 8), (Lane, 16),
                                         (MultiplierLane, 4)])
@pytest.mark.parametrize("depth, length", [(1, 1), (1, 5), (2, 3), (3, 4), (4, 1)])
@pytest.mark.parametrize("direct", [False, True])
def test_groups_of_any_length_with_codes_or_mantissas(lane, lanes, depth, length, direct):
    # The last group of a row is shorter, unless a group is one chunk.
    job = example(lanes, depth, 2, 2 * length - (length > 1), length=length, direct=direct)
    check(job, coin(lanes, 0.2), lane=lane)


@pytest.mark.long
@pytest.mark.parametrize("direct", [False, True])
def test_groups_of_the_widest_device(direct):
    check(example(64, 2, 2, 3, length=2, direct=direct), coin(1, 0.1))


@pytest.mark.parametrize("columns", [2, 3, 4, 8])
@pytest.mark.parametrize("direct", [False, True])
def test_columns_share_the_words(columns, direct):
    check(example(lanes=2, depth=2, blocks=2, chunks=3, columns=columns, length=2 if direct else 1,
                  direct=direct), coin(1, 0.2))


@pytest.mark.parametrize("lane", LANE_KINDS)
@pytest.mark.parametrize("direct", [False, True])
def test_blocks_of_one_group_of_the_fewest_beats(lane, direct):
    check(example(lanes=4, depth=1, blocks=6, chunks=1, direct=direct), lane=lane)


@pytest.mark.parametrize("lane", LANE_KINDS)
@pytest.mark.parametrize("depth, length, direct", [
    (4, 1, False), (4, 1, True), (1, 63, False), (1, 63, True), (2, 15, True), (3, 4, False)])
def test_largest_sums_of_both_signs(lane, depth, length, direct):
    # Every trit -1 or +1, every code 26 or every mantissa the largest.
    job = example(1, depth, 2, 3 if length == 1 else length, length=length, direct=direct)
    job.digits[0] = 0x7E
    job.digits[1] = np.flatnonzero((decode(np.arange(256, dtype=np.uint8)) == 1).all(axis=1))[0]
    job.scales[:] = 2**16 - 1 if direct else 0x7E
    job.table[:] = 2**17 - 1
    job.x[:] = -128
    sums = run([job], lane=lane)[0][0]
    most = job.x.shape[1] * (3**depth - 1) // 2 * 128 * (2**16 - 1 if direct else 2**17 - 1)
    assert (sums[0, 0] == most).all()
    assert (sums[0, 1] == -most).all()
    np.testing.assert_array_equal(sums, job.sums)


@pytest.mark.parametrize("lane", LANE_KINDS)
@pytest.mark.parametrize("spoilt", [1, 17, 30, 47, 48, 49, 50, 51, 52, 57, 58, 59, 60])
@pytest.mark.parametrize("direct", [False, True])
def test_restart_forgets_what_came_before(spoilt, lane, direct):
    # Given up in the weights, in the scale beats and after them.
    check(example(1, 3, 1, 2, direct=direct, seed=4), never, spoilt, lane)


@pytest.mark.parametrize("lane", LANE_KINDS)
@pytest.mark.parametrize("share", [0, 0.5])
@pytest.mark.parametrize("direct", [False, True])
def test_last_row_sum_leaves_after_the_latency(share, lane, direct):
    ends, slots, _ = check(example(1, 1, 3, 2, direct=direct), coin(5, share), lane=lane)
    due = LATENCY + lane.LATENCY - 1
    assert [slot - end for slot, end in zip(slots, ends, strict=True)] == 3 * [due]


@pytest.mark.parametrize("length, direct", [(1, False), (1, True), (2, False), (2, True)])
def test_takes_a_beat_a_cycle(length, direct):
    job = example(1, 2, 3, 3, length=length, direct=direct)
    *_, takes = check(job)
    assert takes == list(range(3 * job.arguments.block_words))


@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_the_table_outlives_products_with_direct_mantissas(lanes):
    modes = [(1, False), (2, True), (3, False), (1, True), (2, False), (3, True), (1, False)]
    jobs = [example(lanes, 1, 2, 3, 1, *mode, seed=number) for number, mode in enumerate(modes)]
    for job in jobs:
        job.table = jobs[0].table
    for job, sums in zip(jobs, run(jobs, coin(3, 0.1))[0], strict=True):
        np.testing.assert_array_equal(sums, job.sums)
