"""Loader: writes the payloads of ACTIVATIONS and SCALES to their memories."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import MANTISSA_BITS, SCALES
from tritstream.hw.compute.activation_memory import MAX_ROW_BYTES
from tritstream.hw.compute.scale_mantissas import select_by_slot
from tritstream.hw.interfaces import CODE_BITS, ActivationRows, MantissaPort, Payload

__all__ = ["Loader"]

_ENTRY_BYTES = 4


class Loader(wiring.Component):
    """Converter of payload words to activation rows or scale mantissas.

    Throughput is one row or mantissa per cycle. A row is written one cycle after its word, a
    mantissa two cycles after its last byte.

    Parameters
    ----------
    lanes : int
        Bytes per word.

    Members
    -------
    restart : :py:`In(1)`
        A new payload starts with the next word.
    loading : :py:`In(1)`
        The next word, if any, belongs to a load. Otherwise ``words.ready`` is set.
    scales : :py:`In(1)`
        Kind of the payload: 27 u32 mantissas if set, otherwise int8 activations.
    words : :py:`In(stream.Signature(Payload(lanes)))`
        Words of the payload.
    rows : :py:`Out(ActivationRows(min(lanes, 8)))`
        Write port of :class:`tritstream.hw.compute.activation_memory.ActivationMemory`.
    mantissa : :py:`Out(MantissaPort)`
        Write port of the mantissa tables.
    bad_mantissa : :py:`Out(1)`
        A mantissa of the current payload has more than 17 bits.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._row   = min(lanes, MAX_ROW_BYTES)
        super().__init__({
            "restart":      In(1),
            "loading":      In(1),
            "scales":       In(1),
            "words":        In(stream.Signature(Payload(lanes))),
            "rows":         Out(ActivationRows(self._row)),
            "mantissa":     Out(MantissaPort),
            "bad_mantissa": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self._lanes

        pieces = max(lanes // self._row, lanes // _ENTRY_BYTES, 1)
        piece  = Signal(range(pieces))      # index of the row or mantissa in this word
        following = Signal.like(piece)
        end    = Signal()                   # last row or mantissa of this word
        first  = Signal()

        m.d.comb += [following.eq(piece), self.words.ready.eq(end)]
        with m.If(self.words.valid):
            m.d.comb += following.eq(Mux(end, 0, piece + 1))
        with m.If(self.restart):
            m.d.comb += following.eq(0)
        last = Mux(self.scales, max(lanes // _ENTRY_BYTES, 1) - 1, lanes // self._row - 1)
        m.d.sync += [
            piece.eq(following),
            # Registered because of the high fan-out of ready.
            end.eq(~self.loading | (following == last)),
            self.rows.valid.eq(self.words.valid & ~self.scales),
            self.rows.first.eq(first),
        ]
        with m.If(self.words.valid):
            m.d.sync += first.eq(0)
        with m.If(self.restart):
            m.d.sync += [first.eq(1), self.bad_mantissa.eq(0)]

        m.d.comb += self.rows.data.eq(self._row_data(m, piece))
        entry, valid = self._entries(m, piece)
        code = self._codes(m, valid)
        m.d.sync += [
            self.mantissa.en.eq(valid),
            self.mantissa.code.eq(code),
            self.mantissa.mantissa.eq(entry),
        ]
        with m.If(valid & entry[MANTISSA_BITS:].any()):
            m.d.sync += self.bad_mantissa.eq(1)

        return m

    def _row_data(self, m, piece):
        """Return the row of the piece, one cycle later than the word."""
        data  = self.words.p.data
        rows  = [data[low:low + 8 * self._row] for low in range(0, len(data), 8 * self._row)]
        # A row of several has two mantissas.
        place = Mux(self.scales, piece[1:], piece)
        slots = [place == row for row in range(len(rows))] if len(rows) > 1 else [Const(1)]
        return select_by_slot(m, rows, slots, "row")

    def _entries(self, m, piece):
        """Return the current u32, and whether it is complete and one of the 27 mantissas.

        Both are one cycle later than the word.
        """
        lanes = self._lanes
        left  = Signal(range(SCALES))       # mantissas after this one
        due   = Signal()
        entry = Signal(8 * _ENTRY_BYTES)
        whole = Signal()
        valid = Signal()
        m.d.comb += valid.eq(whole & due)
        with m.If(self.restart):
            m.d.sync += [left.eq(SCALES - 1), due.eq(1)]
        with m.Elif(whole):
            m.d.sync += left.eq(left - 1)
            with m.If(left == 0):
                m.d.sync += due.eq(0)
        taken = self.words.valid & self.scales
        if lanes >= _ENTRY_BYTES:
            half = Signal(range(self._row // _ENTRY_BYTES))
            m.d.comb += entry.eq(self.rows.data.word_select(half, 8 * _ENTRY_BYTES))
            m.d.sync += [half.eq(piece[:len(half)]), whole.eq(taken)]
        else:
            parts = Signal(range(_ENTRY_BYTES // lanes))
            m.d.sync += whole.eq(taken & (parts == _ENTRY_BYTES // lanes - 1))
            with m.If(self.words.valid):
                m.d.sync += [
                    parts.eq(parts + 1),
                    entry.eq(Cat(entry, self.words.p.data)[-len(entry):]),
                ]
            with m.If(self.restart):
                m.d.sync += parts.eq(0)
        return entry, valid

    def _codes(self, m, step):
        """Count scale codes in their wire format: trits 0, 1, 3 for digits 0, 1, 2."""
        code  = Signal(CODE_BITS)
        carry = step
        for digit in range(0, len(code), 2):
            trit = code[digit:digit + 2]
            with m.If(carry):
                m.d.sync += trit.eq(Cat(~trit[1], trit[0] & ~trit[1]))
            carry = carry & trit[1]
        with m.If(self.restart):
            m.d.sync += code.eq(0)
        return code

