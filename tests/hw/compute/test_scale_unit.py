import numpy as np
import pytest

from tritstream.hw.compute.scale_mantissas import ScaleMantissas
from tritstream.hw.compute.scale_unit import ScaleUnit
from tritstream.sim.harness import simulate

from benches.scale_chain import ScaleChain

ROWS = 5
#: A digit as two wires: nonzero, negative.
PAIRS = np.array([0b00, 0b01, 0b11])
LARGEST_SUM, LARGEST_MANTISSA = 16 * 40 * 128, 2**17 - 1


def run(sums, codes, mantissas, blocks, starts, seed=0):
    """Row sums and slots of each cycle; garbage stands wherever nothing is due.

    ``sums`` and ``codes`` are (groups, lanes, 5); ``blocks`` holds the groups of each row block,
    ``starts`` the cycle of each group's first scale beat.
    """
    lanes = sums.shape[1]
    dut = ScaleChain(lanes)
    rng = np.random.default_rng(seed)
    edges = np.cumsum([0, *blocks])
    digits = codes[..., None] // [1, 3, 9] % 3
    seen = []

    async def drive(ctx):
        for code, mantissa in enumerate(mantissas):
            pairs = PAIRS[code // np.array([1, 3, 9]) % 3]
            await load(ctx, int(pairs @ [1, 4, 16]), int(mantissa))
        ctx.set(dut.load, {"en": 0, "code": 0, "mantissa": 0})
        for cycle in range(starts[-1] + 40):
            group = np.searchsorted(starts, cycle, side="right") - 1
            await feed(ctx, cycle, group)
            slot = ctx.get(dut.slot)
            seen.append((slot.valid, slot.index, slot.first, slot.last, ctx.get(dut.row_sum)))
            await ctx.tick()

    async def load(ctx, code, mantissa):
        ctx.set(dut.load, {"en": 1, "code": code, "mantissa": mantissa})
        await ctx.tick()

    async def feed(ctx, cycle, group):
        # Other beats, and what idle cycles say, begin nothing.
        valid, scale_start = (1, 1) if cycle in starts else rng.choice([(0, 0), (0, 1), (1, 0)])
        ctx.set(dut.beat, {
            "valid": int(valid), "scale_start": int(scale_start), "weight": 0,
            "first": 0, "scale_last": 0, "group_first": int(group in edges),
            "group_last": int(group + 1 in edges),
        })
        age = cycle - starts[max(group, 0)] - 1
        for row in range(ROWS):
            turn = age - 3 * row
            for lane in range(lanes):
                value, pair = rng.integers(-LARGEST_SUM, LARGEST_SUM), rng.choice(PAIRS)
                if 0 <= turn < 3:
                    value, pair = sums[group, lane, row], PAIRS[digits[group, lane, row, turn]]
                ctx.set(dut.sums[lane][row], int(value) % 2**18)
                ctx.set(dut.trits[lane][row], int(pair))

    simulate(dut, drive, cycles=starts[-1] + 100)
    return np.array(seen)


def check(sums, codes, mantissas, blocks, starts):
    """Every slot of every group has the row sum so far, at its cycle and no other."""
    seen = run(sums, codes, mantissas, blocks, starts)
    edges = np.cumsum([0, *blocks])
    products = sums.astype(np.int64) * mantissas[codes]
    for group, start in enumerate(starts):
        begin = edges[np.searchsorted(edges, group, side="right") - 1]
        expected = products[begin:group + 1].sum(axis=0)
        for slot in range(15):
            row, lane = divmod(slot, 3)
            valid, index, first, last, row_sum = seen[start + ScaleUnit.STAGES + slot]
            assert (valid, index) == (1, slot)
            assert (first, last) == (group == begin, group + 1 in edges)
            if lane < sums.shape[1]:
                assert row_sum == expected[lane, row], f"group {group}, lane {lane}, row {row}"
    assert seen[:, 0].sum() == 15 * len(starts)


def starts_of(count, gap, seed=1):
    rng = np.random.default_rng(seed)
    return [int(start) for start in 4 + np.cumsum(rng.integers(19, 19 + gap, count))]


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("gap", [1, 12])
def test_row_sums_are_those_of_numpy(lanes, gap):
    rng = np.random.default_rng(lanes)
    blocks = [1, 5, 1, 1, 2, 4]
    shape = sum(blocks), lanes, ROWS
    check(rng.integers(-LARGEST_SUM, LARGEST_SUM + 1, shape), rng.integers(0, 27, shape),
          rng.integers(0, LARGEST_MANTISSA + 1, 27), blocks, starts_of(shape[0], gap))


@pytest.mark.parametrize("lanes", [1, 3])
def test_extreme_sums_and_mantissas(lanes):
    rng = np.random.default_rng(9)
    blocks = [12, 12]
    shape = sum(blocks), lanes, ROWS
    sums = rng.choice([-LARGEST_SUM, LARGEST_SUM], shape)
    sums[:12] = np.where(np.arange(ROWS) % 2, LARGEST_SUM, -LARGEST_SUM)
    codes = rng.integers(0, 27, shape)
    codes[:12] = 26
    mantissas = np.where(np.arange(27) % 2, 0, LARGEST_MANTISSA)
    check(sums, codes, mantissas, blocks, starts_of(shape[0], 1))


def test_every_code_finds_its_mantissa():
    codes = np.arange(30).reshape(2, 3, ROWS) % 27
    check(np.ones_like(codes), codes, 1000 + np.arange(27) * 4000, [1, 1], starts_of(2, 1))


def test_latency_is_that_of_the_stages():
    # A sum at rest in its turn only: slot 0 of the first group.
    dut = ScaleChain(1)

    async def drive(ctx):
        for code in range(64):
            ctx.set(dut.load, {"en": 1, "code": code, "mantissa": 3})
            await ctx.tick()
        ctx.set(dut.load, {"en": 0, "code": 0, "mantissa": 0})
        ctx.set(dut.beat, {"valid": 1, "scale_start": 1, "weight": 0, "first": 0,
                           "scale_last": 0, "group_first": 1, "group_last": 1})
        await ctx.tick()
        ctx.set(dut.beat.valid, 0)
        assert ctx.get(dut.onehot) == 1
        ctx.set(dut.sums[0][0], 111)
        for cycle in range(ScaleUnit.STAGES - 1):
            assert not ctx.get(dut.slot.valid), cycle
            await ctx.tick()
            ctx.set(dut.sums[0][0], 0)
        assert ctx.get(dut.slot.valid)
        assert ctx.get(dut.row_sum) == 333

    simulate(dut, drive, cycles=100)


def mantissa_bytes(mantissas):
    """Bytes (10, lanes) of the ten scale words for mantissas (5, lanes)."""
    low, high = mantissas & 255, mantissas >> 8
    pairs = {1: [(0, 0, low, 0), (1, 0, high, 0)],
             2: [(0, 0, low, 0), (0, 1, high, 0), (1, 0, low, 1), (1, 1, high, 1)]}
    pairs[3] = [*pairs[2], (0, 2, low, 2), (1, 2, high, 2)]
    words = np.zeros((10, mantissas.shape[1]), int)
    for odd, byte, half, lane in pairs[mantissas.shape[1]]:
        words[odd::2, byte] = half[:, lane]
    return words


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("share", [0, 0.4])
def test_direct_mantissas_find_their_slots(lanes, share):
    # The last three words come in consecutive cycles, the others with any pauses.
    dut, rng = ScaleChain(lanes), np.random.default_rng(lanes)
    groups = [rng.integers(0, 2**16, (ROWS, lanes)) for _ in range(4)]
    seen = []

    async def beat(ctx, **fields):
        ctx.set(dut.beat, {"first": 0, "scale_last": 0, "group_first": 1, "group_last": 1,
                           "weight": 0, "scale_start": 0, "valid": 0, **fields})
        slot = ctx.get(dut.slot)
        if slot.valid and slot.index % 3 < lanes:
            seen.append((slot.index, ctx.get(dut.row_sum)))
        await ctx.tick()

    async def drive(ctx):
        ctx.set(dut.load, {"en": 0, "code": 0b111111, "mantissa": 2**17 - 1})
        ctx.set(dut.direct, 1)
        for row, lane in np.ndindex(ROWS, lanes):
            ctx.set(dut.sums[lane][row], 1)
            ctx.set(dut.trits[lane][row], 0b11)
        for group in groups:
            for _ in range(16):
                for lane in range(lanes):
                    ctx.set(dut.bytes[lane], int(rng.integers(256)))
                await beat(ctx, weight=1, valid=1)
            for number, word in enumerate(mantissa_bytes(group)):
                for lane in range(lanes):
                    ctx.set(dut.bytes[lane], int(word[lane]))
                while number < 8 and rng.random() < share:
                    await beat(ctx)
                await beat(ctx, valid=1, scale_start=int(number == 7))
        for _ in range(ScaleUnit.STAGES + 15):
            await beat(ctx, weight=1)

    simulate(dut, drive, cycles=400)
    assert seen == [(3 * row + lane, value) for group in groups
                    for (row, lane), value in np.ndenumerate(group)]


def test_mantissa_leaves_after_its_latency():
    dut = ScaleMantissas(3)

    async def drive(ctx):
        for code, mantissa in ((0b000000, 10), (0b110001, 20), (0b001111, 30)):
            ctx.set(dut.write, {"en": 1, "load": 1, "address": code, "mantissa": mantissa,
                                "step": 0})
            await ctx.tick()
        ctx.set(dut.write, {"en": 0, "load": 0, "address": 0, "mantissa": 0, "step": 0})
        lanes = [0b000000, 0b110001, 0b001111]
        mantissas = []
        for cycle in range(ScaleMantissas.LATENCY + 3):
            ctx.set(dut.onehot, 1 << cycle)
            for lane, code in enumerate(lanes):
                ctx.set(dut.trits[lane][0], code >> 2 * cycle & 3 if cycle < 3 else 3)
            mantissas.append(ctx.get(dut.mantissa))
            await ctx.tick()
        assert mantissas[ScaleMantissas.LATENCY:] == [10, 20, 30]

    simulate(dut, drive, cycles=100)
