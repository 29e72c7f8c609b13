"""The sequencer against a list of what each word of a GEMV is."""

from itertools import product

import numpy as np
import pytest

from tritstream.golden.fixed_point import GROUP
from tritstream.hw.compute.sequencer import Sequencer
from tritstream.sim.harness import simulate
from tritstream.sim.streams import coin, never

FIELDS = ("weight", "first", "scale_start", "scale_last", "group_first", "group_last")


def beats_of(depth: int, chunks: int, blocks: int, length: int = 1, direct: bool = False
             ) -> list[dict]:
    """Each word of a GEMV, and whether it ends its block. What only the last beat of a group must
    tell, ``group_first`` and ``group_last``, is asked for in scale beats alone.
    """
    beats = []
    for _, at in product(range(blocks), range(0, chunks, length)):
        last = at + length >= chunks
        for digit in GROUP * min(length, chunks - at) * list(range(depth)):
            beats.append({"weight": 1, "first": int(digit == 0), "scale_start": 0,
                          "scale_last": 0, "end": 0})
        for left in range(10 if direct else 3, 0, -1):
            beats.append({"weight": 0, "first": 0, "scale_start": int(left == 3),
                          "scale_last": int(left == 1), "group_first": int(at == 0),
                          "group_last": int(last), "end": int(last and left == 1)})
    return beats


class Run:
    """A sequencer fed with payloads: beats, cycles, and what it says at the end of each."""

    def __init__(self, gap=never, credit=lambda: True):
        self.dut, self._gap, self._credit = Sequencer(1), gap, credit
        self.beats: list[dict] = []
        self.ends: list[tuple] = []
        self.waits = 0

    async def start(self, ctx, depth, chunks, blocks, length=1, direct=False):
        ctx.set(self.dut.gemv.job, {"digit_last": depth - 1, "chunk_last": chunks - 1,
                                    "length_last": length - 1, "block_last": blocks - 1,
                                    "direct": int(direct)})
        await ctx.tick()
        ctx.set(self.dut.gemv.start, 1)
        await ctx.tick()
        ctx.set(self.dut.gemv.start, 0)
        assert ctx.get(self.dut.running) and not ctx.get(self.dut.gemv.complete)

    async def feed(self, ctx, words, last=True):
        """So many words; the last of them is marked, if ``last``."""
        dut, left = self.dut, words
        while left:
            offered = ctx.get(dut.words.valid) or not self._gap()
            ctx.set(dut.words.valid, offered)
            ctx.set(dut.words.p.last, last and left == 1)
            ctx.set(dut.credit, self._credit())
            taken = offered and ctx.get(dut.words.ready)
            self.waits += bool(offered and not taken)
            self._look(ctx, taken)
            await ctx.tick()
            if taken:
                left -= 1
                ctx.set(dut.words.valid, 0)
        self._look(ctx, False)
        self.ends.append((ctx.get(dut.running), ctx.get(dut.gemv.complete)))

    def _look(self, ctx, taken):
        beat, end = ctx.get(self.dut.beat), ctx.get(self.dut.block_end)
        assert beat.valid == (taken and ctx.get(self.dut.running)) and end <= beat.valid
        if beat.valid:
            self.beats.append({**{name: getattr(beat, name) for name in FIELDS}, "end": end})


def agree(beats: list[dict], due: list[dict]) -> bool:
    """Whether there are as many beats, with all that each must tell."""
    return len(beats) == len(due) and all(
        beat | wanted == beat for beat, wanted in zip(beats, due, strict=True))


JOBS = [(1, 1, 1), (1, 1, 3), (2, 3, 2), (3, 2, 2), (4, 1, 2), (4, 3, 1), (3, 5, 3)]
#: Groups of several chunks, with a shorter last one or shorter rows, and direct mantissas.
MODES = [(1, 1, 2, 1, True), (1, 5, 2, 2, False), (2, 4, 2, 2, True), (3, 7, 1, 4, True),
         (1, 3, 2, 63, False), (1, 3, 2, 63, True), (4, 2, 2, 1, True), (2, 17, 1, 15, True)]


