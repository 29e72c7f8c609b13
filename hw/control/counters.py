"""Counters behind DONE and COUNTERS."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Counters"]

#: Wide enough for days at 200 MHz; narrower than the u64 on the wire.
_CYCLE_BITS = 48
_FRAME_BITS = 32


class Counters(wiring.Component):
    """Counts frames and the cycles of a GEMV.

    A GEMV is counted from its first word while ``gemv`` holds; its counts stay until the next
    ``begin``. ``uptime`` is taken when a frame is concluded.

    Members
    -------
    begin, gemv : :py:`In(1)`
        A GEMV begins; is under way.
    word, refused, missing : :py:`In(1)`
        A word was taken, was offered in vain, was wanted in vain.
    good, bad : :py:`In(1)`
        A frame was concluded.
    error : :py:`In(8)`
        Code of a bad frame.
    reset : :py:`In(1)`
    cycles, input_stalls, output_stalls, words, uptime : :py:`Out(48)`
    frames_good, frames_bad : :py:`Out(32)`
    last_error : :py:`Out(8)`
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
    def done(self):
        """Values of DONE's fields by name."""
        return {name: getattr(self, name)
                for name in ("cycles", "input_stalls", "output_stalls", "words")}

    @property
    def status(self):
        """Values of COUNTERS' fields by name."""
        return {"frames_good": self.frames_good, "frames_bad": self.frames_bad,
                "last_error": self.last_error, "cycles": self.uptime}

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # An event counts a cycle late: it may come from far away.
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
