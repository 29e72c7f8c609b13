"""Headers of the responses, and the payloads of INFO, DONE and COUNTERS."""

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

#: Placeholder in a design for a build id that is not known yet. No other constant has this value.
BUILD_ID_PLACEHOLDER = 0x9E3779B9


def prepare_answer(m, answer, config, header, asked, error, lost):
    """Register the header of the response that ends a request.

    Parameters
    ----------
    m : Module
        Module to which the statements are added.
    answer : :data:`tritstream.hw.interfaces.AnswerHeader`
        Register for the header.
    config : DeviceConfig
        Build parameters.
    header : :data:`tritstream.hw.interfaces.Header`
        Header of the request.
    asked : Signal
        Opcode of the request, one bit per opcode.
    error : Signal
        Error code, or 0 if the request succeeded.
    lost : Signal
        Unrecognized words were dropped, so that there is no request.
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
    """Register in ``target`` the payload of INFO, DONE or COUNTERS, as the request needs it.

    See :func:`prepare_answer` for the parameters; ``counters`` is the :class:`.Counters`.
    """
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
