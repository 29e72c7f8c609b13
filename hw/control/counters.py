"""Counters that DONE and COUNTERS report."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Counters"]

#: Enough for 16 days at 200 MHz. Frames carry them as u64.
_CYCLE_BITS = 48
_FRAME_BITS = 32


class Counters(wiring.Component):
    """Counters of frames, and of the cycles of a GEMV.

    The cycles of a GEMV are counted from its first word on, while ``gemv`` is set. The counts are
    kept until the next ``begin``. ``uptime`` is sampled when a frame is concluded.

    Members
    -------
    begin, gemv : :py:`In(1)`
        A GEMV starts; a GEMV runs.
    word, refused, missing : :py:`In(1)`
        A word was taken; was offered but not taken; was expected but not offered.
    good, bad : :py:`In(1)`
        A frame was concluded without or with an error.
    error : :py:`In(8)`
        Error code of a bad frame.
    reset : :py:`In(1)`
        Clear the frame counters, the last error and the uptime.
    cycles, input_stalls, output_stalls, words : :py:`Out(48)`
        Cycles of the last GEMV, its cycles without an input word, its cycles in which a word was
        not taken, and its words.
    uptime : :py:`Out(48)`
        Cycles since the reset, at the end of the last frame.
    frames_good, frames_bad : :py:`Out(32)`
        Frames since the reset.
    last_error : :py:`Out(8)`
        Error code of the last bad frame.
    """

    def __init__(self) -> None:
        super().__init__({
            "begin":         In(1),
            "gemv":          In(1),
            "word":          In(1),
            "refused":       In(1),
            "missing":       In(1),
            "good":          In(1),
            "bad":           In(1),
            "error":         In(8),
            "reset":         In(1),
            "cycles":        Out(_CYCLE_BITS),
            "input_stalls":  Out(_CYCLE_BITS),
            "output_stalls": Out(_CYCLE_BITS),
            "words":         Out(_CYCLE_BITS),
            "uptime":        Out(_CYCLE_BITS),
            "frames_good":   Out(_FRAME_BITS),
            "frames_bad":    Out(_FRAME_BITS),
            "last_error":    Out(8),
        })

    @property
    def done(self) -> dict[str, Signal]:
        """Values of the fields of DONE by name."""
        return {name: getattr(self, name)
                for name in ("cycles", "input_stalls", "output_stalls", "words")}

    @property
    def status(self) -> dict[str, Signal]:
        """Values of the fields of COUNTERS by name."""
        return {"frames_good": self.frames_good, "frames_bad": self.frames_bad,
                "last_error": self.last_error, "cycles": self.uptime}

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # Events are registered before they are counted, because their sources may be far away.
        started = Signal()
        events  = [
            (self.cycles,        self.gemv & (started | self.word)),
            (self.input_stalls,  self.gemv & started & self.missing),
            (self.output_stalls, self.gemv & self.refused),
            (self.words,         self.word),
        ]
        with m.If(self.word):
            m.d.sync += started.eq(1)
        for counter, event in events:
            seen = Signal(name=f"{counter.name}_event")
            m.d.sync += seen.eq(event)
            with m.If(seen):
                m.d.sync += counter.eq(counter + 1)
            with m.If(self.begin):
                m.d.sync += counter.eq(0)
        with m.If(self.begin):
            m.d.sync += started.eq(0)

        now = Signal(_CYCLE_BITS)
        m.d.sync += now.eq(now + 1)
        with m.If(self.good):
            m.d.sync += self.frames_good.eq(self.frames_good + 1)
        with m.If(self.bad):
            m.d.sync += [
                self.frames_bad.eq(self.frames_bad + 1),
                self.last_error.eq(self.error),
            ]
        with m.If(self.good | self.bad):
            m.d.sync += self.uptime.eq(now)
        with m.If(self.reset):
            m.d.sync += [now.eq(0), self.frames_good.eq(0), self.frames_bad.eq(0),
                         self.last_error.eq(0)]

        return m
