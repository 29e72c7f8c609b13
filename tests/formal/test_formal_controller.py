"""The controller under what the rest of the device grants it."""

import pytest
from amaranth import Mux, Signal
from amaranth.hdl import Assert, Assume
from formal.rules import Obeys

from tritstream.golden.fixed_point import ROWS
from tritstream.hw.config import DeviceConfig
from tritstream.hw.control.controller import Controller, Route
from tritstream.hw.framing.framer import ANSWER_BYTES
from tritstream.hw.protocol import SUM_BYTES, Opcode

pytestmark = pytest.mark.long

CONFIG = DeviceConfig(lanes=2, columns=1, max_k=64)
#: Cycles that the controller needs per request, in addition to the cycles in which it waits.
COST = 12


def contract(m, control):
    """Assume the contract of the other units; return whether a header is valid."""
    full, busy, taken, word, running = (Signal(name=name) for name in (
        "was_full", "was_busy", "was_taken", "was_word", "payload"))
    m.d.sync += [full.eq(control.full), busy.eq(control.busy), taken.eq(_taken(control)),
                 word.eq(control.word)]
    with m.If(control.begin):
        m.d.sync += running.eq(1)
    with m.If(control.frame_status.valid):
        m.d.sync += running.eq(0)
    m.d.comb += [
        # A bank is reserved by a word of a GEMV, and full until its last column is taken.
        Assume(~control.word | running & (control.route == Route.GEMV)
               & ~control.frame_status.valid),
        Assume(~control.busy | busy | word),
        Assume(~control.full | control.busy & (full | busy)),
        Assume(~full | control.full | taken),
    ]
    return _standing_header(m, control)


def _taken(control):
    """Return whether the last column of a bank is taken."""
    return control.results.valid & control.results.ready & control.results.p.last


def _standing_header(m, control):
    """Return whether a header is valid: from its start until its frame status is taken."""
    headers, frame_status = control.headers, control.frame_status
    standing, header = Signal(), Signal.like(headers.p.header.as_value())
    m.d.sync += header.eq(headers.p.header)
    with m.If(headers.valid & headers.ready & ~headers.p.out_of_sync):
        m.d.sync += standing.eq(1)
    with m.If(frame_status.valid & frame_status.ready):
        m.d.sync += standing.eq(0)
    with m.If(standing):
        m.d.comb += [Assume(headers.p.header.as_value() == header), Assume(~headers.valid)]
    with m.Else():
        m.d.comb += Assume(~frame_status.valid)
    return standing


class Answers(Obeys):
    """Specification: the controller responds if it does not have to wait for another unit.

    If the frame status is valid, all banks are free, and the framer is idle and takes requests, the
    controller is active for at most :data:`COST` cycles. A full bank is taken within four cycles
    per column in which framer and banks take the requests.
    """

    def elaborate(self, platform):
        m = super().elaborate(platform)
        control  = self._component
        standing = contract(m, control)
        active, sending = Signal(range(COST + 2)), Signal(range(2 + 4 * CONFIG.columns))
        taking = control.requests.ready & control.results.ready
        m.d.sync += [active.eq(0), sending.eq(0)]
        with m.If(control.active & taking & control.idle & ~control.busy
                  & (control.frame_status.valid | ~standing)):
            m.d.sync += active.eq(active + 1)
        with m.If(control.full & taking & ~_taken(control)):
            m.d.sync += sending.eq(sending + 1)
        m.d.comb += [Assert(active <= COST), Assert(sending <= 4 * CONFIG.columns)]
        return m


class Grants(Obeys):
    """Specification: guarantees of the controller to sequencer, banks and framer.

    A GEMV starts before its words can arrive and while all banks are free, however the last GEMV
    ended. Words reach the sequencer only while its request is stable, and no word reaches it from
    the end of their frame to the next start. A frame that ends early, such as an abandoned one,
    leaves the sequencer waiting. A frame requested from the framer is a RESULT with all sums, or
    has at most :data:`ANSWER_BYTES` in steps of eight.
    """

    def elaborate(self, platform):
        m = super().elaborate(platform)
        control  = self._component
        standing = contract(m, control)
        job, started, request = Signal.like(control.gemv.job.as_value()), Signal(), control.requests
        routed = control.route == Route.GEMV
        m.d.sync += job.eq(control.gemv.job)
        with m.If(control.frame_status.valid & control.frame_status.ready):
            m.d.sync += started.eq(0)
        with m.If(control.gemv.start):
            m.d.sync += started.eq(1)
            m.d.comb += [Assert(~routed), Assert(~control.busy)]
        # Payload is valid only between a header and its frame status: TakesFrames.
        with m.If(routed & standing & ~control.frame_status.valid):
            m.d.comb += [Assert(started), Assert(job == control.gemv.job.as_value())]
        with m.If(request.valid):
            m.d.comb += Assert(Mux(
                request.p.opcode == Opcode.RESULT,
                request.p.length == SUM_BYTES * ROWS * CONFIG.lanes,
                (request.p.length <= ANSWER_BYTES) & (request.p.length[:3] == 0)))
        return m


def answer_before_the_results(m, control):
    with m.If(control.frame_status.valid & control.full):
        m.d.comb += control.requests.p.opcode.eq(0x83)


def withdrawn_when_busy(m, control):
    with m.If(~control.idle):
        m.d.comb += control.requests.valid.eq(0)


def test_controller_holds(demonstrate):
    demonstrate(lambda: Controller(CONFIG), lambda control: Obeys(control, contract),
                [answer_before_the_results, withdrawn_when_busy])


def waits_for_a_load(m, control):
    with m.If(control.route == Route.LOADER):
        m.d.comb += control.frame_status.ready.eq(control.load_word)


def result_never_taken(m, control):
    with m.If(control.headers.p.header.sequence == 0xFF):
        m.d.comb += control.results.p.last.eq(0)


def test_controller_answers(demonstrate):
    demonstrate(lambda: Controller(CONFIG), Answers, [waits_for_a_load, result_never_taken])


def started_with_results_under_way(m, control):
    with m.If(control.busy & control.frame_status.valid):
        m.d.sync += control.gemv.start.eq(1)


def words_for_a_gemv_that_never_started(m, control):
    with m.If(control.begin & ~control.gemv.start):
        m.d.sync += control.route.eq(Route.GEMV)


def job_of_the_next_header(m, control):
    m.d.sync += control.gemv.job.chunk_last.eq(control.headers.p.header.arg1 ^ control.full)


def test_controller_grants(demonstrate):
    demonstrate(lambda: Controller(CONFIG), Grants,
                [started_with_results_under_way, words_for_a_gemv_that_never_started,
                 job_of_the_next_header])
