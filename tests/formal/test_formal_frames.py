"""What the deframer makes of the words of frames, counted independently of it, for any length."""

import pytest
from amaranth import Cat, Elaboratable, Module, Mux, Signal
from amaranth.hdl import Assert, Assume
from amaranth.utils import exact_log2
from formal.rules import Freed, Opened, free, header_crc_in_time

from hw.crc import CRC_BITS, HeaderCrc
from hw.deframer import Deframer
from hw.formal import Method
from hw.protocol import HEADER_BYTES, REQUEST_ALIGN, TRAILER_BYTES

pytestmark = pytest.mark.long

#: Cycles a frame may cost beside its words.
COST = 12


class TakesFrames(Elaboratable):
    """Specification: frames as docs/protocol.md has them, around CRC units that say anything.

    A header counts only if its CRC is what the unit says, and stands. Of ``length`` bytes of
    payload exactly the words are handed on, the last one marked. Header and payload with their
    padding are given to the CRC unit, each word once, the first one flagged; the verdict is right
    if and only if the four bytes behind them are what the unit says. A frame ends after just its
    words, and costs at most :data:`COST` cycles more in which the source offers words and the
    sinks take: there is no deadlock. Abandoned, it ends within as many cycles.
    """

    def __init__(self, deframer):
        self._deframer = deframer
        self._inside   = Opened(deframer, crc=Freed, header_crc=Freed)
        self._lanes    = len(deframer.i.payload) // 8
        self._part     = REQUEST_ALIGN // self._lanes
        self._header   = -(-HEADER_BYTES // self._lanes)
        self._crc      = -(-TRAILER_BYTES // self._lanes)

    def elaborate(self, platform):
        m = Module()
        m.submodules.deframer = deframer = self._deframer
        free(m, deframer.i.payload, deframer.i.valid, deframer.abandon, deframer.arrivals.ready,
             deframer.payload.ready, deframer.verdicts.ready)
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
        deframer, crc = self._deframer, self._inside.parts["crc"]
        width  = 8 * self._lanes
        length = deframer.arrivals.p.header.length
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
        with m.If(deframer.arrivals.valid & deframer.arrivals.ready & ~deframer.arrivals.p.lost):
            m.d.sync += self.frame.eq(1)
        with m.If(deframer.verdicts.valid & deframer.verdicts.ready):
            m.d.sync += self.frame.eq(0)

    def _assume(self, m):
        """The contracts of ``abandon`` and of the header's CRC unit."""
        deframer = self._deframer
        self.held = Signal()
        self.turn = header_crc_in_time(m, self._inside.parts["header_crc"])
        m.d.sync += self.held.eq(deframer.abandon & ~deframer.abandoned)
        m.d.comb += [Assume(~self.held | deframer.abandon),
                     Assume(~(deframer.abandon & deframer.i.valid))]

    def _covers(self, m):
        deframer, crc = self._deframer, self._inside.parts["crc"]
        with m.If(crc.en):
            m.d.comb += [Assert(self.taken), Assert(crc.word == deframer.i.payload)]
        with m.If(self.frame):
            m.d.comb += Assert(~self.begins)
            with m.If(self.taken):
                m.d.comb += Assert(crc.en == (self.place < self.cover))
        with m.If(deframer.arrivals.valid & ~deframer.arrivals.p.lost):
            m.d.comb += [Assert(self.covered == self.place),
                         Assert(self.held | (self.place == self._part))]

    def _hands_on(self, m):
        """Headers that count, and their payloads."""
        deframer, header_crc = self._deframer, self._inside.parts["header_crc"]
        arrivals, payload = deframer.arrivals, deframer.payload
        self.counts = counts = Signal()
        with m.If(header_crc.done):
            m.d.sync += counts.eq(
                header_crc.crc == self.head[8 * HEADER_BYTES - CRC_BITS:8 * HEADER_BYTES])
            m.d.comb += Assert(header_crc.data == self.head[:8 * HEADER_BYTES - CRC_BITS])
        header = self.head[:8 * HEADER_BYTES - CRC_BITS]
        with m.If(arrivals.valid & ~arrivals.p.lost):
            m.d.comb += [Assert(counts), Assert(~self.frame)]
        with m.If(arrivals.valid & ~arrivals.p.lost | self.frame):
            m.d.comb += Assert(arrivals.p.header.as_value() == header)
        of_payload = Signal()
        m.d.comb += of_payload.eq(self.frame & (self.place >= self._part)
                                  & (self.place < self._part + self.payload))
        with m.If(of_payload & deframer.i.valid & ~deframer.verdicts.valid):
            m.d.comb += [
                Assert(payload.valid),
                Assert(deframer.i.ready == payload.ready),
                Assert(payload.p.data == deframer.i.payload),
                Assert(payload.p.last == (self.place == self._part + self.payload - 1)),
            ]
        with m.Else():
            m.d.comb += Assert(~payload.valid)

    def _judges(self, m):
        verdicts, crc = self._deframer.verdicts, self._inside.parts["crc"]
        right = (self.place >= self.cover + self._crc) & (self.tail[:CRC_BITS] == crc.crc)
        with m.If(verdicts.valid):
            m.d.comb += [Assert(self.frame), Assert(verdicts.payload == right)]

    def _ends(self, m):
        deframer = self._deframer
        willing, waits = Signal(), Signal()
        cost = Signal(range(COST + 2))
        m.d.comb += [
            waits.eq(deframer.arrivals.valid & ~deframer.arrivals.ready
                     | deframer.payload.valid & ~deframer.payload.ready
                     | deframer.verdicts.valid & ~deframer.verdicts.ready),
            willing.eq((deframer.i.valid | deframer.abandon) & ~waits),
            Assert(~self.frame | (self.place <= self.whole)),
            Assert(cost <= COST),
        ]
        self.cost = cost
        with m.If(self.begins | deframer.abandoned):
            m.d.sync += cost.eq(0)
        with m.Elif(willing & ~self.taken):
            m.d.sync += cost.eq(cost + 1)
        with m.If(deframer.verdicts.valid & ~self.held):
            m.d.comb += Assert(self.place == self.whole)

    def _invariants(self, m):
        """What the next step of the induction needs to know of the deframer's registers."""
        inside = self._inside
        count, left, place, held = inside["count"], inside["left"], self.place, self.held
        behind = self.cover + self._crc         # the place behind the trailer's CRC
        facts  = {
            "Collect": (count != 0) & (count < self._header) & (place == self._header - count),
            "Check": (place == self._header) & self.turn.any()
                     & ~(self.turn & (self.turn - 1)).any(),
            "Lost": ~inside["begun"] | (self._lanes == 1) & (place == 1)
                    & (count == self._header - 1),
            "Header padding": (count != 0) & (count <= self._part - self._header)
                              & (place == self._part - count) & self.counts,
            "Arrive": (held | (place == self._part)) & (place <= self._part) & self.counts,
            "Payload": held & (place <= self._part)
                       | (left == self._part + self.payload - 1 - place)
                       & (place >= self._part) & (place < self._part + self.payload)
                       & (inside["final"] == (left == 0))
                       & (count == self.cover - self._part - self.payload),
            "Payload padding": (count != 0) & (place >= self._part + self.payload)
                               & (place < self.cover) & (count == self.cover - place),
            "Trailer": (place < behind) & (held | (place >= self.cover)),
            "Trailer padding": (count != 0) & (place >= behind) & (count == self.whole - place),
            "Verdict": (held | (place == self.whole)) & (place <= self.whole)
                       & (inside["cut"] == (place < behind)),
        }
        costs = {"Collect": 1, "Lost": 8, "Header padding": 6, "Arrive": 7, "Payload": 8,
                 "Payload padding": 8, "Trailer": 9, "Trailer padding": 9, "Verdict": 10}
        for state, fact in facts.items():
            with m.If(inside.state(state)):
                m.d.comb += Assert(fact)
                m.d.comb += Assert(self.cost <= costs.get(state, COST))
        with m.If(inside.state("Collect", "Check", "Header padding", "Arrive")
                  | inside["begun"]):
            m.d.comb += Assert(self.covered == place)
        with m.If(inside.state("Check")):
            for stage in range(HeaderCrc.LATENCY):
                m.d.comb += Assert(~self.turn[stage] | (self.cost <= 1 + stage))
        with m.Else():
            m.d.comb += Assert(self.turn == 0)
        m.d.comb += [
            Assert(inside.state("Find", *facts)),
            Assert(inside["store"] == self.head),
            Assert(inside["trailer"] == self.tail),
            Assert(self.frame == inside.state(
                "Payload", "Payload padding", "Trailer", "Trailer padding", "Verdict")),
            Assert(~inside["begun"] | inside.state("Lost") & (self.cost == 0)),
            Assert(~inside["cut"] | inside.state("Verdict")),
        ]
        if self._crc > 1:
            with m.If(inside.state("Payload", "Payload padding")):
                m.d.comb += Assert(inside["crc_left"].all())
            with m.If(inside.state("Trailer") & ~held):
                for word in range(self._crc):
                    m.d.comb += Assert((place != self.cover + word)
                                       | (inside["crc_left"] == (1 << self._crc - 1 - word) - 1))


def any_trailer_will_do(m, deframer):
    m.d.comb += deframer.verdicts.payload.eq(1)


def a_word_is_not_covered(m, deframer):
    with m.If(deframer.i.payload[:8] == 0xA5):
        m.d.comb += m.submodules.crc.en.eq(0)


def payload_begins_anew(m, deframer):
    with m.If(deframer.payload.valid):
        m.d.comb += m.submodules.crc.first.eq(1)


def a_header_bit_is_not_covered(m, deframer):
    m.d.comb += m.submodules.header_crc.data[77].eq(0)


def last_word_not_marked(m, deframer):
    with m.If(deframer.arrivals.p.header.length == 65):
        m.d.comb += deframer.payload.p.last.eq(0)


def a_length_that_never_ends(m, deframer):
    with m.If(deframer.arrivals.p.header.length == 65):
        m.d.comb += deframer.i.ready.eq(0)


FAULTS = [any_trailer_will_do, a_word_is_not_covered, payload_begins_anew,
          a_header_bit_is_not_covered, last_word_not_marked, a_length_that_never_ends]


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16, 64])
def test_deframer_takes_frames(demonstrate, lanes):
    demonstrate(lambda: Deframer(lanes), TakesFrames, [], Method.INDUCTION, 2)


def test_deframer_takes_frames_and_faults_show(demonstrate):
    # A whole frame in a few cycles: what is wrong shows from reset on.
    demonstrate(lambda: Deframer(32), TakesFrames, FAULTS, Method.INDUCTION, 2,
                refute=(Method.BOUNDED_CONTROL, 24))
