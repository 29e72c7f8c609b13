"""Result banks: what scale units leave there is read in row order, and banks are counted right."""

from itertools import product

import numpy as np
import pytest

from tritstream.hw.compute.result_banks import ResultBanks, UnitMap
from tritstream.hw.interfaces import SLOTS
from tritstream.sim.harness import simulate
from tritstream.sim.streams import coin, get, never, put

SIZES = [(1, 1), (2, 3), (8, 1), (8, 2), (16, 1), (64, 1)]
#: Cycles from a request to its first sum, as documented.
LATENCY = 4


def block_of(lanes: int, columns: int, number: int) -> np.ndarray:
    """Row sums (columns, 5 L) of a block, of both signs, up to the 46 bits they have."""
    rng = np.random.default_rng([lanes, columns, number])
    return rng.integers(-2**45, 2**45, (columns, 5 * lanes))


class Bench:
    """Banks, their scale units and their reader."""

    def __init__(self, lanes, columns, share=0.0):
        self.dut, self.map = ResultBanks(lanes, columns), UnitMap(lanes)
        self.lanes, self.columns = lanes, columns
        self._stall = coin(lanes + columns, share) if share else never

    async def reserve(self, ctx):
        ctx.set(self.dut.reserve, 1)
        await ctx.tick()
        ctx.set(self.dut.reserve, 0)

    async def fill(self, ctx, sums, last=1, valid=1):
        """A group's 15 slots; what is not ``last`` and ``valid`` must leave no trace."""
        for index in range(SLOTS):
            row, turn = divmod(index, 3)
            ctx.set(self.dut.rows.slot, {"valid": valid, "index": index, "first": 1, "last": last})
            for column, place, unit in product(range(self.columns), range(self.map.places),
                                               range(self.map.units)):
                if turn < self.map.unit_lanes(unit):
                    lane = self.map.lane(place, unit, turn, row)
                    ctx.set(self.dut.rows.sums[column][place][unit],
                            int(sums[column, 5 * lane + row]))
            await ctx.tick()
        ctx.set(self.dut.rows.slot, {"valid": 0, "index": 0, "first": 0, "last": 0})

    async def read(self, ctx, column, last):
        """The sums of one column of the oldest bank."""
        dut, sums = self.dut, []
        ctx.set(dut.request.p, {"column": column, "last": last})
        ctx.set(dut.request.valid, 1)
        await ctx.tick().until(dut.request.ready)
        ctx.set(dut.request.valid, 0)
        while len(sums) < 5 * self.lanes:
            ready = not self._stall()
            ctx.set(dut.sums.ready, ready)
            if ctx.get(dut.sums.valid) and ready:
                word = ctx.get(dut.sums.payload)
                sums += [word >> 64 * place & 2**64 - 1 for place in range(self.map.places)]
            await ctx.tick()
        ctx.set(dut.sums.ready, 0)
        return np.array(sums, np.uint64).astype(np.int64)

    def counts(self, ctx):
        return tuple(ctx.get(getattr(self.dut, name)) for name in ("credit", "full", "busy"))


@pytest.mark.parametrize("lanes, columns", SIZES)
@pytest.mark.parametrize("share", [0, 0.5])
def test_sums_leave_in_row_order(lanes, columns, share):
    bench, read = Bench(lanes, columns, share), []

    async def drive(ctx):
        for number in range(3):
            await bench.reserve(ctx)
            await bench.fill(ctx, block_of(lanes, columns, 99), last=0)
            assert not ctx.get(bench.dut.full)
            await bench.fill(ctx, block_of(lanes, columns, number))
            read.append([await bench.read(ctx, column, column == columns - 1)
                         for column in range(columns)])

    simulate(bench.dut, drive)
    np.testing.assert_array_equal(read, [block_of(lanes, columns, number) for number in range(3)])


