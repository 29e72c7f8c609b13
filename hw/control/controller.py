"""Controller: executes requests in order and sends a response to each."""

from enum import IntEnum

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import ROWS
from tritstream.hw.config import DeviceConfig
from tritstream.hw.control.answers import drive_payload, prepare_answer
from tritstream.hw.control.counters import Counters
from tritstream.hw.control.request_check import RequestCheck, gemv_arguments
from tritstream.hw.framing.framer import ANSWER_BYTES
from tritstream.hw.interfaces import AnswerHeader, BankRequest, FoundHeader, GemvRun
from tritstream.hw.protocol import BLOCK_BITS, SUM_BYTES, ErrorCode, Opcode

__all__ = ["Controller", "Route"]

_REQUESTS = [code for code in Opcode if code < Opcode.INFO]


class Route(IntEnum):
    """Destination of the payload words."""

    NOWHERE = 0
    LOADER  = 1
    GEMV    = 2


class Controller(wiring.Component):
    """Executes requests in order, each after the response to the previous request was sent.

    A request takes effect only after a correct trailer: loads, resets and reports wait for it. The
    exception are RESULT frames, which leave while their GEMV runs.

    Parameters
    ----------
    config : DeviceConfig
        Build parameters.

    Members
    -------
    headers : :py:`In(stream.Signature(FoundHeader))`
        Request headers of :class:`tritstream.hw.framing.deframer.Deframer`.
    frame_status : :py:`In(stream.Signature(1))`
        Status of each request frame, from the deframer.
    route : :py:`Out(Route)`
        Destination of the payload of the current frame.
    word, word_refused, word_missing : :py:`In(1)`
        A GEMV word was taken; was offered but not taken; was expected but not offered.
    load_word : :py:`In(1)`
        A word of a load was offered.
    loading : :py:`Out(1)`
        The current frame is a load. Stable from two cycles before ``route`` opens.
    begin : :py:`Out(1)`
        A payload starts. Components that handle payloads reset their state.
    gemv : :py:`Out(GemvRun)`
        Command to :class:`tritstream.hw.compute.sequencer.Sequencer`.
    bad_mantissa : :py:`In(1)`
        The payload of SCALES has a mantissa of more than 17 bits.
    column : :py:`Out(range(columns))`
        Column of a load.
    full, busy : :py:`In(1)`
        State of :class:`.ResultBanks`: a bank is full; a bank is in use.
    results : :py:`Out(stream.Signature(BankRequest(columns)))`
        Column of the result banks to send.
    requests : :py:`Out(stream.Signature(AnswerHeader))`
        Header of the next response, for :class:`tritstream.hw.framing.framer.Framer`.
    answer : :py:`Out(256)`
        Payload of a response other than RESULT, stable until ``idle``.
    idle : :py:`In(1)`
        The framer has sent all responses.
    active, failed : :py:`Out(1)`
        A request is being processed; the last request was refused.
    """

    def __init__(self, config: DeviceConfig) -> None:
        self._config = config
        columns = range(config.columns)
        super().__init__({
            "headers":      In(stream.Signature(FoundHeader)),
            "frame_status": In(stream.Signature(1)),
            "route":        Out(Route),
            "word":         In(1),
            "word_refused": In(1),
            "word_missing": In(1),
            "load_word":    In(1),
            "loading":      Out(1),
            "begin":        Out(1),
            "gemv":         Out(GemvRun),
            "bad_mantissa": In(1),
            "column":       Out(columns),
            "full":         In(1),
            "busy":         In(1),
            "results":      Out(stream.Signature(BankRequest(config.columns))),
            "requests":     Out(stream.Signature(AnswerHeader)),
            "answer":       Out(8 * ANSWER_BYTES),
            "idle":         In(1),
            "active":       Out(1),
            "failed":       Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.check    = check    = RequestCheck(self._config)
        m.submodules.counters = counters = Counters()
        r = _Registers(check.LATENCY)
        header = self.headers.p.header
        # One bit per opcode, read only when the header has been stable for some cycles.
        m.d.sync += [r.asked[code].eq(header.opcode == code) for code in _REQUESTS]
        self._send_results(m, header)
        m.d.comb += r.drained.eq(~self.busy & self.idle)
        self._describe_job(m, header)
        self._watch(m, r, check, counters)
        with m.FSM() as fsm:
            m.d.comb += self.active.eq(~fsm.ongoing("Idle"))
            self._await_header(m, r, counters)
            self._check_request(m, r, check)
            self._begin_payload(m, r)
            self._judge(m, r)
            self._conclude(m, r, check, counters)
            self._answer(m, r)
        prepare_answer(m, r.answer, self._config, header, r.asked, r.error, r.out_of_sync)
        payload = Signal.like(self.answer, reset_less=True)
        drive_payload(m, payload, self._config, r.asked, counters)
        m.d.comb += self.answer.eq(payload)
        return m

    def _describe_job(self, m, header):
        fields = gemv_arguments(header)
        # The header has been stable for some cycles when a GEMV starts.
        m.d.sync += [
            self.gemv.job.digit_last.eq(fields.depth - 1),
            self.gemv.job.chunk_last.eq(fields.chunks - 1),
            self.gemv.job.length_last.eq(fields.length_last),
            self.gemv.job.block_last.eq(fields.blocks - 1),
            self.gemv.job.direct.eq(fields.direct),
        ]
        m.d.comb += self.column.eq(header.arg0)

    def _watch(self, m, r, check, counters):
        """Connect the request check and the counters, and end pulses after one cycle."""
        m.d.comb += [
            check.header.eq(self.headers.p.header),
            self.headers.ready.eq(r.takes_header),
            # Counted until the last RESULT has left, since the trailer may come later.
            counters.begin.eq(self.gemv.start),
            counters.gemv.eq(r.runs_gemv & ~(self.gemv.complete & r.drained)),
            counters.word.eq(self.word),
            counters.refused.eq(self.word_refused),
            counters.missing.eq(self.word_missing),
            counters.error.eq(r.error),
        ]
        m.d.sync += check.begin_load.eq((self.route == Route.LOADER) & self.load_word)
        with m.If(counters.good | counters.bad):
            m.d.sync += self.failed.eq(counters.bad)
        # Registered because of their high fan-out.
        m.d.sync += [self.begin.eq(0), self.gemv.start.eq(0), r.takes_header.eq(0)]
        concluded = (counters.good, counters.bad, counters.reset, check.end_load, check.forget)
        m.d.sync += [pulse.eq(0) for pulse in concluded]

    def _await_header(self, m, r, counters):
        with m.State("Idle"):
            m.d.sync += [r.checking.eq(1), r.runs_gemv.eq(0), r.out_of_sync.eq(0)]
            m.d.sync += self.route.eq(Route.NOWHERE)
            with m.If(self.headers.valid):
                m.next = "Check"
                with m.If(self.headers.p.out_of_sync):
                    m.d.sync += [r.error.eq(ErrorCode.NO_HEADER), r.out_of_sync.eq(1),
                                 r.takes_header.eq(1)]
                    m.next = "Out of sync"

        with m.State("Out of sync"):
            m.d.sync += counters.bad.eq(1)
            m.next = "Answer"

    def _check_request(self, m, r, check):
        with m.State("Check"):
            m.d.sync += r.checking.eq(r.checking << 1)
            with m.If(r.checking[-1]):
                m.next = "Decide"

        with m.State("Decide"):
            accepted = check.error == 0
            m.d.sync += [
                r.error.eq(check.error),
                r.runs_gemv.eq(r.asked[Opcode.GEMV] & accepted),
                self.loading.eq((r.asked[Opcode.ACTIVATIONS] | r.asked[Opcode.SCALES]) & accepted),
            ]
            m.next = "Begin"

    def _begin_payload(self, m, r):
        """Reset the handlers of the payload, route the payload, and wait for the frame status."""
        with m.State("Begin"):
            m.d.sync += [self.begin.eq(1), self.gemv.start.eq(r.runs_gemv), r.takes_header.eq(1)]
            m.next = "Open"

        with m.State("Open"):
            m.d.sync += self.route.eq(
                Mux(r.runs_gemv, Route.GEMV, Mux(self.loading, Route.LOADER, Route.NOWHERE)))
            m.next = "Payload"

        with m.State("Payload"):
            m.d.sync += r.crc_ok.eq(self.frame_status.payload)
            with m.If(self.frame_status.valid):
                m.next = "Judge"

    def _judge(self, m, r):
        """Set errors that need the complete frame. A wrong trailer takes precedence."""
        with m.State("Judge"):
            with m.If(r.runs_gemv & ~self.gemv.complete):
                m.d.sync += r.error.eq(ErrorCode.LENGTH)
            with m.If(self.loading & r.asked[Opcode.SCALES] & self.bad_mantissa):
                m.d.sync += r.error.eq(ErrorCode.SIZE)
            with m.If(~r.crc_ok):
                m.d.sync += r.error.eq(ErrorCode.TRAILER)
            m.next = "Drain"

        with m.State("Drain"):
            with m.If(~r.runs_gemv | r.drained):
                m.next = "Conclude"

    def _conclude(self, m, r, check, counters):
        """Let the request take effect, or count it as refused."""
        with m.State("Conclude"):
            good = r.error == 0
            m.d.sync += [
                counters.good.eq(good),
                counters.bad.eq(~good),
                check.end_load.eq(good & self.loading),
                check.forget.eq(good & r.asked[Opcode.RESET]),
                counters.reset.eq(good & r.asked[Opcode.RESET]),
            ]
            m.d.sync += r.runs_gemv.eq(0)
            m.next = "Answer"

    def _answer(self, m, r):
        with m.State("Answer"):
            m.d.comb += [self.requests.valid.eq(1), self.requests.payload.eq(r.answer)]
            with m.If(self.requests.ready):
                m.next = "Sent"

        with m.State("Sent"):
            # The payload of the response must be stable until it has left.
            with m.If(self.idle):
                with m.If(~r.out_of_sync):
                    m.d.comb += self.frame_status.ready.eq(1)
                m.next = "Idle"

    def _send_results(self, m, header):
        """Send a RESULT for each column of each full bank, oldest bank first."""
        columns = gemv_arguments(header).columns
        block  = Signal(BLOCK_BITS)
        column = Signal(range(self._config.columns + 1))
        last   = Signal()       # one cycle late: ``column`` is stable before the request
        sums   = SUM_BYTES * ROWS * self._config.lanes
        m.d.sync += last.eq(column == columns - 1)
        with m.If(self.gemv.start):
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


class _Registers:
    """State of the current request."""

    def __init__(self, check_cycles: int) -> None:
        self.asked       = Signal(len(_REQUESTS))   # opcode, one bit per opcode
        self.error       = Signal(8)
        self.takes_header = Signal()
        self.out_of_sync = Signal()                 # no request: unrecognized words were dropped
        self.answer      = Signal(AnswerHeader)     # header of the last response, after all RESULTs
        self.crc_ok      = Signal()
        self.checking    = Signal(check_cycles)     # one bit per cycle
        self.runs_gemv   = Signal()                 # the request is an accepted GEMV
        self.drained     = Signal()                 # every RESULT has left
