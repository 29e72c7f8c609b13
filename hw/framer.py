"""Framer: puts headers and CRCs around answers."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out, connect

from golden.tiles import ROWS

from .buffer import StreamBuffer
from .crc import Crc32, HeaderCrc
from .interfaces import AnswerHeader, AnswerWord
from .protocol import HEADER_BYTES, MAGIC, SUM_BYTES, TRAILER_BYTES, Opcode

__all__ = ["ANSWER_BYTES", "Framer"]

#: Longest payload of an answer other than RESULT.
ANSWER_BYTES = 32


def _Piece(lanes):
    """A word before its frame has its trailer: ``data``, or word ``part`` of the trailer."""
    return StructLayout({
        "data":    8 * lanes,
        "first":   1,               # of a frame
        "trailer": 1,
        "part":    range(max(2, TRAILER_BYTES // lanes)),
        "last":    1,
    })


class Sealer(wiring.Component):
    """Puts the CRC of a frame's words where its trailer is. Latency two cycles.

    One word a cycle; before a trailer, three cycles pass. ``i.ready``, ``o.valid`` and
    ``o.payload`` come straight from registers.

    Parameters
    ----------
    lanes : int

    Members
    -------
    i : :py:`In(stream.Signature(_Piece(lanes)))`
    o : :py:`Out(stream.Signature(AnswerWord(lanes)))`
    empty : :py:`Out(1)`
    """

    def __init__(self, lanes):
        self._lanes = lanes
        super().__init__({
            "i":     In(stream.Signature(_Piece(lanes))),
            "o":     Out(stream.Signature(AnswerWord(lanes))),
            "empty": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.buffer = buffer = StreamBuffer(_Piece(self._lanes))
        m.submodules.crc    = crc    = Crc32(self._lanes)
        connect(m, wiring.flipped(self.i), buffer.i)

        piece   = buffer.o.p
        free    = Signal()
        move    = Signal()
        pending = Signal(crc.LATENCY - 1)   # words that do not yet count in the CRC
        trailer = crc.crc
        if self._lanes < TRAILER_BYTES:
            trailer = crc.crc.word_select(piece.part, 8 * self._lanes)

        m.d.comb += [
            free.eq(~self.o.valid | self.o.ready),
            buffer.o.ready.eq(free & ~(piece.trailer & pending.any())),
            move.eq(buffer.o.valid & buffer.o.ready),
            self.empty.eq(~buffer.o.valid & ~self.o.valid),
            crc.en.eq(move & ~piece.trailer),
            crc.first.eq(piece.first),
            crc.word.eq(piece.data),
        ]
        m.d.sync += pending.eq(Cat(crc.en, pending))
        with m.If(free):
            m.d.sync += [
                self.o.valid.eq(move),
                self.o.p.data.eq(Mux(piece.trailer, trailer, piece.data)),
                self.o.p.last.eq(piece.last),
            ]
        return m


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

    def __init__(self, lanes):
        self._lanes = lanes
        self._beat  = SUM_BYTES * max(1, lanes // 8)
        super().__init__({
            "requests": In(stream.Signature(AnswerHeader)),
            "answer":   In(8 * ANSWER_BYTES),
            "sums":     In(stream.Signature(8 * self._beat)),
            "o":        Out(stream.Signature(AnswerWord(lanes))),
            "idle":     Out(1, init=1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes      = self._lanes
        word_bits  = 8 * lanes
        in_header  = -(-HEADER_BYTES // lanes)
        in_trailer = -(-TRAILER_BYTES // lanes)
        result_beats = ROWS * lanes * SUM_BYTES // self._beat

        fields, header, built, take = self._headers(m)
        m.submodules.sealer = sealer = Sealer(lanes)

        store  = Signal(word_bits * in_header)
        count  = Signal(range(in_header))
        result = Signal()
        beat   = Signal(8 * self._beat)
        beats  = Signal(range(result_beats + 1))    # payload beats left
        turn   = Signal(range(ANSWER_BYTES // self._beat))
        part   = Signal(range(self._beat // lanes)) # word of a beat
        began  = Signal()
        word   = sealer.i.p
        valid  = sealer.i.valid
        ready  = sealer.i.ready

        connect(m, sealer.o, wiring.flipped(self.o))
        m.d.comb += beat.eq(self.answer.word_select(turn, 8 * self._beat))
        with m.If(result):
            m.d.comb += beat.eq(self.sums.payload)

        def begin():
            """Begin the next frame, or wait for it."""
            m.d.comb += take.eq(1)
            m.d.sync += [
                store.eq(header),
                result.eq(fields.opcode == Opcode.RESULT),
                beats.eq((fields.length[:12] + (self._beat - 1)) // self._beat),
                turn.eq(0),
                began.eq(1),
                count.eq(in_header - 1),
            ]
            m.next = "Idle"
            with m.If(built):
                m.next = "Header"

        with m.FSM() as fsm:
            with m.State("Idle"):
                begin()

            with m.State("Header"):
                m.d.comb += [valid.eq(1), word.data.eq(store), word.first.eq(began)]
                with m.If(ready):
                    m.d.sync += [store.eq(store >> word_bits), count.eq(count - 1), began.eq(0)]
                    with m.If(count == 0):
                        m.next = "Payload"
                        with m.If(beats == 0):
                            m.next = "Trailer"

            with m.State("Payload"):
                m.d.comb += [
                    valid.eq(self.sums.valid | ~result),
                    word.data.eq(beat.word_select(part, word_bits)),
                ]
                with m.If(valid & ready):
                    m.d.sync += part.eq(part + 1)
                    with m.If(part == self._beat // lanes - 1):
                        m.d.comb += self.sums.ready.eq(result)
                        m.d.sync += [part.eq(0), turn.eq(turn + 1), beats.eq(beats - 1)]
                        with m.If(beats == 1):
                            m.next = "Trailer"

            with m.State("Trailer"):
                m.d.comb += [
                    valid.eq(1),
                    word.trailer.eq(1),
                    word.part.eq(part),
                    word.last.eq(part == in_trailer - 1),
                ]
                with m.If(ready):
                    m.d.sync += part.eq(part + 1)
                    with m.If(word.last):
                        m.d.sync += part.eq(0)
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