@pytest.mark.parametrize("lanes, columns", [(2, 1), (8, 2)])
def test_banks_are_counted(lanes, columns):
    bench, said = Bench(lanes, columns), []
    blocks = [block_of(lanes, columns, number) for number in range(3)]

    async def drive(ctx):
        said.append(bench.counts(ctx))
        for _ in range(2):
            await bench.reserve(ctx)
            said.append(bench.counts(ctx))
        for block in blocks[:2]:
            await bench.fill(ctx, block)
            said.append(bench.counts(ctx))
        for column in range(columns):
            last = column == columns - 1
            np.testing.assert_array_equal(await bench.read(ctx, column, last), blocks[0][column])
            await ctx.tick()
            said.append(bench.counts(ctx))
        await bench.reserve(ctx)
        said.append(bench.counts(ctx))
        for column in range(columns):
            await bench.read(ctx, column, column == columns - 1)
        said.append(bench.counts(ctx))
        await bench.fill(ctx, blocks[2])
        for column in range(columns):
            np.testing.assert_array_equal(await bench.read(ctx, column, column == columns - 1),
                                          blocks[2][column])
        said.append(bench.counts(ctx))

    simulate(bench.dut, drive)
    # credit, full, busy: of two banks.
    assert said == [(1, 0, 0), (1, 0, 1), (0, 0, 1), (0, 1, 1), (0, 1, 1),
                    *(columns - 1) * [(0, 1, 1)], (1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 0, 0)]


@pytest.mark.parametrize("ignored", [{"last": 0}, {"valid": 0}], ids=str)
def test_full_banks_keep_their_sums(ignored):
    # Only the last beat of a block waits for a free bank, so its other groups come before.
    bench = Bench(8, 2)
    blocks = [block_of(8, 2, number) for number in range(2)]

    async def drive(ctx):
        for block in blocks:
            await bench.reserve(ctx)
            await bench.fill(ctx, block)
        await bench.fill(ctx, block_of(8, 2, 99), **ignored)
        for block in blocks:
            for column in range(2):
                np.testing.assert_array_equal(await bench.read(ctx, column, column), block[column])
        await ctx.tick()
        assert bench.counts(ctx) == (1, 0, 0)

    simulate(bench.dut, drive)


@pytest.mark.parametrize("lanes", [1, 8, 16])
@pytest.mark.parametrize("share", [0, 0.5])
def test_requests_wait_for_the_column_before(lanes, share):
    # The next request is offered while a column is read, and is taken once.
    bench, sums = Bench(lanes, 3), []
    blocks = [block_of(lanes, 3, number) for number in range(2)]
    beats = 5 * lanes // bench.map.places

    async def ask(ctx):
        for block in blocks:
            await bench.reserve(ctx)
            await bench.fill(ctx, block)
        await put(ctx, bench.dut.request, [{"column": column, "last": column == 2}
                                           for column in (0, 1, 2, 1, 0, 2)])
        assert not ctx.get(bench.dut.full)

    async def take(ctx):
        for word in await get(ctx, bench.dut.sums, 6 * beats, coin(lanes, share)):
            sums.extend(word >> 64 * place & 2**64 - 1 for place in range(bench.map.places))
        await ctx.tick().repeat(3 * beats)
        assert bench.counts(ctx) == (1, 0, 0) and not ctx.get(bench.dut.sums.valid)

    simulate(bench.dut, ask, take)
    np.testing.assert_array_equal(
        np.array(sums, np.uint64).astype(np.int64).reshape(6, -1),
        [*blocks[0], *blocks[1][[1, 0, 2]]])


def test_the_next_column_is_read_behind_a_blocked_output():
    # Two sums of a column are left; those of the next column follow after the stages of the reads,
    # for which the framer has the words of a trailer and a header.
    bench, valid = Bench(1, 2), []

    async def drive(ctx):
        dut = bench.dut
        await bench.reserve(ctx)
        await bench.fill(ctx, block_of(1, 2, 0))
        await put(ctx, dut.request, [{"column": 0, "last": 0}])
        await get(ctx, dut.sums, 3)
        await put(ctx, dut.request, [{"column": 1, "last": 1}])
        await ctx.tick().repeat(10)
        ctx.set(dut.sums.ready, 1)
        for _ in range(12):
            valid.append(ctx.get(dut.sums.valid))
            await ctx.tick()

    simulate(bench.dut, drive)
    assert valid == 2 * [1] + 2 * [0] + 5 * [1] + 3 * [0]


