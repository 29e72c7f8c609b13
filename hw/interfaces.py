"""Layouts and signatures of the connections between the rooms of the device."""

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
from tritstream.hw.protocol import BLOCK_BITS, LENGTH_BITS

__all__ = [
    "CODE_BITS", "SKEW", "SLOTS", "ActivationRows", "Activations", "AnswerHeader", "AnswerWord",
    "BankRequest", "Beat", "FoundHeader", "GemvFields", "GemvRun", "Header", "Job", "MantissaPort",
    "MantissaRead", "MantissaWrite", "Payload", "RowSums", "Slot", "Trit",
]

#: Delay in cycles of each row against the row before it.
SKEW  = SCALE_TRITS
#: Time slots per group in which five rows of three lanes hand over their sums, one per cycle.
SLOTS = ROWS * SKEW
#: Bits of a scale code on wires: three trits of two bits each, not a binary number.
CODE_BITS = 2 * SCALE_TRITS

#: Fields of arg0 and arg1 of a GEMV, as in :class:`.GemvArguments`.
GemvFields = StructLayout({
    "depth":       8,
    "chunks":      16,
    "columns":     8,
    "blocks":      BLOCK_BITS,
    "length_last": LENGTH_BITS,
    "direct":      1,
})

#: Header of a request frame without its CRC, fields in wire order.
Header = StructLayout({
    "magic":    16,
    "opcode":   8,
    "sequence": 8,
    "arg0":     32,
    "arg1":     32,
    "length":   32,
})

#: Request header or, if ``out_of_sync`` is set, a notice that unrecognized words were dropped.
FoundHeader = StructLayout({"header": Header, "out_of_sync": 1})

#: Header of a response frame without magic and CRC, fields in wire order.
AnswerHeader = StructLayout({"opcode": 8, "sequence": 8, "arg0": 32, "arg1": 32, "length": 32})

#: Sizes of a GEMV request. Each field but ``direct`` is a count minus one. A chunk is 16 columns.
Job = StructLayout({
    "digit_last":  2,                   # depth - 1
    "chunk_last":  range(MAX_K // GROUP),
    "length_last": LENGTH_BITS,         # chunks per group
    "block_last":  BLOCK_BITS,
    "direct":      1,                   # scale words hold mantissas, not codes
})

#: Balanced trit on wires. As a digit of a scale code its value is ``nonzero + negative``.
Trit = StructLayout({"nonzero": 1, "negative": 1})

#: Control signals that accompany the bytes of a word through the datapath.
Beat = StructLayout({
    "valid":       1,
    "weight":      1,  # the beat holds digits of weights, not scales
    "first":       1,  # lowest digit of the weights: take a new activation
    "scale_start": 1,  # first of the last three scale beats: the time slots begin
    "scale_last":  1,  # last scale beat
    "group_first": 1,  # the beat belongs to the first group of a row block
    "group_last":  1,  # the beat belongs to the last group of a row block
})

#: One of the 15 time slots per group of a scale unit: one slot per row and lane.
Slot = StructLayout({
    "valid": 1,
    "index": range(SLOTS),  # 3 * row + lane
    "first": 1,             # first group of a row block: the row sum starts at zero
    "last":  1,             # last group of a row block: the row sum is complete
})

#: Write port of the mantissa tables: ``mantissa`` is the scale of ``code``.
MantissaPort = StructLayout({"en": 1, "code": CODE_BITS, "mantissa": MANTISSA_BITS})

#: What the mantissa memories of all units write: ``mantissa`` if ``load`` is set, otherwise bytes
#: of the current word. ``step`` is set in the last cycle of the word.
MantissaWrite = StructLayout({
    "en": 1, "load": 1, "address": CODE_BITS, "mantissa": MANTISSA_BITS, "step": 1})

#: What the mantissa memories of all units read if mantissas are direct: zero otherwise. ``second``
#: selects a row of the pair at ``address``, one cycle later.
MantissaRead = StructLayout({"address": CODE_BITS, "second": 1})


def Payload(lanes: int) -> Layout:
    """Return the layout of a payload word of a request; ``last`` marks the last word."""
    return StructLayout({"data": 8 * lanes, "last": 1})


def AnswerWord(lanes: int) -> Layout:
    """Return the layout of a word of a response; ``last`` marks the last word of a frame."""
    return StructLayout({"data": 8 * lanes, "last": 1})


def BankRequest(columns: int) -> Layout:
    """Return the layout of a request to read one column of a result bank.

    ``last`` says that no other column of this bank will be read, so that the bank becomes free.
    """
    return StructLayout({"column": range(columns), "last": 1})


#: Command to the sequencer to run a GEMV. ``job`` must be stable while the GEMV runs. ``complete``
#: says that the last GEMV received exactly the number of words that it needs.
GemvRun = Signature({"job": Out(Job), "start": Out(1), "complete": In(1)})


def ActivationRows(row_bytes: int) -> Signature:
    """Return the signature of the write port of the activation memory.

    A row has ``row_bytes`` bytes; ``first`` marks the first row of a column.
    """
    return Signature({"valid": Out(1), "first": Out(1), "data": Out(8 * row_bytes)})


def Activations(columns: int) -> Signature:
    """Return the signature of the read port of the activation memory.

    ``x`` is the current activation of each column. The cycle after ``advance`` has the next one.
    """
    return Signature({"advance": Out(1), "x": In(signed(ACTIVATION_BITS)).array(columns)})


def RowSums(columns: int, places: int, units: int) -> Signature:
    """Return the signature of the row sums of a time slot, in the order of :class:`.UnitMap`."""
    return Signature({
        "slot": Out(Slot),
        "sums": Out(signed(ROW_SUM_BITS)).array(columns, places, units),
    })
