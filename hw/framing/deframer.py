"""Deframer: finds and checks request frames in the word stream."""

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tritstream.hw.framing.crc import CRC_BITS, Crc32
from tritstream.hw.interfaces import FoundHeader, Header, Payload
from tritstream.hw.protocol import (
    HEADER_BYTES,
    HEADER_CRC_OFFSET,
    MAGIC,
    REQUEST_ALIGN,
    TRAILER_BYTES,
    word_count,
)

__all__ = ["Deframer"]

#: States in which each word is taken. A register says so, because the path of ``ready`` is long.
_OPEN = ("Find", "Collect", "Header padding", "Payload padding", "Trailer", "Trailer padding")


class Deframer(wiring.Component):
    """Splits the request stream into headers, payloads and the status of each frame.

    Each frame produces one transfer at ``headers``, then its payload word by word without padding,
    then one transfer at ``frame_status``. ``headers.p.header`` is stable until the status is taken;
    then the search for the next header starts. A header is accepted if its magic and its CRC are
    correct.

    Words that are neither zero nor the start of a header start a hunt. A hunt is reported once, by
    a transfer at ``headers`` with ``out_of_sync``, which has neither payload nor status. If the CRC
    of a header is wrong, all ``ceil(20 / L)`` words of the header are dropped.

    An abandoned frame ends early. Its status is 0 if its header was accepted; otherwise it is
    reported as ``out_of_sync``. If only padding of the trailer is missing, the status is the same
    as for a complete frame.

    Payload words pass in the cycle in which they arrive, one per cycle. During the search for a
    header, one word is taken every two cycles. In addition to its payload, a frame takes one cycle
    per word of header, padding and trailer, and at most 12 more cycles.

    Parameters
    ----------
    lanes : int
        Bytes per word.

    Members
    -------
    i : :py:`In(stream.Signature(8 * lanes))`
        Request frames.
    headers : :py:`Out(stream.Signature(FoundHeader))`
        Header of each frame, or notice of a hunt.
    payload : :py:`Out(stream.Signature(Payload(lanes)))`
        Words of the payload.
    frame_status : :py:`Out(stream.Signature(1))`
        1 if the trailer is correct and the frame was not abandoned.
    abandon : :py:`In(1)`
        Request to give up the current frame. Must be held, with nothing offered at ``i``, until
        ``abandoned``.
    abandoned : :py:`Out(1)`
        No frame is being received.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes     = lanes
        self._per_part  = REQUEST_ALIGN // lanes
        self._in_header = word_count(HEADER_BYTES, lanes)
        self._in_crc    = word_count(TRAILER_BYTES, lanes)
        self._magic     = MAGIC & ((1 << min(16, 8 * lanes)) - 1)
        super().__init__({
            "i":            In(stream.Signature(8 * lanes)),
            "headers":      Out(stream.Signature(FoundHeader)),
            "payload":      Out(stream.Signature(Payload(lanes))),
            "frame_status": Out(stream.Signature(1)),
            "abandon":      In(1),
            "abandoned":    Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = Crc32(self._lanes, checks_header=True)
        r = _Registers(self._lanes)
        word = self.i.payload
        m.d.comb += [
            r.word_taken.eq(self.i.valid & self.i.ready),
            crc.en.eq(r.word_taken & r.is_covered),
            crc.word.eq(word),
            self.headers.p.header.eq(Header(r.store[:8 * HEADER_CRC_OFFSET])),
            self.headers.p.out_of_sync.eq(0),
            self.payload.p.data.eq(word),
            self.payload.p.last.eq(r.is_last_word),
            self.payload.valid.eq(r.in_payload & self.i.valid),
            self.i.ready.eq(r.is_open | (r.in_payload & self.payload.ready)),
            self.frame_status.payload.eq(r.crc_ok & ~r.aborted),
        ]
        m.d.sync += r.timer.eq(1)
        with m.FSM():
            self._find_header(m, r, crc)
            self._check_header(m, r, crc)
            self._offer_header(m, r)
            self._pass_payload(m, r)
            self._take_trailer(m, r)
            self._offer_status(m, r, crc)
        return m

    def _find_header(self, m, r, crc):
        """Take words until one can be the first of a header, then the header's other words."""
        with m.State("Find"):
            m.d.comb += self.abandoned.eq(1)
            with m.If(self.abandon):
                m.d.sync += r.hunting.eq(0)
            self._begin(m, r, crc)
            m.d.sync += [r.is_magic.eq(self.i.payload[:16] == self._magic),
                         r.is_blank.eq(~self.i.payload.any())]
            with m.If(self.i.valid):
                self._enter(m, r, "Look")

        with m.State("Look"):
            m.d.sync += r.timer.eq(r.timer << 1)
            self._enter(m, r, "Find")
            with m.If(r.is_magic):
                self._enter(m, r, "Collect" if self._in_header > 1 else "Check")
            with m.Elif(~r.is_blank):
                self._hunt(m, r)

        with m.State("Collect"):
            m.d.comb += r.is_covered.eq(1)
            with m.If(self.i.valid):
                m.d.sync += [self._shift_in(r.store), r.count.eq(r.count - 1)]
                with m.If(r.count == 1):
                    self._enter(m, r, "Check")
            if self._lanes == 1:
                self._check_second_byte(m, r, crc)
            with m.If(self.abandon):
                self._hunt(m, r)

    def _check_second_byte(self, m, r, crc):
        """Check the second byte of the magic, which is a word of its own with one lane.

        The byte may again be the first byte of the magic.
        """
        with m.If(self.i.valid & (r.count == self._in_header - 1)
                  & (self.i.payload != MAGIC >> 8)):
            with m.If(self.i.payload == self._magic):
                self._begin(m, r, crc)
                self._enter(m, r, "Collect")
                with m.If(~r.hunting):      # the first byte was garbage
                    m.d.sync += [r.hunting.eq(1), r.has_candidate.eq(1)]
                    self._enter(m, r, "Out of sync")
            with m.Else():
                self._hunt(m, r)

    def _check_header(self, m, r, crc):
        """Wait for the CRC of the header, report a hunt, and take the padding of the header."""
        with m.State("Check"):
            length = self.headers.p.header.length
            m.d.sync += [
                r.count.eq(self._per_part - self._in_header),
                r.timer.eq(r.timer << 1),
                r.words_left.eq((length - 1) >> exact_log2(self._lanes)),
                r.has_no_payload.eq(length == 0),
            ]
            with m.If(r.timer[-1]):
                with m.If(crc.sound):
                    m.d.sync += r.hunting.eq(0)
                    padded = self._per_part > self._in_header
                    self._enter(m, r, "Header padding" if padded else "Header")
                with m.Else():
                    self._hunt(m, r)

        with m.State("Out of sync"):
            m.d.comb += [self.headers.valid.eq(1), self.headers.p.out_of_sync.eq(1)]
            with m.If(self.headers.ready):
                m.d.sync += r.has_candidate.eq(0)
                self._enter(m, r, "Find")
                with m.If(r.has_candidate):
                    self._enter(m, r, "Collect")

        with m.State("Header padding"):
            m.d.comb += r.is_covered.eq(1)
            self._skip(m, r, "Header")

    def _offer_header(self, m, r):
        words = self._per_part
        with m.State("Header"):
            m.d.comb += self.headers.valid.eq(1)
            m.d.sync += [r.is_last_word.eq(r.words_left == 0), r.crc_left.eq(~0)]
            m.d.sync += r.count.eq(~r.words_left[:exact_log2(words)] if words > 1 else 0)
            with m.If(self.headers.ready):
                m.d.sync += r.in_payload.eq(~r.has_no_payload)
                self._enter(m, r, "Payload")
                with m.If(r.has_no_payload):
                    self._enter(m, r, "Trailer")

    def _pass_payload(self, m, r):
        """Pass the words of the payload on, then take its padding."""
        with m.State("Payload"):
            m.d.comb += r.is_covered.eq(1)
            with m.If(self.i.valid & self.payload.ready):
                m.d.sync += [r.words_left.eq(r.words_left - 1),
                             r.is_last_word.eq(r.words_left == 1)]
                with m.If(r.is_last_word):
                    m.d.sync += r.in_payload.eq(0)
                    self._enter(m, r, "Payload padding")
                    with m.If(r.count == 0):
                        self._enter(m, r, "Trailer")
            with m.If(self.abandon):
                m.d.sync += r.in_payload.eq(0)
                self._enter(m, r, "Trailer")

        with m.State("Payload padding"):
            m.d.comb += r.is_covered.eq(1)
            self._skip(m, r, "Trailer")

    def _take_trailer(self, m, r):
        with m.State("Trailer"):
            with m.If(self.i.valid):
                m.d.sync += [self._shift_in(r.trailer), r.crc_left.eq(r.crc_left >> 1)]
                m.d.sync += r.count.eq(self._per_part - self._in_crc)
                with m.If(~r.crc_left.any()):
                    padded = self._per_part > self._in_crc
                    self._enter(m, r, "Trailer padding" if padded else "Settle")
            with m.If(self.abandon):
                m.d.sync += r.aborted.eq(1)
                self._enter(m, r, "Settle")

        with m.State("Trailer padding"):
            self._skip(m, r, "Settle")

    def _offer_status(self, m, r, crc):
        """Wait for the CRC of the frame, compare it with the trailer, and offer the status."""
        with m.State("Settle"):
            m.d.sync += [r.timer.eq(r.timer << 1),
                         r.crc_ok.eq(r.trailer[:CRC_BITS] == crc.crc)]
            with m.If(r.timer[-1]):
                self._enter(m, r, "Status")

        with m.State("Status"):
            m.d.comb += self.frame_status.valid.eq(1)
            with m.If(self.frame_status.ready):
                m.d.sync += r.aborted.eq(0)
                self._enter(m, r, "Find")

    def _begin(self, m, r, crc):
        """Take the first word of a possible header."""
        m.d.comb += [r.is_covered.eq(1), crc.first.eq(1)]
        m.d.sync += [self._shift_in(r.store), r.count.eq(self._in_header - 1)]

    def _hunt(self, m, r):
        """Report a new hunt, or continue the current hunt."""
        with m.If(r.hunting):
            self._enter(m, r, "Find")
        with m.Else():
            m.d.sync += r.hunting.eq(1)
            self._enter(m, r, "Out of sync")

    def _skip(self, m, r, then):
        """Take the remaining padding of the header, payload or trailer."""
        with m.If(self.i.valid):
            m.d.sync += r.count.eq(r.count - 1)
        with m.If(self.abandon | (self.i.valid & (r.count == 1))):
            self._enter(m, r, then)

    def _enter(self, m, r, state):
        """Go to a state."""
        m.next = state
        m.d.sync += r.is_open.eq(state in _OPEN)

    def _shift_in(self, target):
        return target.eq(Cat(target, self.i.payload)[-len(target):])


