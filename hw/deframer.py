"""Deframer: finds request frames in the word stream and checks them."""

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .crc import CRC_BITS, Crc32
from .protocol import HEADER_BYTES, HEADER_CRC_OFFSET, MAGIC, REQUEST_ALIGN, TRAILER_BYTES
from .sequencer import Payload

__all__ = ["Deframer", "Header", "Arrival"]

#: A frame header up to its CRC, in the order of the wire.
Header = StructLayout({
    "magic":    16,
    "opcode":   8,
    "sequence": 8,
    "arg0":     32,
    "arg1":     32,
    "length":   32,
})

#: A request has begun, or (``lost``) words came that are none.
Arrival = StructLayout({"header": Header, "lost": 1})


class Deframer(wiring.Component):
    """Splits the request stream into headers, payloads and verdicts.

    For each frame: one ``arrivals``, then its payload word by word without padding, then one
    ``verdicts``; the next is looked for once that is taken. ``arrivals.p.header`` holds until
    then. A header counts with the right magic and header CRC. Words that are neither zero nor
    the begin of a header start a hunt, reported once by an arrival that is ``lost`` and has
    neither payload nor verdict; a candidate whose CRC is wrong is dropped whole (its first
    ``ceil(20 / L)`` words).

    A frame that is abandoned ends there: with a wrong verdict if its header has counted, as lost if
    not. Of one that is whole but for the padding of its trailer, the verdict stands.

    Payload words pass in the cycle in which they come, one a cycle; while a header is looked for, a
    word is taken every other cycle. Around them a frame costs its
    own header, padding and trailer words and at most 12 cycles.

    Members
    -------
    i : :py:`In(stream.Signature(8 * lanes))`
    arrivals : :py:`Out(stream.Signature(Arrival))`
    payload : :py:`Out(stream.Signature(Payload(lanes)))`
    verdicts : :py:`Out(stream.Signature(1))`
        Whether the trailer was right.
    abandon : :py:`In(1)`
        What has begun will not go on; held, with nothing offered at ``i``, until ``abandoned``.
    abandoned : :py:`Out(1)`
        Nothing is under way.
    """

    def __init__(self, lanes):
        self._lanes = lanes
        super().__init__({
            "i":         In(stream.Signature(8 * lanes)),
            "arrivals":  Out(stream.Signature(Arrival)),
            "payload":   Out(stream.Signature(Payload(lanes))),
            "verdicts":  Out(stream.Signature(1)),
            "abandon":   In(1),
            "abandoned": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes     = self._lanes
        per_part  = REQUEST_ALIGN // lanes
        in_header = -(-HEADER_BYTES // lanes)
        in_crc    = -(-TRAILER_BYTES // lanes)

        m.submodules.crc = crc = Crc32(lanes)

        word    = self.i.payload
        store    = Signal(8 * lanes * in_header)
        trailer  = Signal(8 * lanes * in_crc)
        count    = Signal(range(per_part + 1))  # words left of this part
        left     = Signal(32)                   # payload words after this one
        final    = Signal()                     # this payload word is the last
        empty    = Signal()                     # there is no payload
        crc_left = Signal(in_crc - 1)           # words of the CRC after this one, one bit each
        hunting  = Signal()
        begun    = Signal()                     # a candidate has begun with the hunt (one lane)
        covered  = Signal()                     # the trailer's CRC covers this word
        cut      = Signal()                     # the frame was abandoned
        good     = Signal()                     # the trailer is right
        timer    = Signal(crc.LATENCY)          # until the CRC is, one bit a cycle
        taken    = Signal()
        header   = Header(store[:8 * HEADER_CRC_OFFSET])

        is_magic = Signal()                     # the word taken last
        is_blank = Signal()
        paying   = Signal()                     # payload words pass

        m.d.comb += [
            taken.eq(self.i.valid & self.i.ready),
            crc.en.eq(taken & covered),
            crc.word.eq(word),
            self.arrivals.p.header.eq(header),
            self.arrivals.p.lost.eq(0),
            self.payload.p.data.eq(word),
            self.payload.p.last.eq(final),
            self.payload.valid.eq(paying & self.i.valid),
            self.i.ready.eq(paying & self.payload.ready),
            self.verdicts.payload.eq(good & ~cut),
        ]
        m.d.sync += timer.eq(1)

        def shift_in(target):
            return target.eq(Cat(target, word)[-len(target):])

        def lose():
            """Report a hunt that begins here, or go on with one."""
            with m.If(hunting):
                m.next = "Find"
            with m.Else():
                m.d.sync += hunting.eq(1)
                m.next = "Lost"

        def skip(then):
            """Take what is left of a part."""
            m.d.comb += self.i.ready.eq(1)
            with m.If(self.i.valid):
                m.d.sync += count.eq(count - 1)
            with m.If(self.abandon | (self.i.valid & (count == 1))):
                m.next = then

        def begin():
            """First word of what may be a candidate."""
            m.d.comb += [covered.eq(1), crc.first.eq(1)]
            m.d.sync += [shift_in(store), count.eq(in_header - 1)]

        magic = MAGIC & ((1 << min(16, 8 * lanes)) - 1)
        with m.FSM():
            with m.State("Find"):
                m.d.comb += [self.i.ready.eq(1), self.abandoned.eq(1)]
                with m.If(self.abandon):
                    m.d.sync += hunting.eq(0)
                begin()
                m.d.sync += [is_magic.eq(word[:16] == magic), is_blank.eq(~word.any())]
                with m.If(self.i.valid):
                    m.next = "Look"

            with m.State("Look"):
                m.d.sync += timer.eq(timer << 1)
                m.next = "Find"
                with m.If(is_magic):
                    m.next = "Collect" if in_header > 1 else "Check"
                with m.Elif(~is_blank):
                    lose()

            with m.State("Collect"):
                m.d.comb += [self.i.ready.eq(1), covered.eq(1)]
                with m.If(self.i.valid):
                    m.d.sync += [shift_in(store), count.eq(count - 1)]
                    with m.If(count == 1):
                        m.next = "Check"
                if lanes == 1:
                    # The magic spans two words: its first byte may come again as garbage.
                    with m.If(self.i.valid & (count == in_header - 1) & (word != MAGIC >> 8)):
                        with m.If(word == magic):
                            begin()
                            m.next = "Collect"
                            with m.If(~hunting):    # the byte before it was garbage
                                m.d.sync += [hunting.eq(1), begun.eq(1)]
                                m.next = "Lost"
                        with m.Else():
                            lose()
                with m.If(self.abandon):
                    lose()

            with m.State("Check"):
                words = (header.length - 1) >> exact_log2(lanes)
                m.d.sync += [count.eq(per_part - in_header), timer.eq(timer << 1)]
                m.d.sync += [left.eq(words), empty.eq(header.length == 0)]
                with m.If(timer[-1]):
                    with m.If(crc.sound):
                        m.d.sync += hunting.eq(0)
                        m.next = "Header padding" if per_part > in_header else "Arrive"
                    with m.Else():
                        lose()

            with m.State("Lost"):
                m.d.comb += [self.arrivals.valid.eq(1), self.arrivals.p.lost.eq(1)]
                with m.If(self.arrivals.ready):
                    m.d.sync += begun.eq(0)
                    m.next = "Find"
                    with m.If(begun):
                        m.next = "Collect"

            with m.State("Header padding"):
                m.d.comb += covered.eq(1)
                skip("Arrive")

            with m.State("Arrive"):
                m.d.comb += self.arrivals.valid.eq(1)
                m.d.sync += [final.eq(left == 0), crc_left.eq(~0)]
                m.d.sync += count.eq(~left[:exact_log2(per_part)] if per_part > 1 else 0)
                with m.If(self.arrivals.ready):
                    m.d.sync += paying.eq(~empty)
                    m.next = "Payload"
                    with m.If(empty):
                        m.next = "Trailer"

            with m.State("Payload"):
                m.d.comb += covered.eq(1)
                with m.If(self.i.valid & self.payload.ready):
                    m.d.sync += [left.eq(left - 1), final.eq(left == 1)]
                    with m.If(final):
                        m.d.sync += paying.eq(0)
                        m.next = "Payload padding"
                        with m.If(count == 0):
                            m.next = "Trailer"
                with m.If(self.abandon):
                    m.d.sync += paying.eq(0)
                    m.next = "Trailer"

            with m.State("Payload padding"):
                m.d.comb += covered.eq(1)
                skip("Trailer")

            with m.State("Trailer"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += [shift_in(trailer), crc_left.eq(crc_left >> 1)]
                    m.d.sync += count.eq(per_part - in_crc)
                    with m.If(~crc_left.any()):
                        m.next = "Trailer padding" if per_part > in_crc else "Settle"
                with m.If(self.abandon):
                    m.d.sync += cut.eq(1)
                    m.next = "Settle"

            with m.State("Trailer padding"):
                skip("Settle")

            with m.State("Settle"):
                m.d.sync += [timer.eq(timer << 1), good.eq(trailer[:CRC_BITS] == crc.crc)]
                with m.If(timer[-1]):
                    m.next = "Verdict"

            with m.State("Verdict"):
                m.d.comb += self.verdicts.valid.eq(1)
                with m.If(self.verdicts.ready):
                    m.d.sync += cut.eq(0)
                    m.next = "Find"

        return m
