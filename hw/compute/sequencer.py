"""Sequencer: counts the words of a GEMV and labels each one as a beat."""

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import GROUP, SCALE_TRITS
from tritstream.hw.interfaces import SKEW, Beat, GemvRun, Payload
from tritstream.hw.protocol import DIRECT_WORDS

__all__ = ["Sequencer"]

#: Values of ``digit``: digits of a weight are below 4, and the last scale beat is 15.
_DIGIT_BITS  = 4
_SCALE_LAST  = (1 << _DIGIT_BITS) - 1
_SCALE_START = _SCALE_LAST + 1 - SKEW
_CODED       = _SCALE_LAST + 1 - SCALE_TRITS
_DIRECT      = _SCALE_LAST + 1 - DIRECT_WORDS


class Sequencer(wiring.Component):
    """Counter of the beats of a GEMV: groups of digit beats, each followed by its scale beats.

    A chunk of 16 columns has 16 d digit beats. A group has ``length_last + 1`` chunks, or fewer if
    it is the last of its row. It ends with three scale beats, or ten if mantissas are direct.

    Throughput is one word per cycle, and ``beat`` is valid in the cycle in which its word is taken.
    Only the last beat of a row block may wait, for a free result bank (``credit``). ``credit`` must
    not fall except after ``block_end``. Words that come while no GEMV runs are dropped.

    Parameters
    ----------
    lanes : int
        Bytes per word.

    Members
    -------
    gemv : :py:`In(GemvRun)`
        Command to run a GEMV. Its words are taken from the cycle after ``start``, even if the
        previous GEMV is incomplete. ``complete`` is valid when ``running`` is low.
    words : :py:`In(stream.Signature(Payload(lanes)))`
        Words of the payload.
    credit : :py:`In(1)`
        A result bank is free for the current row block.
    beat : :py:`Out(Beat)`
        Beat of the word that is taken.
    block_end : :py:`Out(1)`
        ``beat`` is the last beat of a row block.
    running : :py:`Out(1)`
        A GEMV runs.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        super().__init__({
            "gemv":      In(GemvRun),
            "words":     In(stream.Signature(Payload(lanes))),
            "credit":    In(1),
            "beat":      Out(Beat),
            "block_end": Out(1),
            "running":   Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        job    = self.gemv.job
        digit  = Signal(_DIGIT_BITS)        # of a weight, or 16 minus the scale beats that are left
        place  = Signal(range(GROUP))
        chunk  = Signal.like(job.chunk_last)
        length = Signal.like(job.length_last)
        block  = Signal.like(job.block_last)
        first  = Signal()                   # this beat belongs to the first group of its row block
        end    = Signal()                   # this beat is the last of its row block
        next_end = Signal()
        take   = Signal()
        weight = ~digit[2:].any()

        m.d.comb += [
            take.eq(self.words.valid & self.words.ready & self.running),
            next_end.eq(end),
            self.block_end.eq(take & end),
            self.beat.valid.eq(take),
            self.beat.weight.eq(weight),
            self.beat.first.eq(digit == 0),
            self.beat.scale_start.eq(digit == _SCALE_START),
            self.beat.scale_last.eq(digit == _SCALE_LAST),
            self.beat.group_first.eq(first),
        ]
        # Steps are two cycles late, which is early enough: a chunk has at least 16 beats.
        next_chunk, next_group, next_block = (Signal(name=f"next_{name}")
                                              for name in ("chunk", "group", "block"))
        m.d.sync += [next_chunk.eq(0), next_group.eq(take & self.beat.scale_last),
                     next_block.eq(take & end)]
        last_block = Signal()
        whole      = Signal()               # this chunk is the last of its group
        m.d.sync += [
            self.beat.group_last.eq(chunk == job.chunk_last),
            whole.eq((length == job.length_last) | (chunk == job.chunk_last)),
            last_block.eq(block == job.block_last),
        ]

        with m.If(next_chunk):
            m.d.sync += [chunk.eq(chunk + 1), length.eq(length + 1)]
        with m.If(next_group):
            m.d.sync += [chunk.eq(chunk + 1), length.eq(0), first.eq(0)]
        with m.If(next_block):
            m.d.sync += [chunk.eq(0), block.eq(block + 1), first.eq(1)]

        # Ready is registered because of its high fan-out.
        m.d.sync += [
            end.eq(next_end),
            self.words.ready.eq(~self.running | ~next_end | self.credit),
        ]

        with m.If(take):
            m.d.comb += next_end.eq((digit == _SCALE_LAST - 1) & self.beat.group_last)
            m.d.sync += digit.eq(digit + 1)     # from the last scale beat to 0
            with m.If(digit == job.digit_last):
                m.d.sync += [digit.eq(0), place.eq(place + 1)]
                with m.If(place == GROUP - 1):
                    with m.If(whole):
                        m.d.sync += digit.eq(Mux(job.direct, _DIRECT, _CODED))
                    with m.Else():
                        m.d.sync += next_chunk.eq(1)
            # A payload that is too short or too long also ends the run, as not complete.
            with m.If(self.words.p.last | (end & last_block)):
                m.d.sync += self.running.eq(0)
                m.d.sync += self.gemv.complete.eq(self.words.p.last & end & last_block)

        with m.If(self.gemv.start):
            m.d.sync += [
                digit.eq(0), place.eq(0), chunk.eq(0), length.eq(0), block.eq(0), first.eq(1),
                end.eq(0), self.running.eq(1), self.gemv.complete.eq(0),
            ]

        return m
