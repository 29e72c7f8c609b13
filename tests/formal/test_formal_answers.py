"""What the framer sends: the words that each request asks for, and no pause for good."""

import pytest
from amaranth import Mux, Signal
from amaranth.hdl import Assert, Assume
from formal.rules import Freed, Obeys, Opened, header_crc_in_time

from golden.tiles import ROWS
from hw.crc import HeaderCrc
from hw.formal import Method
from hw.framer import ANSWER_BYTES, Answer, Framer
from hw.protocol import HEADER_BYTES, SUM_BYTES, TRAILER_BYTES, Opcode

pytestmark = pytest.mark.long

#: Cycles without a word that a sink may see, the header's CRC included.
PAUSE = HeaderCrc.LATENCY + 3


class SendsFrames(Obeys):
    """Specification: each request is sent as a header, its payload and a trailer, in whole words.

    Words are owed from the request on. The framer is idle if and only if none is; ``last`` stands
    on the one with which a frame ends and on no other; and a sink that takes words, with sums at
    hand, waits for none longer than :data:`PAUSE` cycles: there is no deadlock. Requests are those
    of the controller: a RESULT of all sums, or up to 32 bytes in steps of eight.
    """

    def __init__(self, framer):
        super().__init__(framer)
        self._inside = Opened(framer, crc=Freed, header_crc=Freed)
        self._lanes  = len(framer.o.p.data) // 8
        self._header, self._trailer = (
            -(-size // self._lanes) for size in (HEADER_BYTES, TRAILER_BYTES))

    def elaborate(self, platform):
        m = super().elaborate(platform)
        framer, request = self._component, self._component.requests
        longest = self._words(SUM_BYTES * ROWS * self._lanes)
        owed    = Signal(range(3 * longest + 1))
        latest, before = Signal(range(longest + 1)), Signal(range(longest + 1))  # of requests
        asked, sent = Signal(), Signal()
        m.d.comb += [
            asked.eq(request.valid & request.ready),
            sent.eq(framer.o.valid & framer.o.ready),
            Assume(self._asks(request.p)),
            Assert(framer.idle == (owed == 0)),
        ]
        words = Signal.like(latest)
        m.d.comb += words.eq(self._words(request.p.length[:12]))
        m.d.sync += owed.eq(owed + Mux(asked, words, 0) - sent)
        with m.If(asked):
            m.d.sync += [latest.eq(words), before.eq(latest)]
        with m.If(framer.o.valid):
            then = owed - 1
            m.d.comb += [
                Assert(owed != 0),
                Assert(framer.o.p.last == (then == 0) | (then == latest)
                       | (then == latest + before)),
            ]
        self._pauses(m, owed, sent)
        self._invariants(m, owed, latest, before)
        return m

    def _asks(self, answer):
        """Whether the controller would ask for it."""
        return Mux(answer.opcode == Opcode.RESULT,
                   answer.length == SUM_BYTES * ROWS * self._lanes,
                   (answer.length <= ANSWER_BYTES) & (answer.length[:3] == 0))

    def _words(self, length):
        """Words of a frame."""
        return (length + (self._lanes - 1)) // self._lanes + self._header + self._trailer

    def _pauses(self, m, owed, sent):
        framer = self._component
        self._pause = pause = Signal(range(PAUSE + 2))
        m.d.sync += pause.eq(0)
        with m.If(framer.o.ready & framer.sums.valid & (owed != 0) & ~sent):
            m.d.sync += pause.eq(pause + 1)

    def _invariants(self, m, owed, latest, before):
        """What the next step of the induction needs to know of the framer's registers."""
        framer, inside = self._component, self._inside
        state = inside.state
        turn  = header_crc_in_time(m, inside.parts["header_crc"])
        per   = max(1, 8 // self._lanes)        # words of a beat
        part  = inside["part"] if per > 1 else 0
        count = inside["count"] if self._header > 1 else 0
        busy, ready, beats = inside["busy"], inside["ready"], inside["beats"]
        payload, left, queued = (Signal.like(owed) for _ in range(3))
        fields  = Answer(inside["fields"])
        current = Mux(busy, before, latest)     # words of the frame being sent
        m.d.comb += [
            payload.eq(beats * per),
            queued.eq(Mux(busy, latest, 0)),
            Assert(owed == left + queued + framer.o.valid),
            Assert(~busy | self._asks(fields) & (latest == self._words(fields.length[:12]))),
            Assert(~ready | busy),
            Assert((busy & ~ready) == turn.any()),
            Assert(~(turn & (turn - 1)).any()),
            Assert(state("Payload", "Trailer") | (part == 0)),
            Assert(state("Idle", "Header", "Payload", "CRC", "Trailer")),
        ]
        with m.If(state("Header")):
            m.d.comb += [left.eq(count + 1 + payload + self._trailer),
                         Assert(count < self._header),
                         Assert(current == self._header + payload + self._trailer)]
        with m.If(state("Payload")):
            m.d.comb += [left.eq(payload - part + self._trailer), Assert(beats != 0),
                         Assert(part < per),
                         Assert(current >= self._header + payload + self._trailer)]
        with m.If(state("CRC")):
            m.d.comb += left.eq(self._trailer)
        with m.If(state("Trailer")):
            m.d.comb += [left.eq(self._trailer - part), Assert(part < self._trailer)]
        with m.If(state("CRC", "Trailer")):
            m.d.comb += Assert(current >= self._header + self._trailer)
        untouched = state("Idle") | state("Header") & (count == self._header - 1)
        m.d.comb += Assert(~framer.o.valid | (framer.o.p.last == untouched))
        self._pause_so_far(m, turn, count, part)

    def _pause_so_far(self, m, turn, count, part):
        """While nothing stands at the output; a word that has just come there ends the pause."""
        state, wait = self._inside.state, self._inside["wait"]
        most = [(state("Idle") & step, cycles) for cycles, step in enumerate(turn)] + [
            (state("Idle") & self._inside["ready"], PAUSE - 3),
            (state("Header"), PAUSE - 2),
            (state("Payload", "CRC"), 0),
            (state("Trailer"), 1),
        ]
        with m.If(~self._component.o.valid):
            m.d.comb += [Assert(~when | (self._pause <= cycles)) for when, cycles in most]
            m.d.comb += [
                Assert(~state("Header") | (count == self._header - 1)),
                Assert(~state("CRC") | wait),
                Assert(~state("Trailer") | (part == 0)),
            ]
        m.d.comb += [Assert(~wait | state("CRC")), Assert(self._pause <= PAUSE)]


def last_on_another_word(m, framer):
    m.d.sync += framer.o.p.last.eq(framer.sums.valid)


def header_crc_asked_in_vain(m, framer):
    with m.If(framer.requests.p.opcode == Opcode.ACK):
        m.d.comb += m.submodules.header_crc.start.eq(0)


@pytest.mark.parametrize("lanes", [1, 2, 8, 64])
def test_framer_sends_frames(demonstrate, lanes):
    demonstrate(lambda: Framer(lanes), SendsFrames,
                [last_on_another_word, header_crc_asked_in_vain], Method.INDUCTION, 2)
