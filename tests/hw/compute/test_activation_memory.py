import numpy as np
import pytest

from tritstream.golden.fixed_point import MAX_K
from tritstream.hw.compute.activation_memory import MAX_ROW_BYTES, ActivationMemory
from tritstream.sim.harness import simulate
from tritstream.sim.streams import coin, never

LANES = [1, 4, 8, 16]


def vectors(columns, k, seed=0):
    return np.random.default_rng(seed).integers(-128, 128, (columns, k), np.int8)


async def write(ctx, dut, column, data, gap=never):
    """Write a vector, padded to 64 bytes with what must not be read."""
    rows = data.tobytes().ljust(-(-len(data) // 64) * 64, b"\x55")
    ctx.set(dut.write_column, column)
    for low in range(0, len(rows), dut.row_bytes):
        while gap():
            ctx.set(dut.write.valid, 0)
            ctx.set(dut.write.first, 0)
            await ctx.tick()
        ctx.set(dut.write.valid, 1)
        ctx.set(dut.write.first, low == 0)
        ctx.set(dut.write.data, int.from_bytes(rows[low:low + dut.row_bytes], "little"))
        await ctx.tick()
    ctx.set(dut.write.valid, 0)


async def read(ctx, dut, groups, count, gap=never):
    """Restart and return the first ``count`` elements of each column: (columns, count)."""
    ctx.set(dut.group_last, groups - 1)
    ctx.set(dut.restart, 1)
    await ctx.tick()
    ctx.set(dut.restart, 0)
    await ctx.tick().repeat(dut.PRIME)
    elements = []
    while len(elements) < count:
        advance = not gap()
        x = [ctx.get(value) for value in dut.activations.x]
        if advance:
            elements.append(x)
        ctx.set(dut.activations.advance, advance)
        await ctx.tick()
    ctx.set(dut.activations.advance, 0)
    return np.array(elements).T


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("share", [0, 0.5])
@pytest.mark.parametrize("k", [16, 64, 80])
def test_replays_each_column_from_the_start(lanes, share, k):
    dut = ActivationMemory(columns=3, max_k=80, word_bytes=lanes)
    assert dut.row_bytes == min(lanes, MAX_ROW_BYTES)
    assert dut.rows * dut.row_bytes == 128
    x = vectors(3, k, seed=k)

    async def drive(ctx):
        for column in (2, 0, 1):
            await write(ctx, dut, column, x[column], coin(column, share))
        # Two and a half row blocks.
        count = 5 * k // 2
        elements = await read(ctx, dut, k // 16, count, coin(9, share))
        np.testing.assert_array_equal(elements, np.tile(x, 3)[:, :count])

    simulate(dut, drive, cycles=3_000)


@pytest.mark.parametrize("lanes", LANES)
def test_element_stands_at_its_cycle_until_it_is_used(lanes):
    dut = ActivationMemory(columns=1, max_k=64, word_bytes=lanes)
    x, = vectors(1, 64)

    async def drive(ctx):
        await write(ctx, dut, 0, x)
        ctx.set(dut.group_last, 3)
        ctx.set(dut.restart, 1)
        await ctx.tick()
        ctx.set(dut.restart, 0)
        await ctx.tick().repeat(dut.PRIME)
        for element in x:
            for _ in range(3):
                assert ctx.get(dut.activations.x[0]) == element
                await ctx.tick()
            ctx.set(dut.activations.advance, 1)
            assert ctx.get(dut.activations.x[0]) == element
            await ctx.tick()
            ctx.set(dut.activations.advance, 0)

    simulate(dut, drive, cycles=1_000)


@pytest.mark.parametrize("used", [0, 1, 5, 16, 31])
def test_restart_begins_with_the_first_element(used):
    dut = ActivationMemory(columns=1, max_k=64, word_bytes=8)
    x = vectors(1, 32)

    async def drive(ctx):
        await write(ctx, dut, 0, x[0])
        await read(ctx, dut, 2, used)
        np.testing.assert_array_equal(await read(ctx, dut, 2, 32), x)

    simulate(dut, drive, cycles=500)


def test_restart_while_the_pipeline_fills():
    dut = ActivationMemory(columns=1, max_k=64, word_bytes=8)
    x = vectors(1, 32)

    async def drive(ctx):
        await write(ctx, dut, 0, x[0])
        for early in range(1, dut.PRIME + 2):
            ctx.set(dut.group_last, 1)
            ctx.set(dut.restart, 1)
            await ctx.tick()
            ctx.set(dut.restart, 0)
            await ctx.tick().repeat(early)
            np.testing.assert_array_equal(await read(ctx, dut, 2, 32), x)

    simulate(dut, drive, cycles=500)


@pytest.mark.parametrize("lanes", LANES)
def test_a_new_vector_replaces_its_column_only(lanes):
    dut = ActivationMemory(columns=2, max_k=64, word_bytes=lanes)
    x, new = vectors(2, 64), vectors(1, 16, seed=5)

    async def drive(ctx):
        await write(ctx, dut, 0, x[0])
        await write(ctx, dut, 1, x[1])
        await write(ctx, dut, 1, new[0])
        elements = await read(ctx, dut, 1, 32)
        np.testing.assert_array_equal(elements, np.tile([x[0, :16], new[0]], 2))
        np.testing.assert_array_equal((await read(ctx, dut, 4, 64))[0], x[0])

    simulate(dut, drive, cycles=1_000)


@pytest.mark.parametrize("bit", range(11))
def test_a_vector_goes_on_where_any_bit_of_the_group_differs(bit):
    # Of 2^bit + 1 groups, two are read. Without that bit, the first would be taken for the last.
    dut = ActivationMemory(columns=1, max_k=MAX_K, word_bytes=8)
    x = vectors(1, 32, seed=bit)

    async def drive(ctx):
        await write(ctx, dut, 0, x[0])
        np.testing.assert_array_equal(await read(ctx, dut, 1 + (1 << bit), 32), x)

    simulate(dut, drive, cycles=200)


def test_write_that_broke_off_is_begun_anew():
    dut = ActivationMemory(columns=1, max_k=64, word_bytes=4)
    x = vectors(1, 64)

    async def drive(ctx):
        for row in range(5):
            ctx.set(dut.write.valid, 1)
            ctx.set(dut.write.first, row == 0)
            ctx.set(dut.write.data, 0)
            await ctx.tick()
        ctx.set(dut.write.valid, 0)
        await write(ctx, dut, 0, x[0])
        np.testing.assert_array_equal(await read(ctx, dut, 4, 64), x)

    simulate(dut, drive, cycles=500)
