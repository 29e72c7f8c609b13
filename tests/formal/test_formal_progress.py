"""Units that carry out a request finish it, and take or give exactly the expected words."""

import pytest
from amaranth import Array, Elaboratable, Module, Mux, Signal
from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume
from formal.rules import Opened, free

from tritstream.golden.fixed_point import GROUP, SCALE_TRITS
from tritstream.hw.compute.sequencer import Sequencer
from tritstream.hw.protocol import DIRECT_WORDS
from tritstream.hw.tools.formal import Method

pytestmark = pytest.mark.long


class NamesBeats(Elaboratable):
    """Specification: each word of a GEMV is named by its place, and the last one ends it.

    The words of a chunk of 16 columns are counted from 0; of depth d, those below 16 d are digits,
    and every d-th begins a weight. Behind the chunks of a group come three scale words, or ten if
    mantissas are direct. A group has the chunks of its length, or the rest of the row. Chunks and
    blocks are counted too, so that a run takes at most ``blocks * (16 d * chunks + groups * s)``
    words with s = 3 or 10, for any such numbers. A word waits only where it ends a block, and until
    a cycle after there is a bank for it; it is never taken without one. Credit is only taken away
    by the end of a block.

    A GEMV may be cut short in any cycle, as by an abandoned frame. The sequencer is left running
    then, its job changes with the next header, and it is started again while it runs. What is
    assumed: no word comes from the cut to the next start, none in the cycle of a start, and all
    banks are free at a start (test_formal_controller.py: :class:`Grants`).
    """

    def __init__(self, sequencer):
        self._sequencer = sequencer
        self._inside    = Opened(sequencer)

    def elaborate(self, platform):
        m = Module()
        m.submodules.sequencer = sequencer = self._sequencer
        job, words, beat = sequencer.gemv.job, sequencer.words, sequencer.beat
        free(m, job, sequencer.gemv.start, sequencer.credit, words.valid, words.payload)
        held, credit, spent = Signal.like(job), Signal(), Signal()
        m.d.sync += [held.eq(job), credit.eq(sequencer.credit), spent.eq(sequencer.block_end)]
        # From the cycle in which it is cut short to the start of the next one.
        cut, self._cut = Signal(), Signal()
        m.d.comb += self._cut.eq(cut | AnySeq(1))
        m.d.sync += cut.eq(self._cut & ~sequencer.gemv.start)
        m.d.comb += [Assume(~sequencer.running | self._cut | (job.as_value() == held.as_value())),
                     Assume(~((self._cut | sequencer.gemv.start) & words.valid)),
                     Assume(~sequencer.gemv.start | sequencer.credit),
                     Assume(~credit | sequencer.credit | spent)]

        place = Signal(range(4 * GROUP + DIRECT_WORDS))
        chunk, block = Signal.like(job.chunk_last), Signal.like(job.block_last)
        length, group = Signal.like(job.length_last), Signal.like(job.chunk_last)
        depth   = Signal(3)
        weights, tail = Signal.like(place), Signal(range(DIRECT_WORDS + 1))
        m.d.comb += [depth.eq(job.digit_last + 1), weights.eq(depth * GROUP),
                     tail.eq(Mux(job.direct, DIRECT_WORDS, SCALE_TRITS))]
        whole     = (length == job.length_last) | (chunk == job.chunk_last)
        chunk_end = (place == weights - 1) & ~whole
        group_end = place == weights + tail - 1
        block_end = group_end & (chunk == job.chunk_last)
        job_end   = block_end & (block == job.block_last)
        with m.If(beat.valid):
            m.d.sync += place.eq(place + 1)
            with m.If(chunk_end):
                m.d.sync += [place.eq(0), chunk.eq(chunk + 1), length.eq(length + 1)]
            with m.If(group_end):
                m.d.sync += [place.eq(0), chunk.eq(chunk + 1), length.eq(0), group.eq(group + 1)]
            with m.If(block_end):
                m.d.sync += [chunk.eq(0), group.eq(0), block.eq(block + 1)]
        with m.If(sequencer.gemv.start):
            m.d.sync += [place.eq(0), chunk.eq(0), length.eq(0), group.eq(0), block.eq(0)]

        over, complete, runs = Signal(), Signal(), Signal()
        began = Signal()        # ready is low in the first cycle of all
        m.d.sync += began.eq(1)
        whole = Array(place % most == 0 for most in range(1, 5))[job.digit_last]
        m.d.comb += [
            Assert(words.ready | ~began | self._cut | over
                   | sequencer.running & block_end & ~credit),
            # Also from a cut on: other requests wait for the sequencer, too.
            Assert(words.ready | ~began | ~credit),
            Assert(beat.valid == words.valid & words.ready & sequencer.running),
            Assert(sequencer.block_end == beat.valid & block_end),
            Assert(~sequencer.block_end | sequencer.credit),
        ]
        with m.If(beat.valid):
            m.d.comb += [
                Assert(beat.weight == (place < weights)),
                Assert(beat.first == (place < weights) & whole),
                Assert(beat.scale_start == (place == weights + tail - 3)),
                Assert(beat.scale_last == group_end),
            ]
            with m.If(place >= weights):
                m.d.comb += [Assert(beat.group_first == (group == 0)),
                             Assert(beat.group_last == (chunk == job.chunk_last))]
        m.d.sync += over.eq(beat.valid & (job_end | words.p.last))
        m.d.sync += complete.eq(job_end & words.p.last)
        with m.If(self._cut | beat.valid & (job_end | words.p.last)):
            m.d.sync += runs.eq(0)
        with m.If(sequencer.gemv.start):
            m.d.sync += runs.eq(1)
        with m.If(~self._cut):
            m.d.comb += Assert(sequencer.running == runs)
        with m.If(over):
            m.d.comb += [Assert(~sequencer.running), Assert(sequencer.gemv.complete == complete)]
        self._invariants(m, place, weights, tail, {
            "chunk": chunk, "length": length, "block": block}, group)
        return m

    def _invariants(self, m, place, weights, tail, counts, group):
        inside, job, beat = self._inside, self._sequencer.gemv.job, self._sequencer.beat
        digit, row_end = inside["digit"], counts["chunk"] == job.chunk_last
        late = {}               # a cycle later, as the sequencer counts
        for name, count in {**counts, "group": group}.items():
            late[name] = Signal.like(count, name=f"late_{name}")
            m.d.sync += late[name].eq(Mux(self._sequencer.gemv.start, 0, count))
        with m.If(self._sequencer.running & ~self._cut):
            for name, count in counts.items():
                m.d.comb += Assert((inside[name] == late[name]) & (count <= job[f"{name}_last"]))
            for name, count in {**counts, "group": group}.items():
                m.d.comb += Assert((place == 0) | (late[name] == count))
            m.d.comb += [
                Assert(group <= counts["chunk"]),
                Assert(inside["first"] == (late["group"] == 0)),
                Assert(inside["end"] == (place == weights + tail - 1) & row_end),
            ]
            whole = (counts["length"] == job.length_last) | row_end
            with m.If(digit > 3):
                m.d.comb += Assert((place == weights + tail + digit - 16) & (place >= weights)
                                   & (inside["place"] == 0) & whole)
            with m.Else():
                m.d.comb += Assert((place == inside["place"] * (job.digit_last + 1) + digit)
                                   & (digit <= job.digit_last))
            # Registered: right from the third word of a chunk on.
            with m.If(place > 1):
                m.d.comb += [Assert(beat.group_last == row_end),
                             Assert(inside["whole"] == whole),
                             Assert(inside["last_block"] == (counts["block"] == job.block_last))]


