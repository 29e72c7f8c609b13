"""Outputs of the deframer, compared with an independent count of words, for any length."""

import pytest
from amaranth import Cat, Elaboratable, Module, Mux, Signal
from amaranth.hdl import Assert, Assume
from amaranth.utils import exact_log2
from formal.rules import Freed, Opened, free, holds

from tritstream.hw.framing.crc import CRC_BITS, Crc32
from tritstream.hw.framing.deframer import Deframer
from tritstream.hw.protocol import HEADER_BYTES, REQUEST_ALIGN, TRAILER_BYTES
from tritstream.hw.tools.formal import Method

pytestmark = pytest.mark.long

#: Cycles that a frame may take in addition to its words, and that abandoning it may add.
COST, LEAVING = 12, 2


class TakesFrames(Elaboratable):
    """Specification: frames as in docs/protocol.md, with a CRC unit that returns any value.

    A header counts only if the unit reports a valid CRC, and is then stable. Exactly the words of
    ``length`` bytes of payload are passed on, with the last one marked. The CRC unit gets header
    and payload with their padding, each word once, with the first one marked. The frame status is
    valid if and only if the next four bytes are equal to the CRC of those words. A frame ends after
    its words. It takes at most :data:`COST` further cycles in which the source offers words and the
    sinks take them, so there is no deadlock. An abandoned frame ends at most :data:`LEAVING` cycles
    later. Offered payloads are stable until they are taken.
    """

    def __init__(self, deframer):
        self._deframer = deframer
        self._inside   = Opened(deframer, crc=Freed)
        self._unit     = self._inside.parts["crc"]
        self._lanes    = len(deframer.i.payload) // 8
        self._part     = REQUEST_ALIGN // self._lanes
        self._header   = -(-HEADER_BYTES // self._lanes)
        self._crc      = -(-TRAILER_BYTES // self._lanes)

    def elaborate(self, platform):
        m = Module()
        m.submodules.deframer = deframer = self._deframer
        free(m, deframer.i.payload, deframer.i.valid, deframer.abandon, deframer.headers.ready,
             deframer.payload.ready, deframer.frame_status.ready)
        holds(m, deframer.i, Assume)
        for port in (deframer.headers, deframer.payload, deframer.frame_status):
            holds(m, port, Assert)
        self._words(m)
        self._assume(m)
        self._covers(m)
        self._hands_on(m)
        self._judges(m)
        self._ends(m)
        self._invariants(m)
        return m

    def _words(self, m):
        """The words of the candidate or frame at hand, as it comes by."""
        deframer, crc = self._deframer, self._unit
        width  = 8 * self._lanes
        length = deframer.headers.p.header.length
        self.taken    = Signal()
        self.begins   = Signal()
        self.frame    = Signal()        # its header counted
        self.place    = Signal(34)      # of the next word
        self.now      = Signal(34)      # of this word
        self.covered  = Signal(34)      # words given to the CRC unit
        self.head     = Signal(width * self._header)
        self.tail     = Signal(width * self._crc)
        self.payload  = Signal(34)      # words of the payload, without padding
        self.cover    = Signal(34)      # words of header and payload, with padding
        self.whole    = Signal(34)      # words of the frame
        blocks = (length + (REQUEST_ALIGN - 1)) >> exact_log2(REQUEST_ALIGN)
        m.d.comb += [
            self.taken.eq(deframer.i.valid & deframer.i.ready),
            self.begins.eq(crc.en & crc.first),
            self.now.eq(Mux(self.begins, 0, self.place)),
            self.payload.eq((length + (self._lanes - 1)) >> exact_log2(self._lanes)),
            self.cover.eq((blocks + 1) * self._part),
            self.whole.eq(self.cover + self._part),
        ]
        with m.If(self.taken):
            m.d.sync += self.place.eq(self.now + 1)
        with m.If(crc.en):
            m.d.sync += self.covered.eq(Mux(self.begins, 0, self.covered) + 1)
            with m.If(self.now < self._header):
                m.d.sync += self.head.eq(Cat(self.head, deframer.i.payload)[width:])
        with m.If(self.taken & self.frame & (self.now >= self.cover)
                  & (self.now < self.cover + self._crc)):
            m.d.sync += self.tail.eq(Cat(self.tail, deframer.i.payload)[width:])
        headers = deframer.headers
        with m.If(headers.valid & headers.ready & ~headers.p.out_of_sync):
            m.d.sync += self.frame.eq(1)
        with m.If(deframer.frame_status.valid & deframer.frame_status.ready):
            m.d.sync += self.frame.eq(0)

    def _assume(self, m):
        """The contracts of ``abandon`` and of the CRC unit."""
        deframer, crc = self._deframer, self._unit
        self.held  = Signal()
        self.turn  = Signal(crc.LATENCY)                # cycles since the last word of a header
        self.quiet = Signal(range(crc.LATENCY + 1))     # cycles since a word was given to the unit
        said = Signal.like(crc.crc)
        m.d.sync += [
            self.held.eq(deframer.abandon & ~deframer.abandoned),
            self.turn.eq(Cat(crc.en & ~self.frame & (self.now == self._header - 1),
                             self.turn & ~self.begins.replicate(crc.LATENCY))),
            self.quiet.eq(self.quiet + (self.quiet != crc.LATENCY)),
            said.eq(crc.crc),
        ]
        with m.If(crc.en):
            m.d.sync += self.quiet.eq(1)
        stands = Signal()
        m.d.sync += stands.eq((self.quiet == crc.LATENCY) & ~crc.en)
        m.d.comb += [Assume(~self.held | deframer.abandon),
                     Assume(~(deframer.abandon & deframer.i.valid)),
                     Assume(~stands | (crc.crc == said))]

    def _covers(self, m):
        deframer, crc = self._deframer, self._unit
        with m.If(crc.en):
            m.d.comb += [Assert(self.taken), Assert(crc.word == deframer.i.payload)]
        with m.If(self.frame):
            m.d.comb += Assert(~self.begins)
            with m.If(self.taken):
                m.d.comb += Assert(crc.en == (self.place < self.cover))
        with m.If(deframer.headers.valid & ~deframer.headers.p.out_of_sync):
            m.d.comb += [Assert(self.covered == self.place),
                         Assert(self.held | (self.place == self._part))]

    def _hands_on(self, m):
        """Headers that count, and their payloads."""
        deframer = self._deframer
        headers, payload = deframer.headers, deframer.payload
        self.counts = counts = Signal()
        with m.If(self.turn[-1]):
            m.d.sync += counts.eq(self._unit.sound)
        header = self.head[:8 * HEADER_BYTES - CRC_BITS]
        with m.If(headers.valid & ~headers.p.out_of_sync):
            m.d.comb += [Assert(counts), Assert(~self.frame)]
        with m.If(headers.valid & ~headers.p.out_of_sync | self.frame):
            m.d.comb += Assert(headers.p.header.as_value() == header)
        of_payload = Signal()
        m.d.comb += of_payload.eq(self.frame & (self.place >= self._part)
                                  & (self.place < self._part + self.payload))
        with m.If(of_payload & deframer.i.valid & ~deframer.frame_status.valid):
            m.d.comb += [
                Assert(payload.valid),
                Assert(deframer.i.ready == payload.ready),
                Assert(payload.p.data == deframer.i.payload),
                Assert(payload.p.last == (self.place == self._part + self.payload - 1)),
            ]
        with m.Else():
            m.d.comb += Assert(~payload.valid)

    def _judges(self, m):
        frame_status, crc = self._deframer.frame_status, self._unit
        right = (self.place >= self.cover + self._crc) & (self.tail[:CRC_BITS] == crc.crc)
        with m.If(frame_status.valid):
            m.d.comb += [Assert(self.frame), Assert(frame_status.payload == right)]

    def _ends(self, m):
        deframer = self._deframer
        willing, waits = Signal(), Signal()
        cost = Signal(range(COST + LEAVING + 2))
        m.d.comb += [
            waits.eq(deframer.headers.valid & ~deframer.headers.ready
                     | deframer.payload.valid & ~deframer.payload.ready
                     | deframer.frame_status.valid & ~deframer.frame_status.ready),
            willing.eq((deframer.i.valid | deframer.abandon) & ~waits),
            Assert(~self.frame | (self.place <= self.whole)),
            Assert(cost <= COST + Mux(self.held, LEAVING, 0)),
        ]
        self.cost = cost
        with m.If(self.begins | deframer.abandoned):
            m.d.sync += cost.eq(0)
        with m.Elif(willing & ~self.taken):
            m.d.sync += cost.eq(cost + 1)
        with m.If(deframer.frame_status.valid & ~self.held):
            m.d.comb += Assert(self.place == self.whole)

    def _invariants(self, m):
        """Invariants of the registers of the deframer, needed for the induction."""
        inside = self._inside
        count, left, place, held = inside["count"], inside["words_left"], self.place, self.held
        behind = self.cover + self._crc         # the place behind the trailer's CRC
        timer, empty = inside["timer"], inside["has_no_payload"]
        one_hot  = timer.any() & ~(timer & (timer - 1)).any()
        measured = (left == (self.payload - 1)[:len(left)]) & (empty == (self.payload == 0))
        facts  = {
            "Look": (place == 1) & (count == self._header - 1) & (timer == 1)
                    & (self.turn == (1 if self._header == 1 else 0)),
            "Collect": (count != 0) & (count < self._header) & (place == self._header - count)
                       & (self.turn == 0),
            "Check": (place == self._header) & one_hot & (self.turn == timer),
            "Out of sync": ~inside["has_candidate"] | (self._lanes == 1) & (place == 1)
                    & (count == self._header - 1) & (self.turn == 0),
            "Header padding": (count != 0) & (count <= self._part - self._header)
                              & (place == self._part - count) & self.counts & measured,
            "Header": (held | (place == self._part)) & (place <= self._part) & self.counts
                      & measured,
            "Payload": held & (place <= self._part)
                       | (left == self._part + self.payload - 1 - place)
                       & (place >= self._part) & (place < self._part + self.payload)
                       & (inside["is_last_word"] == (left == 0))
                       & (count == self.cover - self._part - self.payload),
            "Payload padding": (count != 0) & (place >= self._part + self.payload)
                               & (place < self.cover) & (count == self.cover - place),
            "Trailer": (place < behind) & (held | (place >= self.cover)),
            "Trailer padding": (count != 0) & (place >= behind) & (count == self.whole - place),
            "Settle": one_hot & (held | (place == self.whole)) & (place <= self.whole)
                      & (inside["aborted"] == (place < behind)),
            "Status": (held | (place == self.whole)) & (place <= self.whole)
                       & (inside["aborted"] == (place < behind)) & (self.quiet == Crc32.LATENCY)
                       & (inside["aborted"] | (inside["crc_ok"]
                                           == (self.tail[:CRC_BITS] == self._unit.crc))),
        }
        # At most so far, and when the frame is being left.
        costs = {"Look": (0, 0), "Collect": (1, 1), "Check": (4, 4), "Out of sync": (6, 6),
                 "Header padding": (5, 5), "Header": (5, 6), "Payload": (6, 7),
                 "Payload padding": (6, 7), "Trailer": (6, 8), "Trailer padding": (6, 8),
                 "Settle": (9, 12), "Status": (10, 13)}
        for state, fact in facts.items():
            with m.If(inside.state(state)):
                m.d.comb += Assert(fact)
                m.d.comb += Assert(self.cost <= Mux(held, *reversed(costs[state])))
        with m.If(inside.state("Look", "Collect", "Check", "Header padding", "Header")
                  | inside["has_candidate"]):
            m.d.comb += Assert(self.covered == place)
        # What was in the store before the candidate leaves it word by word.
        with m.If(~inside.state("Find") & (~inside.state("Out of sync") | inside["has_candidate"])):
            for words in range(1, self._header + 1):
                kept = 8 * self._lanes * (self._header - words)
                with m.If((place == words) if words < self._header else (place >= words)):
                    m.d.comb += Assert(inside["store"][kept:] == self.head[kept:])
        for cycles, step in enumerate(timer):
            with m.If(inside.state("Check") & step):
                m.d.comb += Assert(self.cost <= 1 + cycles)
            with m.If(inside.state("Settle") & step):
                m.d.comb += [Assert(self.cost <= cycles + Mux(held, 9, 6)),
                             Assert(self.quiet >= min(cycles + 2, Crc32.LATENCY))]
        with m.If(inside.state("Trailer", "Trailer padding")):
            m.d.comb += Assert(self.quiet != 0)
        with m.If(inside.state("Header padding", "Header") | self.frame):
            m.d.comb += Assert(self.turn == 0)
        m.d.comb += [
            Assert(inside.state("Find", *facts)),
            Assert(self.quiet <= Crc32.LATENCY),
            Assert(inside["trailer"] == self.tail),
            Assert(inside["in_payload"] == inside.state("Payload")),
            Assert(inside["is_open"] == inside.state(
                "Find", "Collect", "Header padding", "Payload padding", "Trailer",
                "Trailer padding")),
            Assert(self.frame == inside.state(
                "Payload", "Payload padding", "Trailer", "Trailer padding", "Settle", "Status")),
            Assert(~inside["has_candidate"] | inside.state("Out of sync") & (self.cost == 0)),
            Assert(~inside["aborted"] | inside.state("Settle", "Status")),
        ]
        if self._crc > 1:
            with m.If(inside.state("Payload", "Payload padding")):
                m.d.comb += Assert(inside["crc_left"].all())
            with m.If(inside.state("Trailer") & ~held):
                for word in range(self._crc):
                    m.d.comb += Assert((place != self.cover + word)
                                       | (inside["crc_left"] == (1 << self._crc - 1 - word) - 1))


def any_trailer_will_do(m, deframer):
    m.d.comb += deframer.frame_status.payload.eq(1)


def a_word_is_not_covered(m, deframer):
    with m.If(deframer.i.payload[:8] == 0xA5):
        m.d.comb += m.submodules.crc.en.eq(0)


def payload_begins_anew(m, deframer):
    with m.If(deframer.payload.valid):
        m.d.comb += m.submodules.crc.first.eq(1)


def a_header_bit_is_not_covered(m, deframer):
    m.d.comb += m.submodules.crc.word[5].eq(0)


def last_word_not_marked(m, deframer):
    with m.If(deframer.headers.p.header.length == 65):
        m.d.comb += deframer.payload.p.last.eq(0)


def a_length_that_never_ends(m, deframer):
    with m.If(deframer.headers.p.header.length == 65):
        m.d.comb += deframer.i.ready.eq(0)


def no_header_while_words_arrive(m, deframer):
    with m.If(deframer.i.valid):
        m.d.comb += deframer.headers.valid.eq(0)


FAULTS = [any_trailer_will_do, a_word_is_not_covered, payload_begins_anew,
          a_header_bit_is_not_covered, last_word_not_marked, a_length_that_never_ends,
          no_header_while_words_arrive]


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16, 64])
def test_deframer_takes_frames(demonstrate, lanes):
    demonstrate(lambda: Deframer(lanes), TakesFrames, [], Method.INDUCTION, 2)


def test_deframer_takes_frames_and_faults_show(demonstrate):
    # A complete frame takes only a few cycles, so bounded checking from reset finds every fault.
    demonstrate(lambda: Deframer(32), TakesFrames, FAULTS, Method.INDUCTION, 2,
                refute=(Method.BOUNDED_CONTROL, 24))
