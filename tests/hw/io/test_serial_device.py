import numpy as np
import pytest

from tritstream.hw.io.serial_device import WordAssembler, WordSplitter
from tritstream.sim.harness import simulate
from tritstream.sim.streams import coin, get, never, put

LANES = [1, 2, 8, 64]
GAP = None


def assemble(lanes, items, stalls=never, slow=0):
    """What comes out of an assembler: words, and GAP for each frame abandoned.

    ``slow`` cycles pass before the device admits that it has abandoned.
    """
    dut = WordAssembler(lanes)
    out, ended = [], []

    async def source(ctx):
        received = [{"data": item or 0, "gap": item is GAP} for item in items]
        await put(ctx, dut.i, received, stalls)
        await ctx.tick().repeat(3)
        ended.append(True)

    async def device(ctx):
        held = 0
        while not ended:
            ready = not stalls()
            ctx.set(dut.o.ready, ready)
            held = held + 1 if ctx.get(dut.abandon) else 0
            assert not held or not ctx.get(dut.o.valid)
            ctx.set(dut.abandoned, held > slow)
            if held > slow:
                out.append(GAP)
                held = 0
            _, _, valid, word = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid and ready:
                out.append(word.to_bytes(lanes, "little"))

    simulate(dut, source, device)
    return out


def words_of(lanes, data):
    return [data[low:low + lanes] for low in range(0, len(data) // lanes * lanes, lanes)]


@pytest.mark.parametrize("stalls", [never, coin(1, 0.5)])
@pytest.mark.parametrize("lanes", LANES)
def test_words_are_assembled_lowest_byte_first(lanes, stalls):
    data = np.random.default_rng(lanes).bytes(6 * lanes)
    assert assemble(lanes, data, stalls) == words_of(lanes, data)


@pytest.mark.parametrize("slow", [0, 7])
@pytest.mark.parametrize("stalls", [never, coin(2, 0.5)])
@pytest.mark.parametrize("lanes", LANES)
def test_a_gap_drops_a_partial_word(lanes, stalls, slow):
    rng = np.random.default_rng(lanes)
    items, expected = [], []
    for size in (2 * lanes, 3 * lanes - 1, lanes // 2, 0, 4 * lanes):
        data = rng.bytes(size)
        items += [*data, GAP]
        expected += [*words_of(lanes, data), GAP]
    assert assemble(lanes, items, stalls, slow) == expected


@pytest.mark.parametrize("stalls", [never, coin(3, 0.5)])
@pytest.mark.parametrize("lanes", LANES)
def test_words_are_split_lowest_byte_first(lanes, stalls):
    dut = WordSplitter(lanes)
    data = np.random.default_rng(lanes).bytes(5 * lanes)
    taken = []

    async def source(ctx):
        await put(ctx, dut.i, [{"data": int.from_bytes(word, "little"), "last": 0}
                               for word in words_of(lanes, data)], stalls)

    async def sink(ctx):
        taken.extend(await get(ctx, dut.o, len(data), stalls))

    simulate(dut, source, sink)
    assert bytes(taken) == data


def test_a_word_is_collected_while_none_is_taken_and_held_then():
    # Also where nothing is under way behind it: that ends a gap, and takes no byte.
    dut = WordAssembler(2)

    async def drive(ctx):
        ctx.set(dut.abandoned, 1)
        ctx.set(dut.i.valid, 1)
        for byte in (0x12, 0x34):
            ctx.set(dut.i.p.data, byte)
            assert ctx.get(dut.i.ready)
            await ctx.tick()
        for _ in range(3):
            assert ctx.get(dut.o.valid) and not ctx.get(dut.i.ready)
            assert ctx.get(dut.o.payload) == 0x3412
            await ctx.tick()

    simulate(dut, drive)
