"""Answers of the controller: their headers, and the payloads that are not sums."""

from amaranth import Cat, Const, Mux

from tritstream.hw.protocol import (
    COUNTER_FIELDS,
    DONE_FIELDS,
    INFO_FIELDS,
    SUM_BYTES,
    VERSION,
    Opcode,
)

__all__ = ["BUILD_ID_PLACEHOLDER", "drive_payload", "prepare_answer"]

#: Stands in a design for a build id that is not known yet. No other constant has these 32 bits.
BUILD_ID_PLACEHOLDER = 0x9E3779B9


def prepare_answer(m, answer, config, header, asked, error, lost):
    """Register the header of the frame that ends an exchange.

    Parameters
    ----------
    answer : :data:`tritstream.hw.interfaces.AnswerHeader`
    config : DeviceConfig
    header : :data:`tritstream.hw.interfaces.Header` of the request
    asked : its opcode, one bit each
    error : 0, or the code to refuse with
    lost : there was no request, but a hunt
    """
    m.d.sync += [
        answer.sequence.eq(Mux(lost, 0, header.sequence)),
        answer.arg0.eq(0),
        answer.arg1.eq(0),
        answer.length.eq(0),
    ]
    with m.If(error != 0):
        m.d.sync += [
            answer.opcode.eq(Opcode.ERROR),
            answer.arg0.eq(error),
            answer.arg1.eq(Mux(lost, 0, header.opcode)),
        ]
    with m.Elif(asked[Opcode.IDENTIFY]):
        m.d.sync += [
            answer.opcode.eq(Opcode.INFO),
            answer.arg0.eq(config.lanes),
            answer.length.eq(4 * len(INFO_FIELDS)),
        ]
    with m.Elif(asked[Opcode.GEMV]):
        m.d.sync += [
            answer.opcode.eq(Opcode.DONE),
            answer.length.eq(SUM_BYTES * len(DONE_FIELDS)),
        ]
    with m.Elif(asked[Opcode.STATUS]):
        m.d.sync += [
            answer.opcode.eq(Opcode.COUNTERS),
            answer.length.eq(SUM_BYTES * len(COUNTER_FIELDS)),
        ]
    with m.Else():
        m.d.sync += answer.opcode.eq(Opcode.ACK)


def drive_payload(m, target, config, asked, counters):
    """Register the payload of the answer to what was asked: INFO, DONE or COUNTERS."""
    info = {
        "version": VERSION, "lanes": config.lanes, "columns": config.columns,
        "max_k": config.max_k, "clock_hz": config.clock_hz,
        "build_id": BUILD_ID_PLACEHOLDER if config.build_id is None else config.build_id,
    }

    def pack(values):
        return Cat(Cat(value, Const(0, 8 * SUM_BYTES - len(value))) for value in values)

    with m.If(asked[Opcode.IDENTIFY]):
        m.d.sync += target.eq(Cat(Const(info[name], 32) for name in INFO_FIELDS))
    with m.Elif(asked[Opcode.GEMV]):
        m.d.sync += target.eq(pack(counters.done[name] for name in DONE_FIELDS))
    with m.Else():
        m.d.sync += target.eq(pack(counters.status[name] for name in COUNTER_FIELDS))
