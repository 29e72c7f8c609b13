"""Framer: puts headers and CRCs around answers."""

from amaranth import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from golden.tiles import ROWS

from .crc import Crc32, HeaderCrc
from .protocol import HEADER_BYTES, MAGIC, SUM_BYTES, TRAILER_BYTES, Opcode

__all__ = ["ANSWER_BYTES", "Answer", "AnswerWord", "Framer"]

#: Longest payload of an answer other than RESULT.
ANSWER_BYTES = 32

#: Header of a frame to send, after its magic, in the order of the wire.
Answer = StructLayout({"opcode": 8, "sequence": 8, "arg0": 32, "arg1": 32, "length": 32})


def AnswerWord(lanes):
    """A word out; ``last`` marks the last of a frame."""
    return StructLayout({"data": 8 * lanes, "last": 1})


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
    requests : :py:`In(stream.Signature(Answer))`
        Frame to send.
    answer : :py:`In(256)`
    sums : :py:`In(stream.Signature(64 * max(1, lanes // 8)))`
    o : :py:`Out(stream.Signature(AnswerWord(lanes)))`
    idle : :py:`Out(1)`
        Everything requested has left.
    """

    def __init__(self, lanes):
        self._lanes = lanes
        self._beat  = SUM_BYTES * max(1, lanes // 8)
        super().__init__({
            "requests": In(stream.Signature(Answer)),
            "answer":   In(8 * ANSWER_BYTES),
            "sums":     In(stream.Signature(8 * self._beat)),
            "o":        Out(stream.Signature(AnswerWord(lanes))),
            "idle":     Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes      = self._lanes
        word_bits  = 8 * lanes
        in_header  = -(-HEADER_BYTES // lanes)
        in_trailer = -(-TRAILER_BYTES // lanes)
        result_beats = ROWS * lanes * SUM_BYTES // self._beat

        fields, header, ready, take = self._headers(m)
        m.submodules.crc = crc = Crc32(lanes)

        store  = Signal(word_bits * in_header)
        count  = Signal(range(in_header))
        result = Signal()
        beat   = Signal(8 * self._beat)
        beats  = Signal(range(result_beats + 1))    # payload beats left
        turn   = Signal(range(ANSWER_BYTES // self._beat))
        part   = Signal(range(self._beat // lanes)) # word of a beat
        word   = Signal(word_bits)
        valid  = Signal()
        last   = Signal()
        move   = Signal()
        sent   = Signal()
        cover  = Signal()                           # the trailer's CRC covers this word
        began  = Signal()
        wait   = Signal()

        m.d.comb += [
            move.eq(~self.o.valid | self.o.ready),
            sent.eq(move & valid),
            # The CRC is made of the word that stands at the output, a cycle later.
            crc.word.eq(self.o.p.data),
            beat.eq(self.answer.word_select(turn, 8 * self._beat)),
        ]
        with m.If(result):
            m.d.comb += beat.eq(self.sums.payload)
        m.d.sync += [crc.en.eq(sent & cover), crc.first.eq(began)]
        with m.If(move):
            m.d.sync += [
                self.o.valid.eq(valid), self.o.p.data.eq(word), self.o.p.last.eq(last)]

        with m.FSM() as fsm:
            with m.State("Idle"):
                m.d.comb += take.eq(1)
                m.d.sync += [
                    store.eq(header),
                    result.eq(fields.opcode == Opcode.RESULT),
                    beats.eq((fields.length[:12] + (self._beat - 1)) // self._beat),
                    turn.eq(0),
                    began.eq(1),
                    count.eq(in_header - 1),
                ]
                with m.If(ready):
                    m.next = "Header"

            with m.State("Header"):
                m.d.comb += [valid.eq(1), word.eq(store), cover.eq(1)]
                with m.If(sent):
                    m.d.sync += [store.eq(store >> word_bits), count.eq(count - 1), began.eq(0)]
                    with m.If(count == 0):
                        m.next = "Payload"
                        with m.If(beats == 0):
                            m.next = "CRC"

            with m.State("Payload"):
                m.d.comb += [
                    valid.eq(self.sums.valid | ~result),
                    word.eq(beat.word_select(part, word_bits)),
                    cover.eq(1),
                ]
                with m.If(sent):
                    m.d.sync += part.eq(part + 1)
                    with m.If(part == self._beat // lanes - 1):
                        m.d.comb += self.sums.ready.eq(result)
                        m.d.sync += [part.eq(0), turn.eq(turn + 1), beats.eq(beats - 1)]
                        with m.If(beats == 1):
                            m.next = "CRC"

            with m.State("CRC"):
                m.d.sync += wait.eq(~wait)
                with m.If(wait):
                    m.next = "Trailer"

            with m.State("Trailer"):
                m.d.comb += [
                    valid.eq(1),
                    word.eq(crc.crc.word_select(part, word_bits) if in_trailer > 1 else crc.crc),
                    last.eq(part == in_trailer - 1),
                ]
                with m.If(sent):
                    m.d.sync += part.eq(part + 1)
                    with m.If(last):
                        m.d.sync += part.eq(0)
                        m.next = "Idle"

        m.d.comb += self.idle.eq(fsm.ongoing("Idle") & self.requests.ready & ~self.o.valid)
        return m

    def _headers(self, m):
        """Builds the next frame's header: fields, 20 bytes, whether ready, and the taker."""
        m.submodules.header_crc = header_crc = HeaderCrc()
        fields = Signal(Answer)
        header = Cat(Const(MAGIC, 16), fields)
        busy   = Signal()
        ready  = Signal()
        take   = Signal()
        m.d.comb += [
            self.requests.ready.eq(~busy),
            header_crc.data.eq(header),
            header_crc.start.eq(self.requests.valid & self.requests.ready),
        ]
        with m.If(header_crc.start):
            m.d.sync += [fields.eq(self.requests.payload), busy.eq(1)]
        with m.If(header_crc.done):
            m.d.sync += ready.eq(1)
        with m.If(ready & take):
            m.d.sync += [ready.eq(0), busy.eq(0)]
        return fields, Cat(header, header_crc.crc), ready, take
