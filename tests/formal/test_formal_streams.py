"""What a stream offers stands until it is taken, for all time, whatever the other side does."""

import pytest
from amaranth import Signal
from amaranth.hdl import Assume
from formal.rules import KeepsOrder, Obeys

from hw.buffer import StreamBuffer
from hw.config import DeviceConfig
from hw.control import Controller, Route
from hw.deframer import Deframer
from hw.formal import Method
from hw.framer import Framer
from hw.results import ResultBanks

pytestmark = pytest.mark.long


def ready_when_full(m, buffer):
    m.d.sync += buffer.i.ready.eq(1)


def payload_not_held(m, buffer):
    m.d.sync += buffer.o.payload.eq(buffer.i.payload)


def test_stream_buffer_holds(demonstrate):
    demonstrate(lambda: StreamBuffer(16), Obeys, [payload_not_held])


def test_stream_buffer_keeps_order(demonstrate):
    demonstrate(lambda: StreamBuffer(4), KeepsOrder, [ready_when_full, payload_not_held])


def last_while_waiting(m, framer):
    m.d.sync += framer.o.p.last.eq(framer.sums.valid)


@pytest.mark.parametrize("lanes", [1, 8, 64])
def test_framer_holds(demonstrate, lanes):
    demonstrate(lambda: Framer(lanes), Obeys, [last_while_waiting])


def withdrawn_by_a_request(m, banks):
    with m.If(banks.request.valid):
        m.d.comb += banks.sums.valid.eq(0)


def test_result_banks_hold(demonstrate):
    demonstrate(lambda: ResultBanks(2, 2), Obeys, [withdrawn_by_a_request])


def verdict_of_the_word_at_hand(m, deframer):
    m.d.comb += deframer.verdicts.payload.eq(deframer.i.payload[0])


def no_arrival_while_words_come(m, deframer):
    with m.If(deframer.i.valid):
        m.d.comb += deframer.arrivals.valid.eq(0)


def deframer_under_contract(deframer):
    def contract(m):
        m.d.comb += Assume(~(deframer.abandon & deframer.i.valid))
    return Obeys(deframer, contract)


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16, 32, 64])
def test_deframer_holds(demonstrate, lanes):
    demonstrate(lambda: Deframer(lanes), deframer_under_contract,
                [verdict_of_the_word_at_hand, no_arrival_while_words_come], Method.INDUCTION, 6)


def controller_under_contract(control):
    """The rest of the device as the controller sees it."""
    def contract(m):
        full, busy, taken, word, running = (Signal(name=name) for name in (
            "was_full", "was_busy", "was_taken", "was_word", "payload"))
        results = control.results
        m.d.sync += [full.eq(control.full), busy.eq(control.busy), word.eq(control.word),
                     taken.eq(results.valid & results.ready & results.p.last)]
        with m.If(control.begin):
            m.d.sync += running.eq(1)
        with m.If(control.verdicts.valid):
            m.d.sync += running.eq(0)
        m.d.comb += [
            # A bank is reserved by a word of a GEMV, and full until its last column is taken.
            Assume(~control.word | running & (control.route == Route.GEMV)
                   & ~control.verdicts.valid),
            Assume(~control.busy | busy | word),
            Assume(~control.full | control.busy & (full | busy)),
            Assume(~full | control.full | taken),
        ]
        _standing_header(m, control)
    return Obeys(control, contract)


def _standing_header(m, control):
    """A header stands from its arrival until its verdict is taken."""
    arrivals, verdicts = control.arrivals, control.verdicts
    standing, header = Signal(), Signal.like(arrivals.p.header.as_value())
    m.d.sync += header.eq(arrivals.p.header)
    with m.If(arrivals.valid & arrivals.ready & ~arrivals.p.lost):
        m.d.sync += standing.eq(1)
    with m.If(verdicts.valid & verdicts.ready):
        m.d.sync += standing.eq(0)
    with m.If(standing):
        m.d.comb += [Assume(arrivals.p.header.as_value() == header), Assume(~arrivals.valid)]
    with m.Else():
        m.d.comb += Assume(~verdicts.valid)


def answer_before_the_results(m, control):
    with m.If(control.verdicts.valid & control.full):
        m.d.comb += control.requests.p.opcode.eq(0x83)


def withdrawn_when_busy(m, control):
    with m.If(~control.idle):
        m.d.comb += control.requests.valid.eq(0)


def test_controller_holds(demonstrate):
    demonstrate(lambda: Controller(DeviceConfig(2, 1, 64)), controller_under_contract,
                [answer_before_the_results, withdrawn_when_busy])
