"""Sequencer: counts the words of a GEMV and says what each one means."""

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import GROUP, SCALE_TRITS
from tritstream.hw.interfaces import Beat, GemvRun, Payload

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Names the beats of a GEMV: 16 d digits, then three scale beats, for each group.

    Takes a word in every cycle in which it is offered, except that the last beat of a row block
    waits for a free output bank (``credit``, which only ``block_end`` may take away); the beat
    stands at ``beat`` in the same cycle. What comes when nothing runs is thrown away.

    Members
    -------
    gemv : :py:`In(GemvRun)`
        Words are taken from the cycle after ``start`` on, also where a GEMV runs that was cut
        short. ``complete`` counts once ``running`` has fallen.
    words : :py:`In(stream.Signature(Payload(lanes)))`
    credit : :py:`In(1)`
        A bank is free for the block that would end now.
    beat : :py:`Out(Beat)`
    block_end : :py:`Out(1)`
        ``beat`` ends a row block.
    running : :py:`Out(1)`
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

        digit = Signal(2)                   # of a weight, or of a scale code
        place = Signal(range(GROUP))
        group = Signal.like(self.gemv.job.group_last)
        block = Signal.like(self.gemv.job.block_last)
        scale = Signal()
        end   = Signal()                    # this beat ends its row block
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
        # A cycle late, which the 16 beats or more before a scale beat allow.
        last_block = Signal()
        m.d.sync += [
            self.beat.group_first.eq(group == 0),
            self.beat.group_last.eq(group == self.gemv.job.group_last),
            last_block.eq(block == self.gemv.job.block_last),
        ]

        # Ready is a register: much hangs on it.
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
            # A payload that ends early or goes on ends the run as well, as not complete.
            with m.If(self.words.p.last | (end & last_block)):
                m.d.sync += self.running.eq(0)
                m.d.sync += self.gemv.complete.eq(self.words.p.last & end & last_block)

        with m.If(self.gemv.start):
            m.d.sync += [
                digit.eq(0), place.eq(0), group.eq(0), block.eq(0), scale.eq(0), end.eq(0),
                self.running.eq(1), self.gemv.complete.eq(0),
            ]

        return m
