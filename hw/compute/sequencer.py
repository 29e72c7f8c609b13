"""Sequencer: counts the words of a GEMV and labels each one as a beat."""

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import GROUP, SCALE_TRITS
from tritstream.hw.interfaces import Beat, GemvRun, Payload

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Counter of the beats of a GEMV: each group has 16 d digit beats, then three scale beats.

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

        digit = Signal(2)                   # digit of a weight or of a scale code
        place = Signal(range(GROUP))
        group = Signal.like(self.gemv.job.group_last)
        block = Signal.like(self.gemv.job.block_last)
        scale = Signal()
        end   = Signal()                    # this beat is the last of its row block
        next_end = Signal()
        take  = Signal()

        m.d.comb += [
            take.eq(self.words.valid & self.words.ready & self.running),
            next_end.eq(end),
            self.block_end.eq(take & end),
            self.beat.valid.eq(take),
            self.beat.weight.eq(~scale),
            self.beat.first.eq(~scale & (digit == 0)),
            self.beat.scale_first.eq(scale & (digit == 0)),
            self.beat.scale_last.eq(scale & (digit == SCALE_TRITS - 1)),
        ]
        # One cycle late, which is early enough: a group has at least 16 beats before the first
        # scale beat.
        last_block = Signal()
        m.d.sync += [
            self.beat.group_first.eq(group == 0),
            self.beat.group_last.eq(group == self.gemv.job.group_last),
            last_block.eq(block == self.gemv.job.block_last),
        ]

        # Ready is registered because of its high fan-out.
        m.d.sync += [
            end.eq(next_end),
            self.words.ready.eq(~self.running | ~next_end | self.credit),
        ]

        with m.If(take):
            m.d.comb += next_end.eq(
                scale & (digit == SCALE_TRITS - 2) & self.beat.group_last)
            m.d.sync += digit.eq(digit + 1)
            with m.If(~scale & (digit == self.gemv.job.digit_last)):
                m.d.sync += [digit.eq(0), place.eq(place + 1), scale.eq(place == GROUP - 1)]
            with m.If(self.beat.scale_last):
                m.d.sync += [digit.eq(0), scale.eq(0), group.eq(group + 1)]
            with m.If(end):
                m.d.sync += [group.eq(0), block.eq(block + 1)]
            # A payload that is too short or too long also ends the run, as not complete.
            with m.If(self.words.p.last | (end & last_block)):
                m.d.sync += self.running.eq(0)
                m.d.sync += self.gemv.complete.eq(self.words.p.last & end & last_block)

        with m.If(self.gemv.start):
            m.d.sync += [
                digit.eq(0), place.eq(0), group.eq(0), block.eq(0), scale.eq(0), end.eq(0),
                self.running.eq(1), self.gemv.complete.eq(0),
            ]

        return m
