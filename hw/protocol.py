"""Frame protocol: the one table of opcodes, codes and layouts, for gateware, driver and docs.

A frame is header, payload, trailer. Every number is little-endian. A request's three parts are
each padded with zeros to :data:`REQUEST_ALIGN` bytes whatever the lane count is, so that a host
can speak before it knows the word size; an answer's parts are padded to whole words of L bytes.
"""

from enum import IntEnum
from math import ceil

__all__ = [
    "MAGIC", "VERSION", "HEADER_BYTES", "HEADER_CRC_OFFSET", "TRAILER_BYTES", "REQUEST_ALIGN",
    "SUM_BYTES", "BANKS", "BYTE_BITS", "IDLE_BYTES", "INFO_FIELDS", "DONE_FIELDS",
    "COUNTER_FIELDS", "Opcode", "ErrorCode", "idle_bytes",
]

MAGIC             = 0x3354
VERSION           = 1
#: magic u16, opcode u8, sequence u8, arg0 u32, arg1 u32, length u32, header CRC u32
HEADER_BYTES      = 20
#: The header CRC covers the bytes before it.
HEADER_CRC_OFFSET = 16
#: CRC-32 over the padded header and the padded payload.
TRAILER_BYTES     = 4
REQUEST_ALIGN     = 64
#: A row sum travels as int64.
SUM_BYTES         = 8
#: Row blocks whose results a device can hold, so that a GEMV of no more never waits.
BANKS             = 2
#: Bit times of a byte on a serial line, with start and stop bit.
BYTE_BITS         = 10
#: A serial line that is idle for so many byte times, or longer, has a gap: :func:`idle_bytes`.
IDLE_BYTES        = 64

#: Payload of INFO, u32 each.
INFO_FIELDS    = ("version", "lanes", "columns", "max_k", "clock_hz", "build_id")
#: Payload of DONE, u64 each.
DONE_FIELDS    = ("cycles", "input_stalls", "output_stalls", "words")
#: Payload of COUNTERS, u64 each.
COUNTER_FIELDS = ("frames_good", "frames_bad", "last_error", "cycles")


class Opcode(IntEnum):
    """What a frame asks (below 0x80) or answers (0x80 and above)."""

    IDENTIFY    = 0x00  #: no payload; answered by INFO
    ACTIVATIONS = 0x01  #: arg0 column, arg1 K; payload K int8; answered by ACK
    SCALES      = 0x02  #: payload 27 u32 mantissas; answered by ACK
    GEMV        = 0x03  #: arg0 depth | groups << 8 | columns << 24, arg1 row blocks; RESULTs, DONE
    STATUS      = 0x04  #: no payload; answered by COUNTERS
    RESET       = 0x05  #: no payload; forgets activations, scales, counters; answered by ACK

    INFO        = 0x80  #: arg0 lanes; payload INFO_FIELDS
    ACK         = 0x81  #: no payload
    RESULT      = 0x82  #: arg0 row block, arg1 column; payload 5 L int64 sums in row order
    DONE        = 0x83  #: payload DONE_FIELDS
    COUNTERS    = 0x84  #: payload COUNTER_FIELDS
    ERROR       = 0xFF  #: arg0 ErrorCode, arg1 opcode of the refused frame (0 for NO_HEADER)


class ErrorCode(IntEnum):
    """Why a frame was refused; TRAILER outranks the others."""

    NO_HEADER  = 1  #: words that are no header where a header was due; sequence is 0
    OPCODE     = 2  #: unknown opcode
    LENGTH     = 3  #: payload length does not agree with opcode and arguments
    DEPTH      = 4  #: depth outside 1..4
    SIZE       = 5  #: K, groups, columns or blocks zero or too large, K not 16 groups, mantissa
    TRAILER    = 6  #: CRC of the trailer is wrong
    NOT_LOADED = 7  #: GEMV before activations of a used column, or before scales


def idle_bytes(baud):
    """Byte times of silence that make a gap on a real line: at least 64, at least 20 ms.

    A host that is late by a few USB frames of 1 ms each, in the middle of a frame of ours, must
    not lose it: at 3 Mbaud, 64 byte times are 0.2 ms.
    """
    return max(IDLE_BYTES, ceil(0.02 * baud / BYTE_BITS))
