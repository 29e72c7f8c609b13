"""What a stream offers stands until it is taken, for all time, whatever the other side does."""

import pytest
from amaranth.hdl import Assume
from formal.rules import Freed, KeepsOrder, Obeys, Opened

from hw.buffer import StreamBuffer
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
    m.d.comb += framer.o.p.last.eq(framer.sums.valid)


@pytest.mark.parametrize("lanes", [1, 8])
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


def around_any_crc(deframer):
    """The deframer, whatever its CRC unit says; nothing is offered to it when it is abandoned."""
    def contract(m, deframer):
        m.d.comb += Assume(~(deframer.abandon & deframer.i.valid))

    Opened(deframer, crc=Freed)
    return Obeys(deframer, contract)


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16, 32, 64])
def test_deframer_holds(demonstrate, lanes):
    demonstrate(lambda: Deframer(lanes), around_any_crc,
                [verdict_of_the_word_at_hand, no_arrival_while_words_come], Method.INDUCTION, 6)