def test_a_bank_reserved_as_another_is_freed_is_counted():
    # Reservation in every cycle around the release, one at a time: two are free at the end.
    for delay in range(30):
        bench = Bench(2, 1)

        async def drive(ctx, bench=bench, delay=delay):
            await bench.reserve(ctx)
            await bench.fill(ctx, block_of(2, 1, 0))
            dut = bench.dut
            ctx.set(dut.request.p, {"column": 0, "last": 1})
            ctx.set(dut.sums.ready, 1)
            for cycle in range(40):
                ctx.set(dut.request.valid, cycle == 0)
                ctx.set(dut.reserve, cycle == delay)
                await ctx.tick()
            assert bench.counts(ctx) == (1, 0, 1)
            await bench.fill(ctx, block_of(2, 1, 1))
            np.testing.assert_array_equal(await bench.read(ctx, 0, 1), block_of(2, 1, 1)[0])
            await ctx.tick()
            assert bench.counts(ctx) == (1, 0, 0)

        simulate(bench.dut, drive)


def test_a_slot_that_is_not_valid_finishes_nothing():
    bench = Bench(2, 1)

    async def drive(ctx):
        await bench.reserve(ctx)
        for index in range(SLOTS):
            ctx.set(bench.dut.rows.slot, {"valid": 0, "index": index, "first": 1, "last": 1})
            await ctx.tick()
        assert bench.counts(ctx) == (1, 0, 1)
        # Fourteen slots are no bank.
        for index in range(SLOTS - 1):
            ctx.set(bench.dut.rows.slot, {"valid": 1, "index": index, "first": 1, "last": 1})
            await ctx.tick()
            assert bench.counts(ctx) == (1, 0, 1)

    simulate(bench.dut, drive)


@pytest.mark.parametrize("lanes", [1, 8, 64])
def test_first_sum_after_the_latency_then_one_a_cycle(lanes):
    bench, cycles, busy = Bench(lanes, 1), [], 0
    beats = 5 * lanes // bench.map.places

    async def drive(ctx):
        nonlocal busy
        dut = bench.dut
        await bench.reserve(ctx)
        await bench.fill(ctx, block_of(lanes, 1, 0))
        ctx.set(dut.request.p, {"column": 0, "last": 1})
        ctx.set(dut.request.valid, 1)
        ctx.set(dut.sums.ready, 1)
        for cycle in range(beats + 20):
            busy += ctx.get(dut.busy)
            if ctx.get(dut.sums.valid):
                cycles.append(cycle)
            await ctx.tick()
            ctx.set(dut.request.valid, 0)

    simulate(bench.dut, drive)
    assert cycles == list(range(cycles[0], cycles[0] + beats))
    assert cycles[0] == LATENCY + 1     # a cycle of the request itself
    # Free from the cycle after its last row was read: a cycle of the request, one of the address.
    assert busy == beats + 2


@pytest.mark.parametrize("filled", range(3))
def test_restart_frees_both_banks(filled):
    bench = Bench(2, 1)

    async def drive(ctx):
        for number in range(2):
            await bench.reserve(ctx)
            if number < filled:
                await bench.fill(ctx, block_of(2, 1, number))
        ctx.set(bench.dut.restart, 1)
        await ctx.tick()
        ctx.set(bench.dut.restart, 0)
        assert bench.counts(ctx) == (1, 0, 0)
        for number in (5, 6):
            await bench.reserve(ctx)
            await bench.fill(ctx, block_of(2, 1, number))
        for number in (5, 6):
            np.testing.assert_array_equal(await bench.read(ctx, 0, 1), block_of(2, 1, number)[0])

    simulate(bench.dut, drive)