@pytest.mark.parametrize("job", JOBS + MODES, ids=str)
@pytest.mark.parametrize("share", [0, 0.4])
def test_every_word_is_named(job, share):
    run, due = Run(coin(1, share), coin(2, 0.3)), beats_of(*job)

    async def drive(ctx):
        for _ in range(2):
            await run.start(ctx, *job)
            await run.feed(ctx, len(due))

    simulate(run.dut, drive)
    assert agree(run.beats, 2 * due)
    assert run.ends == [(0, 1), (0, 1)]


@pytest.mark.parametrize("job", JOBS + MODES, ids=str)
def test_a_word_a_cycle(job):
    run, due = Run(), beats_of(*job)

    async def drive(ctx):
        await run.start(ctx, *job)
        await run.feed(ctx, len(due))

    simulate(run.dut, drive)
    assert agree(run.beats, due) and run.waits == 0


@pytest.mark.parametrize("job", JOBS[:5] + MODES[:3], ids=str)
def test_only_the_last_word_of_a_block_waits_for_credit(job):
    # Without credit all words but that one are taken; with it, it goes on.
    run, due = Run(credit=lambda: False), beats_of(*job)
    block = len(due) // job[2]

    async def drive(ctx):
        dut = run.dut
        await run.start(ctx, *job)
        for number in range(job[2]):
            await run.feed(ctx, block - 1, last=False)
            ctx.set(dut.words.valid, 1)
            ctx.set(dut.words.p.last, number == job[2] - 1)
            for _ in range(5):
                assert not ctx.get(dut.words.ready) and not ctx.get(dut.block_end)
                await ctx.tick()
            ctx.set(dut.credit, 1)
            await ctx.tick()
            assert ctx.get(dut.words.ready) and ctx.get(dut.block_end)
            run._look(ctx, True)
            await ctx.tick()
            ctx.set(dut.words.valid, 0)
            ctx.set(dut.credit, 0)
        assert (ctx.get(dut.running), ctx.get(dut.gemv.complete)) == (0, 1)

    simulate(run.dut, drive)
    assert agree(run.beats, due)


@pytest.mark.parametrize("job", [(1, 1, 1), (2, 2, 2), (3, 1, 3), (1, 1, 2, 1, True),
                                 (1, 3, 1, 2, True)], ids=str)
def test_a_payload_of_any_wrong_length_is_not_complete(job):
    whole = len(beats_of(*job))
    for words in sorted({1, 2, 15, 16, 17, 18, 19, 23, 25, whole // job[2], whole - 1, whole + 1,
                         whole + 19} - {whole}):
        if words > whole + 19:
            continue
        run = Run(coin(words, 0.2))

        async def drive(ctx, run=run, words=words):
            await run.start(ctx, *job)
            await run.feed(ctx, words)
            # The next one is right again.
            await run.start(ctx, *job)
            await run.feed(ctx, whole)

        simulate(run.dut, drive)
        assert run.ends == [(0, 0), (0, 1)], words
        assert agree(run.beats, beats_of(*job)[:words] + beats_of(*job)), words


def test_a_payload_that_goes_on_ends_with_the_job():
    # Whatever comes behind the last word of the job is thrown away, without credit too.
    run, due = Run(), beats_of(1, 1, 2)

    async def drive(ctx):
        await run.start(ctx, 1, 1, 2)
        await run.feed(ctx, len(due), last=False)
        run._credit = lambda: False
        await run.feed(ctx, 45)

    simulate(run.dut, drive)
    assert agree(run.beats, due)
    assert run.ends == [(0, 0), (0, 0)]
    assert run.waits == 0


def test_words_behind_a_payload_that_ends_before_the_word_that_waits_are_dropped():
    run, due = Run(credit=lambda: False), beats_of(1, 1, 2)[:18]

    async def drive(ctx):
        await run.start(ctx, 1, 1, 2)
        await run.feed(ctx, len(due))
        await ctx.tick()
        await run.feed(ctx, 20, last=False)

    simulate(run.dut, drive, cycles=100)
    assert agree(run.beats, due)
    assert run.ends == [(0, 0), (0, 0)]
    assert run.waits == 0


