"""Layouts and signatures of what passes between the parts of the device."""

from amaranth import signed
from amaranth.lib.data import Layout, StructLayout
from amaranth.lib.wiring import In, Out, Signature

from tritstream.golden.fixed_point import (
    ACTIVATION_BITS,
    GROUP,
    MANTISSA_BITS,
    MAX_K,
    ROW_SUM_BITS,
    ROWS,
    SCALE_TRITS,
)

__all__ = [
    "CODE_BITS", "SKEW", "SLOTS", "ActivationRows", "Activations", "AnswerHeader", "AnswerWord",
    "BankRequest", "Beat", "FoundHeader", "GemvRun", "Header", "Job", "MantissaPort", "Payload",
    "RowSums", "Slot", "Trit",
]

#: Cycles a row runs behind the row before it.
SKEW  = SCALE_TRITS
#: Time slots in which the five rows of three lanes hand over their sums, one a cycle.
SLOTS = ROWS * SKEW
#: Bits of a scale code on wires: three trits of two bits, no arithmetic.
CODE_BITS = 2 * SCALE_TRITS

#: Header of a request frame up to its CRC, in the order of the wire.
Header = StructLayout({
    "magic":    16,
    "opcode":   8,
    "sequence": 8,
    "arg0":     32,
    "arg1":     32,
    "length":   32,
})

#: Request header, or (``out_of_sync``) a notice that words were dropped which are no header.
FoundHeader = StructLayout({"header": Header, "out_of_sync": 1})

#: Header of a frame to send, after its magic, in the order of the wire.
AnswerHeader = StructLayout({"opcode": 8, "sequence": 8, "arg0": 32, "arg1": 32, "length": 32})

#: A GEMV apart from its words; each count is less one.
Job = StructLayout({
    "digit_last": 2,                    # depth - 1
    "group_last": range(MAX_K // GROUP),
    "block_last": 32,
})

#: A balanced trit on a wire. As a digit of a scale code its value is ``nonzero + negative``.
Trit = StructLayout({"nonzero": 1, "negative": 1})

#: What the datapath needs to know of a word in addition to its bytes.
Beat = StructLayout({
    "valid":       1,
    "weight":      1,  # a digit of a weight, not of a scale code
    "first":       1,  # the weight's lowest digit: take a new activation
    "scale_first": 1,  # first of the three scale beats
    "scale_last":  1,  # last of the three scale beats
    "group_first": 1,  # the beat belongs to a row block's first group
    "group_last":  1,
})

#: One of the 15 time slots of a scale unit in a group, one for each row of each lane.
Slot = StructLayout({
    "valid": 1,
    "index": range(SLOTS),  # 3 * row + lane
    "first": 1,             # of a row block's first group: the row sum starts anew
    "last":  1,             # of a row block's last group: the row sum is complete
})

#: Write port of the mantissa tables.
MantissaPort = StructLayout({"en": 1, "code": CODE_BITS, "mantissa": MANTISSA_BITS})


def Payload(lanes: int) -> Layout:
    """Word of a request's payload; ``last`` marks the last one."""
    return StructLayout({"data": 8 * lanes, "last": 1})


def AnswerWord(lanes: int) -> Layout:
    """Word that leaves the device; ``last`` marks the last one of a frame."""
    return StructLayout({"data": 8 * lanes, "last": 1})


def BankRequest(columns: int) -> Layout:
    """Column of a bank, and whether it is the last one wanted from that bank."""
    return StructLayout({"column": range(columns), "last": 1})


#: Request to the sequencer for a GEMV. ``job`` is held while it runs; ``complete`` says that the
#: last GEMV had exactly its words.
GemvRun = Signature({"job": Out(Job), "start": Out(1), "complete": In(1)})


def ActivationRows(row_bytes: int) -> Signature:
    """Rows that are written to the activation memory; ``first`` marks the first one of a column."""
    return Signature({"valid": Out(1), "first": Out(1), "data": Out(8 * row_bytes)})


def Activations(columns: int) -> Signature:
    """Activation ``x`` of each column; after ``advance`` the next one comes in the next cycle."""
    return Signature({"advance": Out(1), "x": In(signed(ACTIVATION_BITS)).array(columns)})


def RowSums(columns: int, places: int, units: int) -> Signature:
    """Row sums of a time slot, in the order of :class:`.UnitMap`."""
    return Signature({
        "slot": Out(Slot),
        "sums": Out(signed(ROW_SUM_BITS)).array(columns, places, units),
    })
