"""Frame protocol: opcodes, error codes and layouts shared by gateware, driver and docs.

A frame consists of header, payload and trailer. All numbers are little-endian. Each of the three
parts of a request is padded with zeros to a multiple of :data:`REQUEST_ALIGN` bytes. This holds for
every lane count, so a host can send requests before it knows the word size. Each part of a response
is padded to complete words of L bytes.
"""

from enum import IntEnum
from math import ceil

__all__ = [
    "BANKS",
    "BYTE_BITS",
    "COUNTER_FIELDS",
    "DONE_FIELDS",
    "HEADER_BYTES",
    "HEADER_CRC_OFFSET",
    "IDLE_BYTES",
    "INFO_FIELDS",
    "MAGIC",
    "REQUEST_ALIGN",
    "SUM_BYTES",
    "TRAILER_BYTES",
    "VERSION",
    "ErrorCode",
    "Opcode",
    "idle_bytes",
    "word_count",
]

MAGIC             = 0x3354
VERSION           = 1
#: Fields: magic u16, opcode u8, sequence u8, arg0 u32, arg1 u32, length u32, header CRC u32.
HEADER_BYTES      = 20
#: The header CRC covers the bytes before it.
HEADER_CRC_OFFSET = 16
#: The trailer is the CRC-32 of the padded header and the padded payload.
TRAILER_BYTES     = 4
REQUEST_ALIGN     = 64
#: A row sum is transmitted as int64.
SUM_BYTES         = 8
#: Row blocks whose results a device can hold. A GEMV with at most so many never has to wait.
BANKS             = 2
#: Bit times per byte on a serial line, with start and stop bit.
BYTE_BITS         = 10
#: Shortest silence, in byte times, that counts as a gap on a serial line: :func:`idle_bytes`.
IDLE_BYTES        = 64

#: Fields of the payload of INFO, u32 each.
INFO_FIELDS    = ("version", "lanes", "columns", "max_k", "clock_hz", "build_id")
#: Fields of the payload of DONE, u64 each.
DONE_FIELDS    = ("cycles", "input_stalls", "output_stalls", "words")
#: Fields of the payload of COUNTERS, u64 each.
COUNTER_FIELDS = ("frames_good", "frames_bad", "last_error", "cycles")


class Opcode(IntEnum):
    """Kind of a frame: requests are below 0x80, responses are 0x80 and above."""

    IDENTIFY    = 0x00  #: no payload; response INFO
    ACTIVATIONS = 0x01  #: arg0 column, arg1 K; payload K int8; response ACK
    SCALES      = 0x02  #: payload 27 u32 mantissas; response ACK
    GEMV        = 0x03  #: arg0 depth | groups << 8 | columns << 24, arg1 row blocks; RESULTs, DONE
    STATUS      = 0x04  #: no payload; response COUNTERS
    RESET       = 0x05  #: no payload; clears activations, scales and counters; response ACK

    INFO        = 0x80  #: arg0 lanes; payload INFO_FIELDS
    ACK         = 0x81  #: no payload
    RESULT      = 0x82  #: arg0 row block, arg1 column; payload 5 L int64 sums in row order
    DONE        = 0x83  #: payload DONE_FIELDS
    COUNTERS    = 0x84  #: payload COUNTER_FIELDS
    ERROR       = 0xFF  #: arg0 ErrorCode, arg1 opcode of the refused frame (0 for NO_HEADER)


class ErrorCode(IntEnum):
    """Reason why a frame was refused. TRAILER takes precedence over all others."""

    NO_HEADER  = 1  #: words that are no header where a header was expected; sequence is 0
    OPCODE     = 2  #: unknown opcode
    LENGTH     = 3  #: payload length does not match opcode and arguments
    DEPTH      = 4  #: depth outside 1..4
    SIZE       = 5  #: K, groups, columns or blocks zero or too large, K not 16 groups, mantissa
    TRAILER    = 6  #: the CRC in the trailer is wrong
    NOT_LOADED = 7  #: GEMV before activations of a used column, or before scales


def idle_bytes(baud: int) -> int:
    """Return the silence, in byte times, that counts as a gap on a line of ``baud`` bit/s.

    The silence lasts at least 64 byte times and at least 20 ms. At 3 Mbaud, 64 byte times are only
    0.2 ms, but a host may pause for a few USB frames of 1 ms each in the middle of a request, and
    that request must not be lost.
    """
    return max(IDLE_BYTES, ceil(0.02 * baud / BYTE_BITS))


def word_count(size: int, lanes: int) -> int:
    """Return the number of words of ``lanes`` bytes that hold ``size`` bytes."""
    return -(-size // lanes)
