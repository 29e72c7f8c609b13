"""Framer: adds headers and CRCs to responses."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from tritstream.golden.fixed_point import ROWS
from tritstream.hw.framing.crc import HeaderCrc
from tritstream.hw.framing.sealer import Sealer
from tritstream.hw.interfaces import AnswerHeader, AnswerWord
from tritstream.hw.protocol import (
    HEADER_BYTES,
    MAGIC,
    SUM_BYTES,
    TRAILER_BYTES,
    Opcode,
    word_count,
)

__all__ = ["ANSWER_BYTES", "Framer"]

#: Longest payload in bytes of a response other than RESULT.
ANSWER_BYTES = 32


class Framer(wiring.Component):
    """Sends responses as complete frames.

    Throughput is one word per cycle, in the payload of a frame other than RESULT one word every two
    cycles. Each frame takes at most 3 more cycles. The CRC of a header is computed while the
    previous frame is sent.

    Parameters
    ----------
    lanes : int
        Bytes per word.

    Members
    -------
    requests : :py:`In(stream.Signature(AnswerHeader))`
        Header of the next frame to send.
    answer : :py:`In(256)`
        Payload of a frame other than RESULT. Must be stable from the transfer at ``requests`` until
        ``idle``.
    sums : :py:`In(stream.Signature(64 * max(1, lanes // 8)))`
        Payload of RESULT frames.
    o : :py:`Out(stream.Signature(AnswerWord(lanes)))`
        Words of the frames.
    idle : :py:`Out(1)`
        All requested frames have left, one cycle ago or earlier.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._segment = SUM_BYTES * max(1, lanes // 8)
        super().__init__({
            "requests": In(stream.Signature(AnswerHeader)),
            "answer":   In(8 * ANSWER_BYTES),
            "sums":     In(stream.Signature(8 * self._segment)),
            "o":        Out(stream.Signature(AnswerWord(lanes))),
            "idle":     Out(1, init=1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fields, header, built, take = self._headers(m)
        m.submodules.sealer = sealer = Sealer(self._lanes)
        r = _Registers(self._lanes, self._segment)

        connect(m, sealer.o, wiring.flipped(self.o))
        segment = self.answer.word_select(r.segment_index, 8 * self._segment)
        answer, sums = (value.word_select(r.word_index, 8 * self._lanes)
                        for value in (segment, self.sums.payload))
        # Words of an answer go through a register, because they are selected from many.
        m.d.sync += [r.is_selected.eq(0), r.answer_word.eq(0)]
        with m.If(r.sends_answer & ~(r.is_selected & sealer.i.ready)):
            m.d.sync += [r.is_selected.eq(1), r.answer_word.eq(answer)]
        last = r.word_index == self._segment // self._lanes - 1
        m.d.comb += self.sums.ready.eq(r.sends_sums & sealer.i.ready & last)
        # One gate per bit: each part is zero while another is sent, and all are in the trailer.
        m.d.comb += sealer.i.p.data.eq(r.store[:8 * self._lanes] | r.answer_word
                                       | Mux(r.sends_sums, sums, 0))

        def start() -> None:
            """Take the next frame if its header is built, otherwise wait for it."""
            m.d.comb += take.eq(1)
            m.d.sync += [
                r.store.eq(header),
                r.result.eq(fields.opcode == Opcode.RESULT),
                r.segments_left.eq((fields.length[:12] + (self._segment - 1)) // self._segment),
                r.segment_index.eq(0),
                r.is_first.eq(1),
                r.words_left.eq(word_count(HEADER_BYTES, self._lanes) - 1),
            ]
            m.next = "Idle"
            with m.If(built):
                m.next = "Header"

        with m.FSM() as fsm:
            with m.State("Idle"):
                start()
            self._send_header(m, r, sealer.i)
            self._send_payload(m, r, sealer.i)
            self._send_trailer(m, r, sealer.i, start)

        m.d.sync += self.idle.eq(fsm.ongoing("Idle") & self.requests.ready & ~self.requests.valid
                                 & sealer.empty)
        return m

    def _send_header(self, m, r, out):
        word_bits = 8 * self._lanes
        with m.State("Header"):
            m.d.comb += [out.valid.eq(1), out.p.first.eq(r.is_first)]
            with m.If(out.ready):
                m.d.sync += [r.store.eq(r.store >> word_bits), r.words_left.eq(r.words_left - 1),
                             r.is_first.eq(0)]
                with m.If(r.words_left == 0):
                    m.next = "Trailer"
                    with m.If(r.segments_left != 0):
                        m.d.sync += [r.sends_sums.eq(r.result), r.sends_answer.eq(~r.result)]
                        m.next = "Payload"

    def _send_payload(self, m, r, out):
        """Send the segments of the payload, each word by word."""
        with m.State("Payload"):
            m.d.comb += out.valid.eq((r.sends_sums & self.sums.valid) | r.is_selected)
            with m.If(out.valid & out.ready):
                m.d.sync += r.word_index.eq(r.word_index + 1)
                with m.If(r.word_index == self._segment // self._lanes - 1):
                    m.d.sync += [r.word_index.eq(0), r.segment_index.eq(r.segment_index + 1),
                                 r.segments_left.eq(r.segments_left - 1)]
                    with m.If(r.segments_left == 1):
                        m.d.sync += [r.sends_sums.eq(0), r.sends_answer.eq(0)]
                        m.next = "Trailer"

    def _send_trailer(self, m, r, out, start):
        """Send the words that the sealer fills with the CRC, then ``start`` the next frame."""
        with m.State("Trailer"):
            m.d.comb += [
                out.valid.eq(1),
                out.p.trailer.eq(1),
                out.p.part.eq(r.word_index),
                out.p.last.eq(r.word_index == word_count(TRAILER_BYTES, self._lanes) - 1),
            ]
            with m.If(out.ready):
                m.d.sync += r.word_index.eq(r.word_index + 1)
                with m.If(out.p.last):
                    m.d.sync += r.word_index.eq(0)
                    start()

    def _headers(self, m):
        """Build the header of the next frame, which its consumer takes by setting ``take``.

        Return its fields, its 20 bytes, whether it is complete, and ``take``.
        """
        m.submodules.header_crc = header_crc = HeaderCrc()
        fields = Signal(AnswerHeader)
        busy   = Signal()
        built  = Signal()
        take   = Signal()
        taken  = Signal()
        m.d.comb += [
            self.requests.ready.eq(~busy),
            header_crc.data.eq(fields),
        ]
        m.d.sync += header_crc.start.eq(self.requests.valid & self.requests.ready)
        with m.If(self.requests.valid & self.requests.ready):
            m.d.sync += [fields.eq(self.requests.payload), busy.eq(1)]
        with m.If(header_crc.done):
            m.d.sync += built.eq(1)
        # One cycle late, which is early enough: a frame has a header word before the next header is
        # taken.
        m.d.sync += taken.eq(built & take)
        with m.If(taken):
            m.d.sync += [built.eq(0), busy.eq(0)]
        return fields, Cat(Const(MAGIC, 16), fields, header_crc.crc), built, take


class _Registers:
    """Registers of a framer."""

    def __init__(self, lanes: int, segment_bytes: int) -> None:
        in_header     = word_count(HEADER_BYTES, lanes)
        in_segment    = segment_bytes // lanes
        result_bytes  = ROWS * lanes * SUM_BYTES
        self.store         = Signal(8 * lanes * in_header)
        self.words_left    = Signal(range(in_header))           # of the header, after this word
        self.result        = Signal()                           # the frame is a RESULT
        self.sends_sums    = Signal()                           # payload of a RESULT
        self.sends_answer  = Signal()                           # payload of another frame
        self.answer_word   = Signal(8 * lanes)                  # zero unless it is selected
        self.is_selected   = Signal()
        self.segments_left = Signal(range(result_bytes // segment_bytes + 1))
        self.segment_index = Signal(range(ANSWER_BYTES // segment_bytes))
        self.word_index    = Signal(range(in_segment))          # in a segment or in the trailer
        self.is_first      = Signal()                           # first word of the frame
