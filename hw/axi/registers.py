"""Registers of the memory-mapped core: the one source for gateware, driver, headers and docs.

Registers have 32 bits and addresses in bytes. Names that :mod:`tritstream.hw.soc.registers` also
has mean the same there. Indices only increase and wrap around. A descriptor or a restart is
accepted only with the expected number, so a write that is repeated has no effect.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

__all__ = ["BANK", "CHANNEL", "GLOBAL", "MAGIC", "Code", "Error", "Refusal", "Register", "Status",
           "register"]

#: Bytes between the banks of registers: bank 0 is global, bank 1 + c belongs to channel c.
BANK = 0x400
#: Value of the first register of every bank.
MAGIC = 0x3158_5354     # "TSX1"


class Code(IntEnum):
    """Number with a description, ``text``."""

    text: str

    def __new__(cls, value: int, text: str) -> Self:
        member = int.__new__(cls, value)
        member._value_, member.text = value, text
        return member


class Error(Code):
    """Error that halts a channel until its next restart."""

    NONE         = 0, "no error"
    SIZES        = 1, "memory is empty, or ring is no power of two from 4096 bytes on"
    READ_SLVERR  = 2, "SLVERR answered a read"
    READ_DECERR  = 3, "DECERR answered a read"
    READ_BROKEN  = 4, "EXOKAY answered a read, or RLAST came at a wrong beat"
    WRITE_SLVERR = 5, "SLVERR answered a write"
    WRITE_DECERR = 6, "DECERR answered a write"
    WRITE_BROKEN = 7, "EXOKAY answered a write"


class Refusal(Code):
    """Reason why the last write of ``index`` took no descriptor."""

    NONE    = 0, "the descriptor was taken"
    INDEX   = 1, "index is not tail"
    LENGTH  = 2, "length is 0"
    MEMORY  = 3, "the segment ends outside the memory of the channel"
    FULL    = 4, "too many descriptors wait"
    STOPPED = 5, "before the first restart, during a restart, or after an error"


class Status(Code):
    """Bits of ``status``, and of ``enable``, which selects the causes of the interrupt."""

    READY   = 1, "the channel takes descriptors"
    IDLE    = 2, "no descriptor is left, and nothing has moved for 256 cycles"
    REACHED = 4, "written has reached wake"
    ERROR   = 8, "error is not 0"


@dataclass(frozen=True)
class Register:
    """A register.

    Members
    -------
    name : str
        Name.
    offset : int
        Address in bytes from the start of its bank.
    access : str
        ``r``, ``w`` or ``rw``.
    text : str
        Description.
    low : int
        Number of low bits that are always 0.
    codes : type of Error, Refusal or Status, optional
        Meaning of the values, or of the bits.
    """

    name:   str
    offset: int
    access: str
    text:   str
    low:    int = 0
    codes:  type[Code] | None = None


def _table(*rows: tuple) -> dict[str, Register]:
    return {name: Register(name, 4 * number, *others)
            for number, (name, *others) in enumerate(rows)}


#: Registers of bank 0.
GLOBAL = _table(
    ("magic",    "r", "constant"),
    ("channels", "r", "number of channels"),
    ("pending",  "r", "one bit per channel: the channel requests an interrupt"),
)

#: Registers of the bank of a channel.
CHANNEL = _table(
    ("magic",     "r",  "constant"),
    ("lanes",     "r",  "bytes per word of the engine and per beat of the bus"),
    ("align",     "r",  "alignment of responses, in bytes"),
    ("base_low",  "rw", "address of the memory, low half; effective at a restart", 12),
    ("base_high", "rw", "address of the memory, high half; effective at a restart"),
    ("memory",    "rw", "units of 64 bytes of the memory; effective at a restart"),
    ("ring_low",  "rw", "address of the ring of responses, low half; effective at a restart", 12),
    ("ring_high", "rw", "address of the ring of responses, high half; effective at a restart"),
    ("ring",      "rw", "bytes of the ring, a power of two from 4096 on; effective at a restart"),
    ("session",   "r",  "restarts so far"),
    ("restart",   "w",  "write session + 1: discard descriptors, responses in the ring and the "
                        "state of the engine; other values are ignored"),
    ("address",   "rw", "address of the next descriptor, in units of 64 bytes from the start of "
                        "the memory"),
    ("length",    "rw", "length of the next descriptor, in units of 64 bytes"),
    ("index",     "w",  "write tail: the descriptor is taken, unless refused says why not"),
    ("tail",      "r",  "descriptors taken so far"),
    ("head",      "r",  "descriptors whose words have arrived"),
    ("refused",   "r",  "why the last write of index took no descriptor", 0, Refusal),
    ("written",   "r",  "units of align bytes written into the ring so far"),
    ("take",      "w",  "write a count above taken, at most written: the ring is free up to that "
                        "count"),
    ("taken",     "r",  "units released so far; written after a restart"),
    ("error",     "r",  "error that halted the channel", 0, Error),
    ("status",    "r",  "state of the channel", 0, Status),
    ("enable",    "rw", "bits of status that request an interrupt while they are set", 0, Status),
    ("wake",      "rw", "count of written that sets the bit REACHED of status"),
)


def register(name: str, channel: int | None = None) -> int:
    """Return the address in bytes of a register of a channel, or of the global bank."""
    if channel is None:
        return GLOBAL[name].offset
    return BANK * (1 + channel) + CHANNEL[name].offset
