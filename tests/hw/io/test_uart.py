from itertools import pairwise

import numpy as np
import pytest

from tritstream.hw.io.uart import Line, UartReceiver, UartTransmitter
from tritstream.sim.harness import simulate
from tritstream.sim.streams import coin, never, put

#: Byte times of silence that make a gap here.
IDLE = 3
GAP  = "gap"
DATA = bytes([0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80, *np.random.default_rng(1).bytes(20)])


def frame(byte, stop=1):
    """Levels of a byte, a bit time each."""
    return [(level, 1) for level in (0, *(byte >> bit & 1 for bit in range(8)), stop)]


def silence(byte_times):
    return [(1, 10 * byte_times)]


def line_of(data, stop=1):
    return [level for byte in data for level in frame(byte, stop)]


def receive(levels, cycles, off=1.0, phase=0.0, stalls=never):
    """What a receiver makes of levels that last ``off * cycles`` a bit, from ``phase`` on."""
    dut = UartReceiver(Line(cycles, IDLE))
    taken, ended = [], []

    async def line(ctx):
        now, edge = 0, phase
        for level, bits in [*levels, (1, 12)]:
            ctx.set(dut.rx, level)
            edge += bits * cycles * off
            while now < edge:
                await ctx.tick()
                now += 1
        ended.append(True)

    async def sink(ctx):
        while not ended:
            ready = not stalls()
            ctx.set(dut.o.ready, ready)
            _, _, valid, received = await ctx.tick().sample(dut.o.valid, dut.o.p)
            if valid and ready:
                taken.append(GAP if received.gap else received.data)

    simulate(dut, line, sink)
    return taken


@pytest.mark.parametrize("cycles", [4, 5.3, 16])
@pytest.mark.parametrize("off", [0.98, 1.0, 1.02])
def test_bytes_are_received_two_percent_fast_or_slow(cycles, off):
    for phase in (0, 0.3, 0.6, 0.9):
        assert receive(line_of(DATA), cycles, off, phase) == list(DATA)


def test_pauses_between_bytes_do_not_count():
    levels = [level for pause, byte in enumerate(DATA)
              for level in [*frame(byte), (1, 0.37 * pause)]]
    assert receive(levels, 5.3) == list(DATA)


def test_stalls_shorter_than_a_byte_lose_nothing():
    assert receive(line_of(DATA), 8, stalls=coin(3, 0.8)) == list(DATA)


def test_a_spike_is_no_byte():
    levels = [*frame(0x12), (1, 1), (0, 0.3), (1, 9), *frame(0x34)]
    assert receive(levels, 16) == [0x12, 0x34]


def test_silence_is_one_gap():
    levels = [*silence(5), *frame(0x12), *silence(2.9), *frame(0x34), *silence(3), *frame(0x56),
              *silence(9), *frame(0x78)]
    assert receive(levels, 8) == [0x12, 0x34, GAP, 0x56, GAP, 0x78]


def test_a_missing_stop_bit_passes_the_byte():
    levels = [*frame(0x12), *frame(0x34, stop=0), (1, 1), *frame(0x56)]
    assert receive(levels, 8) == [0x12, 0x34, 0x56]


def test_a_byte_with_any_bit_is_no_break():
    levels = [level for bit in range(8) for level in [*frame(1 << bit, stop=0), (1, 1)]]
    assert receive(levels, 8) == [1 << bit for bit in range(8)]


@pytest.mark.parametrize("bits", [10, 11, 40])
def test_a_break_is_one_gap_and_no_byte(bits):
    levels = [*frame(0x12), (0, bits), (1, 1), *frame(0x34)]
    assert receive(levels, 8) == [0x12, GAP, 0x34]


def test_what_comes_while_nothing_is_taken_is_lost_but_not_the_gap():
    blocked = iter([*[True] * (8 * 48), *[False] * 8 * 30])
    levels = [*line_of([1, 2, 3]), (0, 10), (1, 4), *line_of([4, 5])]
    assert receive(levels, 8, stalls=lambda: next(blocked, False)) == [1, GAP, 4, 5]


def levels_of(data, cycles, stalls=never):
    """The line of a transmitter, a level a cycle."""
    dut = UartTransmitter(Line(cycles))
    levels, ended = [], []

    async def source(ctx):
        await put(ctx, dut.i, data, stalls)
        await ctx.tick().repeat(int(12 * cycles))
        ended.append(True)

    async def line(ctx):
        while not ended:
            levels.append(ctx.get(dut.tx))
            await ctx.tick()

    simulate(dut, source, line, cycles=1000 + int(20 * cycles) * len(data))
    return levels


def runs(levels):
    """(level, cycles) of each run."""
    cuts = [0, *(np.flatnonzero(np.diff(levels)) + 1), len(levels)]
    return [(levels[low], high - low) for low, high in pairwise(cuts)]


@pytest.mark.parametrize("cycles", [4, 5.3, 16])
def test_bits_sent_are_as_long_as_they_should_be(cycles):
    levels = levels_of([0x55] * 4, cycles)
    edges = np.flatnonzero(np.diff(levels))
    assert len(edges) == 40         # every bit differs from the one before it
    assert np.abs(edges - edges[0] - cycles * np.arange(40)).max() < 1


def test_bytes_sent_follow_each_other_at_once():
    first, *middle, _ = runs(levels_of([0x00, 0xFF, 0x0F], 8))
    assert first[0] == 1
    assert middle == [(0, 72), (1, 8), (0, 8), (1, 72), (0, 8), (1, 32), (0, 32)]


@pytest.mark.parametrize("pause", range(1, 120, 17))
def test_a_byte_after_a_pause_starts_within_a_bit(pause):
    waits = iter([True] * pause)
    levels = levels_of([0x0F], 8, lambda: next(waits, False))
    assert pause <= levels.index(0) <= pause + 8 + 2


@pytest.mark.parametrize("stalls", [never, coin(5, 0.9)])
@pytest.mark.parametrize("cycles", [4, 5.3])
def test_bytes_sent_are_received(cycles, stalls):
    levels = [(level, 1 / cycles) for level in levels_of(DATA, cycles, stalls)]
    assert [item for item in receive(levels, cycles) if item != GAP] == list(DATA)


def test_too_few_cycles_a_bit_are_refused():
    with pytest.raises(ValueError, match=r"^a UART needs 4 clock cycles per bit, not 3.6: raise "
                                         r"the clock or lower the baud rate$"):
        Line(3.6)
