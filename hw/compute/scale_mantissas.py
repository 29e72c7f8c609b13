"""Scale mantissas of a unit: looked up in a table by scale codes, or taken from the scale words."""

from functools import reduce
from operator import or_

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import MANTISSA_BITS, ROWS
from tritstream.hw.interfaces import (
    CODE_BITS,
    SKEW,
    SLOTS,
    Beat,
    MantissaPort,
    MantissaRead,
    MantissaWrite,
    Slot,
)
from tritstream.hw.primitives.cells import BlockRam, PairRam

__all__ = ["MantissaAddresses", "ScaleMantissas", "select_by_slot"]

_BYTE = 8


def select_by_slot(m, values, slots, name):
    """Return the value whose slot was active in the cycle before, or zero without such a slot.

    ``slots`` has one bit per value. Outside its slot, the register of each value is reset to zero
    by the synchronous reset of the flip-flop, which costs no gate. No other reset may be combined
    with it. The result is the OR of all registers.
    """
    held = []
    for index, (value, slot) in enumerate(zip(values, slots, strict=True)):
        register = Signal(len(value), name=f"{name}{index}", reset_less=True)
        with m.If(slot):
            m.d.sync += register.eq(value)
        with m.Else():
            m.d.sync += register.eq(0)
        held.append(register)
    return reduce(or_, held)


def _direct_address(row, odd):
    """Return the address of the word ``2 row + odd`` of direct mantissas in the memory of a unit.

    Codes are the other addresses: no digit of a code is 0b10 on its wires.
    """
    return Cat(row, odd, Const(0b10, 2))


