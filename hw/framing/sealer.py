"""Sealer: computes the CRC of each response frame and writes it to the trailer."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.data import Layout, StructLayout
from amaranth.lib.wiring import In, Out, connect

from tritstream.hw.framing.crc import Crc32
from tritstream.hw.interfaces import AnswerWord
from tritstream.hw.primitives.stream_buffer import StreamBuffer
from tritstream.hw.protocol import TRAILER_BYTES

__all__ = ["Sealer", "UnsealedWord"]


def UnsealedWord(lanes: int) -> Layout:
    """Return the layout of a word of a frame without its CRC.

    The word holds ``data``; if ``trailer`` is set, ``data`` must be zero, and the sealer puts word
    ``part`` of the CRC in its place.
    """
    return StructLayout({
        "data":    8 * lanes,
        "first":   1,               # first word of a frame
        "trailer": 1,
        "part":    range(max(2, TRAILER_BYTES // lanes)),
        "last":    1,
    })


class Sealer(wiring.Component):
    """Writes the CRC of a frame to its trailer.

    Latency is two cycles. Throughput is one word per cycle, except that a trailer waits three
    cycles for the CRC. ``i.ready``, ``o.valid`` and ``o.payload`` come directly from registers.

    Parameters
    ----------
    lanes : int
        Bytes per word.

    Members
    -------
    i : :py:`In(stream.Signature(UnsealedWord(lanes)))`
        Words of frames without CRC.
    o : :py:`Out(stream.Signature(AnswerWord(lanes)))`
        Words of frames with CRC.
    empty : :py:`Out(1)`
        No word is inside.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        super().__init__({
            "i":     In(stream.Signature(UnsealedWord(lanes))),
            "o":     Out(stream.Signature(AnswerWord(lanes))),
            "empty": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.buffer = buffer = StreamBuffer(UnsealedWord(self._lanes))
        m.submodules.crc    = crc    = Crc32(self._lanes)
        connect(m, wiring.flipped(self.i), buffer.i)

        unsealed = buffer.o.p
        free     = Signal()
        move     = Signal()
        pending  = Signal(crc.LATENCY - 1)   # words that the CRC does not include yet
        trailer  = crc.crc
        if self._lanes < TRAILER_BYTES:
            trailer = crc.crc.word_select(unsealed.part, 8 * self._lanes)

        m.d.comb += [
            free.eq(~self.o.valid | self.o.ready),
            buffer.o.ready.eq(free & ~(unsealed.trailer & pending.any())),
            move.eq(buffer.o.valid & buffer.o.ready),
            self.empty.eq(~buffer.o.valid & ~self.o.valid),
            crc.en.eq(move & ~unsealed.trailer),
            crc.first.eq(unsealed.first),
            crc.word.eq(unsealed.data),
        ]
        m.d.sync += pending.eq(Cat(crc.en, pending))
        with m.If(free):
            m.d.sync += [
                self.o.valid.eq(move),
                self.o.p.data.eq(unsealed.data | Mux(unsealed.trailer, trailer, 0)),
                self.o.p.last.eq(unsealed.last),
            ]
        return m
