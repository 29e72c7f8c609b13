"""The framer sends the words of each requested response, and never stops forever."""

import pytest
from amaranth import Mux, Signal
from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume
from formal.rules import Freed, Obeys, Opened, header_crc_in_time, holds

from tritstream.golden.fixed_point import ROWS
from tritstream.hw.framing.crc import HeaderCrc
from tritstream.hw.framing.framer import ANSWER_BYTES, Framer
from tritstream.hw.framing.sealer import Sealer
from tritstream.hw.interfaces import AnswerHeader
from tritstream.hw.protocol import HEADER_BYTES, SUM_BYTES, TRAILER_BYTES, Opcode
from tritstream.hw.tools.formal import Method

pytestmark = pytest.mark.long

#: Cycles without a word while one is owed, the header's CRC included; in the sealer, its own.
PAUSE, SEALING = HeaderCrc.LATENCY + 2, 4


class SendsFrames(Obeys):
    """Specification: each request is sent as a header, its payload and a trailer, in whole words.

    Words are owed to the sealer from the request on. ``first`` and ``last`` stand on those with
    which a frame begins and ends and on no other, and the trailer's are counted; while the sealer
    takes words and sums are at hand, it waits for none longer than :data:`PAUSE` cycles: there is
    no deadlock. The framer is idle if and only if a cycle ago nothing was owed, nor in the sealer.
    Requests are those of the controller: a RESULT of all sums, or up to 32 bytes in steps of eight.
    """

    def __init__(self, framer):
        super().__init__(framer)
        self._inside = Opened(framer, sealer=Freed, header_crc=Freed)
        self._lanes  = len(framer.o.p.data) // 8
        self._header, self._trailer = (
            -(-size // self._lanes) for size in (HEADER_BYTES, TRAILER_BYTES))

    def elaborate(self, platform):
        m = super().elaborate(platform)
        request, sealer = self._component.requests, self._inside.parts["sealer"]
        longest = self._words(SUM_BYTES * ROWS * self._lanes)
        owed    = Signal(range(3 * longest + 1))
        latest, before = Signal(range(longest + 1)), Signal(range(longest + 1))  # of requests
        asked, sent, words = Signal(), Signal(), Signal.like(latest)
        m.d.comb += [
            asked.eq(request.valid & request.ready),
            sent.eq(sealer.i.valid & sealer.i.ready),
            words.eq(self._words(request.p.length[:12])),
            Assume(self._asks(request.p)),
        ]
        m.d.sync += owed.eq(owed + Mux(asked, words, 0) - sent)
        with m.If(asked):
            m.d.sync += [latest.eq(words), before.eq(latest)]
        self._pieces(m, owed, latest, before, sent)
        self._idle(m, owed, asked, sent)
        self._pause = pause = Signal(range(PAUSE + 2))
        m.d.sync += pause.eq(0)
        with m.If(sealer.i.ready & self._component.sums.valid & (owed != 0) & ~sent):
            m.d.sync += pause.eq(pause + 1)
        m.d.comb += Assert(pause <= PAUSE)
        self._invariants(m, owed, latest, before)
        return m

    def _asks(self, answer):
        """Return whether the controller can make this request."""
        return Mux(answer.opcode == Opcode.RESULT,
                   answer.length == SUM_BYTES * ROWS * self._lanes,
                   (answer.length <= ANSWER_BYTES) & (answer.length[:3] == 0))

    def _words(self, length):
        """Words of a frame."""
        return (length + (self._lanes - 1)) // self._lanes + self._header + self._trailer

    def _pieces(self, m, owed, latest, before, sent):
        port, piece = self._inside.parts["sealer"].i, self._inside.parts["sealer"].i.p
        begins, part = Signal(init=1), Signal(range(self._trailer + 1))
        self._begins, self._part = begins, part
        with m.If(sent):
            m.d.sync += [begins.eq(piece.last), part.eq(0)]
            with m.If(piece.trailer & ~piece.last):
                m.d.sync += part.eq(part + 1)
        with m.If(port.valid):
            then = owed - 1
            m.d.comb += [
                Assert(owed != 0),
                Assert(piece.last == (then == 0) | (then == latest) | (then == latest + before)),
                Assert(piece.first == begins),
                Assert(piece.last == piece.trailer & (part == self._trailer - 1)),
                Assert(~piece.trailer | (piece.part == part) & (piece.data == 0)),
            ]

    def _idle(self, m, owed, asked, sent):
        """The sealer under its contract, which :class:`PassesOn` proves."""
        framer, sealer = self._component, self._inside.parts["sealer"]
        inside, idle = Signal(3), Signal(init=1)
        m.d.sync += [inside.eq(inside + sent - (framer.o.valid & framer.o.ready)),
                     idle.eq((owed == 0) & (inside == 0) & ~asked)]
        holds(m, sealer.o, Assume)
        m.d.comb += [Assume(sealer.empty == (inside == 0)), Assume(inside <= PassesOn.MOST),
                     Assume(~sealer.o.valid | ~sealer.empty), Assert(framer.idle == idle)]

    def _invariants(self, m, owed, latest, before):
        """Invariants of the registers of the framer, needed for the induction."""
        inside, state = self._inside, self._inside.state
        start = inside.parts["header_crc"].start
        turn  = header_crc_in_time(m, inside.parts["header_crc"])
        per   = max(1, 8 // self._lanes)        # words of a beat
        part  = inside["word_index"] if per > 1 else 0
        count = inside["words_left"] if self._header > 1 else 0
        built, beats = inside["built"], inside["segments_left"]
        waits  = inside["busy"] & ~inside["taken"]
        fields = AnswerHeader(inside["fields"])
        payload, left = Signal.like(owed), Signal.like(owed)
        current = Mux(waits, before, latest)    # words of the frame being sent
        m.d.comb += [
            payload.eq(beats * per),
            Assert(owed == left + Mux(waits, latest, 0)),
            Assert(~waits | self._asks(fields) & (latest == self._words(fields.length[:12]))),
            Assert(~inside["taken"] | built & state("Header")),
            Assert(~built | inside["busy"]),
            Assert((inside["busy"] & ~built) == (start | turn.any())),
            Assert(~(turn & (turn - 1)).any() & ~(start & turn.any())),
            Assert(state("Payload", "Trailer") | (part == 0)),
            Assert(state("Idle", "Header", "Payload", "Trailer")),
            Assert(self._part == Mux(state("Trailer"), part, 0)),
            Assert(self._begins == (state("Idle") | state("Header")
                                    & (count == self._header - 1))),
            Assert(~state("Header") | (inside["is_first"] == self._begins)),
        ]
        sums, answer = inside["sends_sums"], inside["sends_answer"]
        selected, store = inside["is_selected"], inside["store"]
        rest = Mux(state("Header"), (count + 1) * (8 * self._lanes), 0)     # bits of the header
        m.d.comb += [
            Assert((sums | answer) == state("Payload")),
            Assert(~(sums & answer)),
            Assert(~selected | answer),
            Assert(selected | (inside["answer_word"] == 0)),
            Assert(state("Idle") | (store >> rest == 0)),
        ]
        with m.If(state("Header")):
            m.d.comb += [left.eq(count + 1 + payload + self._trailer),
                         Assert(count < self._header),
                         Assert(current == self._header + payload + self._trailer)]
        with m.If(state("Payload")):
            m.d.comb += [left.eq(payload - part + self._trailer), Assert(beats != 0),
                         Assert(part < per),
                         Assert(current >= self._header + payload + self._trailer)]
        with m.If(state("Trailer")):
            m.d.comb += [left.eq(self._trailer - part), Assert(part < self._trailer),
                         Assert(current >= self._header + self._trailer)]
        most = [(state("Idle") & start, 0),
                *((state("Idle") & step, cycles + 1) for cycles, step in enumerate(turn)),
                (state("Idle") & built, PAUSE - 1), (state("Payload", "Trailer"), selected)]
        m.d.comb += [Assert(~when | (self._pause <= cycles)) for when, cycles in most]


class PassesOn(Obeys):
    """Specification: the sealer gives on each piece as one word, in order, ``last`` with it.

    One piece, any one, is followed. It is empty if and only if nothing is inside, and a sink that
    takes words waits for none longer than :data:`SEALING` cycles while something is.
    """

    #: Pieces inside: two in its buffer, one at the output.
    MOST = 3

    def __init__(self, sealer):
        super().__init__(sealer, holding=False)
        Opened(sealer, crc=Freed)

    def elaborate(self, platform):
        m = super().elaborate(platform)
        sealer = self._component
        enters, leaves = Signal(), Signal()
        inside, ahead, pause = Signal(2), Signal(2), Signal(3)
        chosen, last = Signal(), Signal()
        m.d.comb += [
            enters.eq(sealer.i.valid & sealer.i.ready),
            leaves.eq(sealer.o.valid & sealer.o.ready),
            Assert(sealer.empty == (inside == 0)),
            Assert(~sealer.o.valid | (inside != 0)),
            Assert(~enters | leaves | (inside < self.MOST)),
            Assert(pause <= SEALING),
        ]
        m.d.sync += [inside.eq(inside + enters - leaves), pause.eq(0)]
        with m.If(sealer.o.ready & ~sealer.empty & ~leaves):
            m.d.sync += pause.eq(pause + 1)
        with m.If(chosen & leaves):
            m.d.sync += [ahead.eq(ahead - 1), chosen.eq(ahead != 0)]
            with m.If(ahead == 0):
                m.d.comb += Assert(sealer.o.p.last == last)
        with m.If(~chosen & enters & AnySeq(1)):
            m.d.sync += [chosen.eq(1), last.eq(sealer.i.p.last), ahead.eq(inside - leaves)]
        return m


def last_on_another_word(m, framer):
    m.d.comb += m.submodules.sealer.i.p.last.eq(framer.sums.valid)


def header_crc_asked_in_vain(m, framer):
    with m.If(framer.requests.p.opcode == Opcode.ACK):
        m.d.sync += m.submodules.header_crc.start.eq(0)


@pytest.mark.parametrize("lanes", [1, 2, 8, 64])
def test_framer_sends_frames(demonstrate, lanes):
    demonstrate(lambda: Framer(lanes), SendsFrames,
                [last_on_another_word, header_crc_asked_in_vain], Method.INDUCTION, 2)


def last_of_the_next_piece(m, sealer):
    m.d.sync += sealer.o.p.last.eq(sealer.i.p.last)


def waits_for_more(m, sealer):
    with m.If(~sealer.i.valid):
        m.d.comb += m.submodules.buffer.o.ready.eq(0)


@pytest.mark.parametrize("lanes", [1, 8, 64])
def test_sealer_passes_on(demonstrate, lanes):
    demonstrate(lambda: Sealer(lanes), PassesOn, [last_of_the_next_piece, waits_for_more])
