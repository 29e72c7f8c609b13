"""Payloads of streams are stable until they are taken, for any behaviour of the other side."""

import pytest
from formal.rules import KeepsOrder, Obeys

from tritstream.hw.compute.result_banks import ResultBanks
from tritstream.hw.framing.framer import Framer
from tritstream.hw.primitives.stream_buffer import StreamBuffer

pytestmark = pytest.mark.long


def ready_when_full(m, buffer):
    m.d.sync += buffer.i.ready.eq(1)


def payload_not_held(m, buffer):
    m.d.sync += buffer.o.payload.eq(buffer.i.payload)


def test_stream_buffer_holds(demonstrate):
    demonstrate(lambda: StreamBuffer(16), Obeys, [payload_not_held])


def test_stream_buffer_keeps_order(demonstrate):
    # Inputs need not be stable: the IP core and the sealer send their words to such a buffer.
    demonstrate(lambda: StreamBuffer(4), lambda buffer: KeepsOrder(buffer, holding=False),
                [ready_when_full, payload_not_held])


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
