"""Controller: carries out one request after another and answers each."""

from amaranth import Module, Mux, Signal
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.tiles import ROWS

from .answers import drive_payload, prepare_answer
from .check import RequestCheck, gemv_arguments
from .counters import Counters
from .deframer import Arrival
from .framer import ANSWER_BYTES, Answer
from .protocol import SUM_BYTES, ErrorCode, Opcode
from .results import BankRequest
from .sequencer import Job

__all__ = ["Controller", "Route"]

_REQUESTS = [code for code in Opcode if code < Opcode.INFO]


class Route(enum.Enum, shape=2):
    """Where payload words go."""

    NOWHERE = 0
    LOADER  = 1
    GEMV    = 2


class Controller(wiring.Component):
    """Takes requests in order, each when the one before it is answered.

    Nothing counts before a good trailer: what a frame loads, resets or reports takes effect
    after it. RESULT frames leave while their GEMV runs.

    Parameters
    ----------
    config : DeviceConfig

    Members
    -------
    arrivals, verdicts
        From :class:`hw.deframer.Deframer`.
    route : :py:`Out(Route)`
        Where the payload of the frame at hand goes.
    word, word_refused, word_missing : :py:`In(1)`
        A GEMV word was taken; was offered but not taken; was wanted but not there.
    load_word : :py:`In(1)`
        A word of a load was offered.
    begin : :py:`Out(1)`
        A payload begins: whatever handles payloads starts anew.
    job, start
        To :class:`hw.sequencer.Sequencer`.
    complete, bad_mantissa : :py:`In(1)`
        The GEMV had exactly its words; SCALES held a mantissa that does not fit.
    column : :py:`Out(range(columns))`
        Column of a load.
    full, busy, results
        Full and reserved banks and the column to send, of :class:`hw.results.ResultBanks`.
    requests, answer, idle
        To :class:`hw.framer.Framer`.
    active, failed : :py:`Out(1)`
        A request is at hand; the last one was refused.
    """

    def __init__(self, config):
        self._config = config
        columns = range(config.columns)
        super().__init__({
            "arrivals":     In(stream.Signature(Arrival)),
            "verdicts":     In(stream.Signature(1)),
            "route":        Out(Route),
            "word":         In(1),
            "word_refused": In(1),
            "word_missing": In(1),
            "load_word":    In(1),
            "begin":        Out(1),
            "job":          Out(Job),
            "start":        Out(1),
            "complete":     In(1),
            "bad_mantissa": In(1),
            "column":       Out(columns),
            "full":         In(1),
            "busy":         In(1),
            "results":      Out(stream.Signature(BankRequest(config.columns))),
            "requests":     Out(stream.Signature(Answer)),
            "answer":       Out(8 * ANSWER_BYTES),
            "idle":         In(1),
            "active":       Out(1),
            "failed":       Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        header = self.arrivals.p.header
        opcode = header.opcode

        # One bit an opcode; the header has stood for some cycles when they count.
        asked = Signal(len(_REQUESTS))
        m.d.sync += [asked[code].eq(opcode == code) for code in _REQUESTS]

        m.submodules.check    = check    = RequestCheck(config)
        m.submodules.counters = counters = Counters()

        error    = Signal(8)
        lost     = Signal()
        reply    = Signal(Answer)       # ends the exchange, unless a RESULT is asked for
        sound    = Signal()             # the trailer was right
        checking = Signal(check.LATENCY)
        gemv     = Signal()             # the frame at hand is a GEMV that is carried out
        load     = Signal()             # or a load
        self._send_results(m, header)
        drained  = ~self.busy & self.idle

        depth, groups, _ = gemv_arguments(header)
        # The header has stood for some cycles when a GEMV starts.
        m.d.sync += [
            self.job.digit_last.eq(depth - 1),
            self.job.group_last.eq(groups - 1),
            self.job.block_last.eq(header.arg1 - 1),
        ]
        m.d.comb += [
            check.header.eq(header),
            self.column.eq(header.arg0),
            # To the last RESULT: the trailer may come later.
            counters.begin.eq(self.start),
            counters.gemv.eq(gemv & ~(self.complete & drained)),
            counters.word.eq(self.word),
            counters.refused.eq(self.word_refused),
            counters.missing.eq(self.word_missing),
            counters.error.eq(error),
        ]
        m.d.sync += check.begin_load.eq((self.route == Route.LOADER) & self.load_word)

        with m.If(counters.good | counters.bad):
            m.d.sync += self.failed.eq(counters.bad)

        # From registers: they reach far.
        m.d.sync += [self.begin.eq(0), self.start.eq(0)]
        concluded = (counters.good, counters.bad, counters.reset, check.end_load, check.forget)
        m.d.sync += [pulse.eq(0) for pulse in concluded]
        with m.FSM() as fsm:
            m.d.comb += self.active.eq(~fsm.ongoing("Idle"))
            with m.State("Idle"):
                m.d.sync += [checking.eq(1), gemv.eq(0), lost.eq(0)]
                m.d.sync += self.route.eq(Route.NOWHERE)
                with m.If(self.arrivals.valid):
                    m.next = "Check"
                    with m.If(self.arrivals.p.lost):
                        m.d.sync += [error.eq(ErrorCode.NO_HEADER), lost.eq(1)]
                        m.next = "Lost"

            with m.State("Lost"):
                m.d.comb += self.arrivals.ready.eq(1)
                m.d.sync += counters.bad.eq(1)
                m.next = "Answer"

            with m.State("Check"):
                m.d.sync += checking.eq(checking << 1)
                with m.If(checking[-1]):
                    m.next = "Decide"

            with m.State("Decide"):
                accepted = check.error == 0
                m.d.sync += [
                    error.eq(check.error),
                    gemv.eq(asked[Opcode.GEMV] & accepted),
                    load.eq((asked[Opcode.ACTIVATIONS] | asked[Opcode.SCALES]) & accepted),
                ]
                m.next = "Begin"

            with m.State("Begin"):
                m.d.sync += [self.begin.eq(1), self.start.eq(gemv)]
                m.next = "Open"

            with m.State("Open"):
                m.d.comb += self.arrivals.ready.eq(1)
                m.d.sync += self.route.eq(
                    Mux(gemv, Route.GEMV, Mux(load, Route.LOADER, Route.NOWHERE)))
                m.next = "Payload"

            with m.State("Payload"):
                m.d.sync += sound.eq(self.verdicts.payload)
                with m.If(self.verdicts.valid):
                    m.next = "Judge"

            with m.State("Judge"):
                with m.If(gemv & ~self.complete):
                    m.d.sync += error.eq(ErrorCode.LENGTH)
                with m.If(load & asked[Opcode.SCALES] & self.bad_mantissa):
                    m.d.sync += error.eq(ErrorCode.SIZE)
                with m.If(~sound):
                    m.d.sync += error.eq(ErrorCode.TRAILER)
                m.next = "Drain"

            with m.State("Drain"):
                with m.If(~gemv | drained):
                    m.next = "Conclude"

            with m.State("Conclude"):
                good = error == 0
                m.d.sync += [
                    counters.good.eq(good),
                    counters.bad.eq(~good),
                    check.end_load.eq(good & load),
                    check.forget.eq(good & asked[Opcode.RESET]),
                    counters.reset.eq(good & asked[Opcode.RESET]),
                ]
                m.d.sync += gemv.eq(0)
                m.next = "Answer"

            with m.State("Answer"):
                m.d.comb += [self.requests.valid.eq(1), self.requests.payload.eq(reply)]
                with m.If(self.requests.ready):
                    m.next = "Sent"

            with m.State("Sent"):
                # The answer's payload is held until it has left.
                with m.If(self.idle):
                    with m.If(~lost):
                        m.d.comb += self.verdicts.ready.eq(1)
                    m.next = "Idle"

        prepare_answer(m, reply, config, header, asked, error, lost)
        payload = Signal.like(self.answer, reset_less=True)
        drive_payload(m, payload, config, asked, counters)
        m.d.comb += self.answer.eq(payload)
        return m

    def _send_results(self, m, header):
        """Send a RESULT for each column of each full bank, oldest first."""
        _, _, columns = gemv_arguments(header)
        block  = Signal(32)
        column = Signal(range(self._config.columns + 1))
        last   = Signal()       # a cycle late, which the request allows
        sums   = SUM_BYTES * ROWS * self._config.lanes
        m.d.sync += last.eq(column == columns - 1)
        with m.If(self.start):
            m.d.sync += block.eq(0)

        with m.FSM(name="results"):
            with m.State("Frame"):
                with m.If(self.full):
                    m.d.comb += [
                        self.requests.valid.eq(1),
                        self.requests.p.opcode.eq(Opcode.RESULT),
                        self.requests.p.sequence.eq(header.sequence),
                        self.requests.p.arg0.eq(block),
                        self.requests.p.arg1.eq(column),
                        self.requests.p.length.eq(sums),
                    ]
                    with m.If(self.requests.ready):
                        m.next = "Sums"

            with m.State("Sums"):
                m.d.comb += [
                    self.results.valid.eq(1),
                    self.results.p.column.eq(column),
                    self.results.p.last.eq(last),
                ]
                with m.If(self.results.ready):
                    m.d.sync += column.eq(column + 1)
                    with m.If(last):
                        m.d.sync += [block.eq(block + 1), column.eq(0)]
                    m.next = "Frame"