def a_group_too_many(m, sequencer):
    m.d.sync += sequencer.beat.group_last.eq(sequencer.gemv.job.chunk_last == 0)


def slots_start_with_the_scale_beats(m, sequencer):
    job = sequencer.gemv.job
    with m.If(job.direct & (job.length_last == 62)):
        m.d.comb += sequencer.beat.scale_start.eq(~sequencer.beat.weight)


def a_group_has_no_end(m, sequencer):
    with m.If(sequencer.gemv.job.length_last == 5):
        m.d.comb += sequencer.beat.scale_last.eq(0)


def not_started_while_running(m, sequencer):
    with m.If(sequencer.gemv.start & sequencer.running):
        m.d.sync += sequencer.running.eq(0)


def word_refused(m, sequencer):
    with m.If(sequencer.beat.scale_start):
        m.d.sync += sequencer.words.ready.eq(sequencer.credit)


def third_digit_of_four_is_first(m, sequencer):
    with m.If(sequencer.gemv.job.digit_last == 3):
        m.d.comb += sequencer.beat.first.eq(sequencer.beat.weight & ~sequencer.words.p.data[0])


def test_sequencer_names_beats(demonstrate):
    demonstrate(lambda: Sequencer(1), NamesBeats,
                [a_group_too_many, slots_start_with_the_scale_beats, a_group_has_no_end,
                 word_refused, third_digit_of_four_is_first, not_started_while_running],
                Method.INDUCTION, 2)