@pytest.mark.parametrize("words", [1, 16, 17, 18, 19, 20, 33, 40])
@pytest.mark.parametrize("before, after", [
    ((1, 1, 3), (2, 2, 2)), ((1, 3, 3, 2, True), (2, 2, 2)), ((1, 2, 3), (1, 4, 1, 2, True))])
def test_a_start_forgets_the_run_before(words, before, after):
    run, due = Run(), beats_of(*after)

    async def drive(ctx):
        await run.start(ctx, *before)
        await run.feed(ctx, words, last=False)
        await run.start(ctx, *after)
        await run.feed(ctx, len(due))

    simulate(run.dut, drive)
    assert agree(run.beats[words:], due)
    assert run.ends[-1] == (0, 1)


@pytest.mark.parametrize("bit", range(7))
def test_a_group_does_not_end_where_any_bit_of_its_length_differs(bit):
    # 2^bit + 1 chunks: without that bit, the first of them would be taken for the last.
    run, due = Run(), beats_of(1, 200, 1, 1 + (1 << bit), True)[:40]

    async def drive(ctx):
        await run.start(ctx, 1, 200, 1, 1 + (1 << bit), True)
        await run.feed(ctx, 40, last=False)

    simulate(run.dut, drive)
    assert agree(run.beats, due)


@pytest.mark.parametrize("bit", range(11))
def test_a_group_is_not_the_last_where_any_bit_differs(bit):
    # 2^bit + 1 groups: without that bit, the first of them would be taken for the last.
    run, due = Run(), beats_of(1, 2, 1)[:19]

    async def drive(ctx):
        await run.start(ctx, 1, 1 + (1 << bit), 1)
        await run.feed(ctx, 19, last=False)

    simulate(run.dut, drive)
    assert agree(run.beats, due) and run.ends == [(1, 0)]


def test_more_groups_than_a_byte_counts():
    run, due = Run(), beats_of(1, 257, 1)

    async def drive(ctx):
        await run.start(ctx, 1, 257, 1)
        await run.feed(ctx, len(due))

    simulate(run.dut, drive)
    assert agree(run.beats, due) and run.ends == [(0, 1)]


def test_only_the_first_group_is_the_first():
    # Group 1024 differs from group 0 in the highest bit only.
    run, firsts = Run(), []

    async def drive(ctx):
        await run.start(ctx, 1, 1025, 1)
        ctx.set(run.dut.words.valid, 1)
        ctx.set(run.dut.credit, 1)
        for group in range(1025):
            await ctx.tick().repeat(18)
            beat = ctx.get(run.dut.beat)
            assert beat.valid and beat.scale_last and beat.group_last == (group == 1024)
            if beat.group_first:
                firsts.append(group)
            await ctx.tick()

    simulate(run.dut, drive)
    assert firsts == [0]


@pytest.mark.parametrize("bit", range(24))
def test_a_block_too_few_in_any_bit_is_not_complete(bit):
    # 2^bit + 1 blocks are asked for, one is sent: without that bit it would be complete.
    run = Run()

    async def drive(ctx):
        await run.start(ctx, 1, 1, 1 + (1 << bit))
        await run.feed(ctx, 19)

    simulate(run.dut, drive)
    assert run.ends == [(0, 0)]


def test_stalls_do_not_change_what_is_named():
    rng = np.random.default_rng(0)
    for _ in range(10):
        job = (*(int(rng.integers(1, limit)) for limit in (5, 6, 4, 4)), rng.random() < 0.5)
        run, due = Run(coin(int(rng.integers(99)), rng.random() * 0.8),
                       coin(int(rng.integers(99)), rng.random() * 0.9)), beats_of(*job)

        async def drive(ctx, run=run, due=due, job=job):
            await run.start(ctx, *job)
            await run.feed(ctx, len(due))

        simulate(run.dut, drive)
        assert agree(run.beats, due) and run.ends == [(0, 1)]
