import numpy as np
import pytest

from tritstream.hw.control.loader import Loader
from tritstream.sim.harness import simulate
from tritstream.sim.streams import coin, never

LANES = [1, 2, 4, 8, 16, 64]
#: A scale code's trits on wires, digit 0 lowest.
CODES = [sum((0b00, 0b01, 0b11)[code // 3**digit % 3] << 2 * digit for digit in range(3))
         for code in range(27)]


def run(lanes, payloads, scales, gap=never):
    """What each payload is cut into: rows, (code, mantissa) pairs, verdicts, cycles."""
    dut = Loader(lanes)
    results = []

    async def drive(ctx):
        ctx.set(dut.loading, 1)
        ctx.set(dut.scales, scales)
        for payload in payloads:
            ctx.set(dut.restart, 1)
            await ctx.tick()
            ctx.set(dut.restart, 0)
            results.append(await feed(ctx, payload))

    async def feed(ctx, payload):
        rows, entries, cycles = [], [], 0
        words = [payload[low:low + lanes] for low in range(0, len(payload), lanes)]
        while words:
            cycles += 1
            valid = ctx.get(dut.words.valid) or not gap()
            ctx.set(dut.words.valid, valid)
            if valid:
                ctx.set(dut.words.p.data, int.from_bytes(words[0], "little"))
                ctx.set(dut.words.p.last, len(words) == 1)
            look(ctx, rows, entries)
            taken = valid and ctx.get(dut.words.ready)
            await ctx.tick()
            if taken:
                words.pop(0)
                ctx.set(dut.words.valid, 0)
        for _ in range(3):
            look(ctx, rows, entries)
            await ctx.tick()
        return rows, entries, ctx.get(dut.bad_mantissa), cycles

    def look(ctx, rows, entries):
        if ctx.get(dut.rows.valid):
            row = ctx.get(dut.rows.data).to_bytes(min(lanes, 8), "little")
            rows.append((row, ctx.get(dut.rows.first)))
        mantissa = ctx.get(dut.mantissa)
        if mantissa.en:
            entries.append((mantissa.code, mantissa.mantissa))

    simulate(dut, drive, cycles=5_000)
    return results


def table(seed=0):
    return np.random.default_rng(seed).integers(0, 2**17, 27, dtype="<u4")


def whole_words(data, lanes, fill=b"\0"):
    return data.ljust(-(-len(data) // lanes) * lanes, fill)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("share", [0, 0.5])
def test_activations_become_rows_in_order(lanes, share):
    rng = np.random.default_rng(lanes)
    payloads = [whole_words(rng.bytes(k), lanes) for k in (64, 16, 80)]
    results = run(lanes, payloads, scales=0, gap=coin(lanes, share))
    assert len(results) == 3
    for payload, (rows, entries, bad, _) in zip(payloads, results, strict=True):
        assert b"".join(row for row, _ in rows) == payload
        assert [first for _, first in rows] == [1] + [0] * (len(rows) - 1)
        assert (entries, bad) == ([], 0)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("share", [0, 0.5])
def test_scales_become_mantissas_of_their_codes(lanes, share):
    tables = [table(1), table(2), np.full(27, 2**17 - 1, "<u4")]
    payloads = [whole_words(entries.tobytes(), lanes) for entries in tables]
    results = run(lanes, payloads, scales=1, gap=coin(lanes, share))
    assert len(results) == 3
    for expected, (rows, entries, bad, _) in zip(tables, results, strict=True):
        assert entries == list(zip(CODES, expected, strict=True))
        assert (rows, bad) == ([], 0)


@pytest.mark.parametrize("lanes", LANES)
def test_a_row_or_a_mantissa_a_cycle(lanes):
    (*_, cycles), = run(lanes, [bytes(128)], scales=0)
    assert cycles == 128 // min(lanes, 8)
    payload = whole_words(table().tobytes(), lanes)
    (*_, cycles), = run(lanes, [payload], scales=1)
    assert cycles == len(payload) // min(lanes, 4)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("wrong", [2**17, 2**31, 2**32 - 1])
def test_mantissa_of_more_than_seventeen_bits_is_reported(lanes, wrong):
    for place in (0, 13, 26):
        entries = table(place)
        entries[place] = wrong
        good = whole_words(table().tobytes(), lanes)
        results = run(lanes, [good, whole_words(entries.tobytes(), lanes), good], scales=1)
        # And forgotten with the next payload.
        assert [bad for _, _, bad, _ in results] == [0, 1, 0]


@pytest.mark.parametrize("lanes", LANES)
def test_what_follows_the_table_is_ignored(lanes):
    payload = (table().tobytes() + b"\xff" * 64)[:128]
    (_, entries, bad, _), = run(lanes, [payload], scales=1)
    assert entries == list(zip(CODES, table(), strict=True))
    assert not bad


@pytest.mark.parametrize("lanes", LANES)
def test_large_activations_are_no_bad_mantissas(lanes):
    (_, _, bad, _), = run(lanes, [b"\x7f" * 128], scales=0)
    assert not bad


@pytest.mark.parametrize("lanes", LANES)
def test_payload_that_broke_off_leaves_no_trace(lanes):
    whole = whole_words(table().tobytes(), lanes)
    broken = whole_words(table(3).tobytes(), lanes)[:max(lanes, 11 // lanes * lanes)]
    _, (_, entries, _, _) = run(lanes, [broken, whole], scales=1)
    assert entries == list(zip(CODES, table(), strict=True))
    _, (rows, _, _, _) = run(lanes, [broken, whole], scales=0)
    assert b"".join(row for row, _ in rows) == whole


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("scales", [0, 1])
def test_ready_while_no_load_comes(lanes, scales):
    dut = Loader(lanes)

    async def drive(ctx):
        ctx.set(dut.scales, scales)
        await ctx.tick()
        for loading, ready in [(0, True), (1, lanes <= (4 if scales else 8)), (0, True)]:
            ctx.set(dut.loading, loading)
            await ctx.tick()
            assert ctx.get(dut.words.ready) == ready

    simulate(dut, drive)