class _Registers:
    """Registers of a deframer, and flags of the current word."""

    def __init__(self, lanes: int) -> None:
        self.store    = Signal(8 * lanes * word_count(HEADER_BYTES, lanes))
        self.trailer  = Signal(8 * lanes * word_count(TRAILER_BYTES, lanes))
        #: Words left of the header, payload or trailer.
        self.count    = Signal(range(REQUEST_ALIGN // lanes + 1))
        self.words_left     = Signal(32)        # payload words after this one
        self.is_last_word   = Signal()          # this is the last word of the payload
        self.has_no_payload = Signal()
        #: Words of the CRC in the trailer after this one, one bit per word.
        self.crc_left       = Signal(word_count(TRAILER_BYTES, lanes) - 1)
        self.hunting        = Signal()
        self.has_candidate  = Signal()          # one lane: a header may have started with the hunt
        self.is_covered     = Signal()          # the trailer's CRC covers this word
        self.aborted        = Signal()
        self.crc_ok         = Signal()
        self.timer          = Signal(Crc32.LATENCY)     # until the CRC is valid, one bit per cycle
        self.word_taken     = Signal()
        self.is_magic       = Signal()          # the last word is the start of the magic
        self.is_blank       = Signal()          # the last word is zero
        self.in_payload     = Signal()          # payload words pass on
        self.is_open        = Signal(init=1)    # the state takes each word
