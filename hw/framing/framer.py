"""Framer: puts headers and CRCs around answers."""

from amaranth import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from tritstream.golden.fixed_point import ROWS
from tritstream.hw.framing.crc import HeaderCrc
from tritstream.hw.framing.sealer import Sealer
from tritstream.hw.interfaces import AnswerHeader, AnswerWord
from tritstream.hw.protocol import HEADER_BYTES, MAGIC, SUM_BYTES, TRAILER_BYTES, Opcode

__all__ = ["ANSWER_BYTES", "Framer"]

#: Longest payload of an answer other than RESULT.
ANSWER_BYTES = 32


class Framer(wiring.Component):
    """Sends answers as whole frames, one word a cycle.

    A RESULT takes its payload from ``sums``; any other answer from ``answer``, which is held from
    the request until ``idle``. The header CRC of a frame is made while the frame before it is
    sent; a frame costs its words and at most 3 cycles.

    Parameters
    ----------
    lanes : int

    Members
    -------
    requests : :py:`In(stream.Signature(AnswerHeader))`
        Frame to send.
    answer : :py:`In(256)`
    sums : :py:`In(stream.Signature(64 * max(1, lanes // 8)))`
    o : :py:`Out(stream.Signature(AnswerWord(lanes)))`
    idle : :py:`Out(1)`
        Everything requested had left a cycle ago.
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
        lanes      = self._lanes
        word_bits  = 8 * lanes
        in_header  = -(-HEADER_BYTES // lanes)
        in_trailer = -(-TRAILER_BYTES // lanes)
        result_segments = ROWS * lanes * SUM_BYTES // self._segment

        fields, header, built, take = self._headers(m)
        m.submodules.sealer = sealer = Sealer(lanes)

        store         = Signal(word_bits * in_header)
        words_left    = Signal(range(in_header))                # of the header, after this one
        result        = Signal()
        segment       = Signal(8 * self._segment)               # of the payload
        segments_left = Signal(range(result_segments + 1))
        segment_index = Signal(range(ANSWER_BYTES // self._segment))
        word_index    = Signal(range(self._segment // lanes))   # within a segment or the trailer
        is_first      = Signal()
        word          = sealer.i.p
        valid         = sealer.i.valid
        ready         = sealer.i.ready

        connect(m, sealer.o, wiring.flipped(self.o))
        m.d.comb += segment.eq(self.answer.word_select(segment_index, 8 * self._segment))
        with m.If(result):
            m.d.comb += segment.eq(self.sums.payload)

        def begin():
            """Begin the next frame, or wait for it."""
            m.d.comb += take.eq(1)
            m.d.sync += [
                store.eq(header),
                result.eq(fields.opcode == Opcode.RESULT),
                segments_left.eq((fields.length[:12] + (self._segment - 1)) // self._segment),
                segment_index.eq(0),
                is_first.eq(1),
                words_left.eq(in_header - 1),
            ]
            m.next = "Idle"
            with m.If(built):
                m.next = "Header"

        with m.FSM() as fsm:
            with m.State("Idle"):
                begin()

            with m.State("Header"):
                m.d.comb += [valid.eq(1), word.data.eq(store), word.first.eq(is_first)]
                with m.If(ready):
                    m.d.sync += [store.eq(store >> word_bits), words_left.eq(words_left - 1),
                                 is_first.eq(0)]
                    with m.If(words_left == 0):
                        m.next = "Payload"
                        with m.If(segments_left == 0):
                            m.next = "Trailer"

            with m.State("Payload"):
                m.d.comb += [
                    valid.eq(self.sums.valid | ~result),
                    word.data.eq(segment.word_select(word_index, word_bits)),
                ]
                with m.If(valid & ready):
                    m.d.sync += word_index.eq(word_index + 1)
                    with m.If(word_index == self._segment // lanes - 1):
                        m.d.comb += self.sums.ready.eq(result)
                        m.d.sync += [word_index.eq(0), segment_index.eq(segment_index + 1),
                                     segments_left.eq(segments_left - 1)]
                        with m.If(segments_left == 1):
                            m.next = "Trailer"

            with m.State("Trailer"):
                m.d.comb += [
                    valid.eq(1),
                    word.trailer.eq(1),
                    word.part.eq(word_index),
                    word.last.eq(word_index == in_trailer - 1),
                ]
                with m.If(ready):
                    m.d.sync += word_index.eq(word_index + 1)
                    with m.If(word.last):
                        m.d.sync += word_index.eq(0)
                        begin()

        m.d.sync += self.idle.eq(fsm.ongoing("Idle") & self.requests.ready & ~self.requests.valid
                                 & sealer.empty)
        return m

    def _headers(self, m):
        """Builds the next frame's header: fields, 20 bytes, whether built, and the taker."""
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
        # A cycle late: a frame has a header word before the next is taken.
        m.d.sync += taken.eq(built & take)
        with m.If(taken):
            m.d.sync += [built.eq(0), busy.eq(0)]
        return fields, Cat(Const(MAGIC, 16), fields, header_crc.crc), built, take
