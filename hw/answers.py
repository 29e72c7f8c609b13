"""Answers of the controller: their headers, and the payloads that are not sums."""

from amaranth import Cat, Const, Mux

from .protocol import (
    COUNTER_FIELDS,
    DONE_FIELDS,
    INFO_FIELDS,
    SUM_BYTES,
    VERSION,
    Opcode,
)

__all__ = ["drive_payload", "request_answer"]


def request_answer(m, requests, config, header, error, lost):
    """Ask the framer for the frame that ends an exchange.

    Parameters
    ----------
    requests : stream of :data:`hw.framer.Answer`
    config : DeviceConfig
    header : :data:`hw.deframer.Header` of the request
    error : 0, or the code to refuse with
    lost : there was no request, but a hunt
    """
    answer = requests.p
    m.d.comb += [requests.valid.eq(1), answer.sequence.eq(Mux(lost, 0, header.sequence))]
    with m.If(error != 0):
        m.d.comb += [
            answer.opcode.eq(Opcode.ERROR),
            answer.arg0.eq(error),
            answer.arg1.eq(Mux(lost, 0, header.opcode)),
        ]
    with m.Else():
        with m.Switch(header.opcode):
            with m.Case(Opcode.IDENTIFY):
                m.d.comb += [
                    answer.opcode.eq(Opcode.INFO),
                    answer.arg0.eq(config.lanes),
                    answer.length.eq(4 * len(INFO_FIELDS)),
                ]
            with m.Case(Opcode.GEMV):
                m.d.comb += [
                    answer.opcode.eq(Opcode.DONE),
                    answer.length.eq(SUM_BYTES * len(DONE_FIELDS)),
                ]
            with m.Case(Opcode.STATUS):
                m.d.comb += [
                    answer.opcode.eq(Opcode.COUNTERS),
                    answer.length.eq(SUM_BYTES * len(COUNTER_FIELDS)),
                ]
            with m.Default():
                m.d.comb += answer.opcode.eq(Opcode.ACK)


def drive_payload(m, target, config, opcode, counters):
    """Register the payload of the answer to ``opcode``: INFO, DONE or COUNTERS."""
    info = {
        "version": VERSION, "lanes": config.lanes, "columns": config.columns,
        "max_k": config.max_k, "clock_hz": config.clock_hz, "build_id": config.build_id,
    }

    def pack(values):
        return Cat(Cat(value, Const(0, 8 * SUM_BYTES - len(value))) for value in values)

    with m.Switch(opcode):
        with m.Case(Opcode.IDENTIFY):
            m.d.sync += target.eq(Cat(Const(info[name], 32) for name in INFO_FIELDS))
        with m.Case(Opcode.GEMV):
            m.d.sync += target.eq(pack(counters.done[name] for name in DONE_FIELDS))
        with m.Default():
            m.d.sync += target.eq(pack(counters.status[name] for name in COUNTER_FIELDS))