class MantissaAddresses(wiring.Component):
    """Addresses in the mantissa memories of all units, for writing and for direct mantissas.

    Members
    -------
    direct : :py:`In(1)`
        Mantissas are direct. May change only where no slot is valid.
    beat : :py:`In(Beat)`
        Beat of the word whose bytes are written.
    load : :py:`In(MantissaPort)`
        Write port of the mantissa tables.
    slot : :py:`In(Slot)`
        Slot :data:`STAGE` cycles after it was at ``slots[0]`` of :class:`.SlotSequencer`.
    write : :py:`Out(MantissaWrite)`
        Write port of all memories. Scale words are written whether they are codes or mantissas.
    read : :py:`Out(MantissaRead)`
        Read address of all memories if mantissas are direct, one cycle after ``slot``.
    """

    #: Stage of the slots that addresses are made from.
    STAGE = 3

    def __init__(self) -> None:
        super().__init__({
            "direct": In(1),
            "beat":   In(Beat),
            "load":   In(MantissaPort),
            "slot":   In(Slot),
            "write":  Out(MantissaWrite),
            "read":   Out(MantissaRead),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        row = Signal(range(ROWS))
        odd = Signal()
        with m.If(self.beat.weight):
            m.d.sync += [row.eq(0), odd.eq(0)]
        with m.Elif(self.beat.valid):
            m.d.sync += [odd.eq(~odd), row.eq(row + odd)]
        m.d.comb += [
            # What is written before its word is valid, or after the last word, is not used.
            self.write.en.eq(self.load.en | ~self.beat.weight),
            self.write.load.eq(self.load.en),
            self.write.address.eq(Mux(self.load.en, self.load.code, _direct_address(row, odd))),
            self.write.mantissa.eq(self.load.mantissa),
            self.write.step.eq(self.beat.valid),
        ]
        second = Signal()
        with m.Switch(self.slot.index):
            for index in range(SLOTS):
                row_of, turn = divmod(index, SKEW)
                with m.Case(index):
                    m.d.sync += [
                        self.read.address.eq(_direct_address(Const(row_of, len(row)),
                                                             Const(turn > 0, 1))),
                        second.eq(turn == 2),
                    ]
        with m.If(~self.direct):
            m.d.sync += [self.read.address.eq(0), second.eq(0)]
        m.d.sync += self.read.second.eq(second)
        return m


class ScaleMantissas(wiring.Component):
    """Scale mantissas of the 15 rows of one unit, shared by all columns.

    *Coded*: the unit collects three trits from each of its lanes while a row is in its scale beats.
    Then it looks up the three codes in a table, one per cycle.

    *Direct*: the scale words of a group, two per row, hold the mantissas of the unit in one byte of
    each lane. The bytes of three lanes are ``low 0, high 0, low 2`` in the first word of a row and
    ``low 1, high 1, high 2`` in the second. Two lanes have no mantissa 2; one lane has ``low 0``
    and then ``high 0``. So the first two bytes of each word are a mantissa, and the third bytes of
    two words are another. Table and mantissas share a memory.

    The mantissa of slot s is at ``mantissa`` :data:`LATENCY` cycles after that slot was at
    ``slots[0]``.

    Parameters
    ----------
    lanes : int
        Number of lanes that share the unit, 1..3.

    Members
    -------
    onehot : :py:`In(15)`
        Active slot, one bit per slot, from :class:`.SlotSequencer`.
    trits : :py:`In(2).array(lanes, 5)`
        Skewed trits of the lanes.
    bytes : :py:`In(8).array(lanes)`
        Bytes of the current word.
    write, read : :py:`In(MantissaWrite)`, :py:`In(MantissaRead)`
        Addresses, from :class:`MantissaAddresses`.
    direct : :py:`In(1)`
        Mantissas are direct.
    mantissa : :py:`Out(17)`
        Mantissa of a slot.
    """

    #: Cycles from ``slots[0]`` to the mantissa of the slot.
    LATENCY = 5 + BlockRam.LATENCY

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        super().__init__({
            "onehot":   In(SLOTS),
            "trits":    In(2).array(lanes, ROWS),
            "bytes":    In(_BYTE).array(lanes),
            "write":    In(MantissaWrite),
            "read":     In(MantissaRead),
            "direct":   In(1),
            "mantissa": Out(MANTISSA_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        address = self._queue(m, self._codes(m))
        first, second = self._rows(m)
        m.submodules.mantissas = memory = (
            BlockRam if second is None else PairRam)(MANTISSA_BITS, 1 << CODE_BITS)
        m.d.comb += [
            memory.write_en.eq(self.write.en),
            memory.write_addr.eq(self.write.address),
            memory.write_data.eq(first),
            memory.read_en.eq(1),
            memory.read_addr.eq(address),
            self.mantissa.eq(memory.read_data),
        ]
        if second is not None:
            m.d.comb += [
                memory.write_data.eq(Cat(first, second)),
                memory.read_addr.eq(Cat(self.read.second, address)),
            ]
        if self._lanes == 1:    # both words of a row have one address, and the second one counts
            m.d.comb += memory.write_addr[(ROWS - 1).bit_length()].eq(
                self.write.load & self.write.address[(ROWS - 1).bit_length()])
        return m

    def _codes(self, m):
        """Return the code of each lane, complete when the slots of its row have passed."""
        row_slots = [self.onehot[SKEW * row:SKEW * (row + 1)].any() for row in range(ROWS)]
        codes = []
        for lane, rows in enumerate(self.trits):
            code = Signal(CODE_BITS, name=f"code{lane}")
            digit = select_by_slot(m, rows, row_slots, f"digit{lane}")
            m.d.sync += code.eq(Cat(code[2:], digit))
            codes.append(code)
        return codes

    def _queue(self, m, codes):
        """Return the address of each slot: the codes of the lanes in turn, or a direct address."""
        complete = Signal(2)
        m.d.sync += complete.eq(Cat(complete[1:], Cat(*self.onehot[SKEW - 1::SKEW]).any()))
        with m.If(self.direct):
            m.d.sync += complete.eq(0)
        queue = [Signal(CODE_BITS, name=f"queue{lane}") for lane in range(self._lanes)]
        for lane, entry in enumerate(queue):
            # Behind the codes of a row come zeros, so that a direct address is simply added.
            behind = queue[lane + 1] if lane + 1 < self._lanes else 0
            added  = 0 if lane else self.read.address
            m.d.sync += entry.eq(Mux(complete[0], codes[lane], behind) | added)
        return queue[0]

    def _rows(self, m):
        """Return the two halves of the row that is written; the second is None for few lanes."""
        before = Signal(_BYTE)      # the last byte of the word before
        with m.If(self.write.step):
            m.d.sync += before.eq(self.bytes[-1])
        direct = [Cat(self.bytes[0], self.bytes[1])] if self._lanes > 1 else []
        if self._lanes != 2:
            direct.append(Cat(before, self.bytes[-1]))
        first = Signal(MANTISSA_BITS)
        m.d.comb += first.eq(Mux(self.write.load, self.write.mantissa, direct[0]))
        return first, Cat(direct[1], Const(0, 1)) if len(direct) > 1 else None
