"""Trit unpacker: decodes ASTC trit blocks to balanced trits, all lanes in parallel."""

from amaranth import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import ROWS

__all__ = ["TritUnpacker"]

_BYTE = 8


class TritUnpacker(wiring.Component):
    """Trit block decoder for one word.

    Combinational, 15 LUT4 per lane. The reference model is :func:`tritstream.golden.trit.decode`.
    Equations: Khronos Data Format Specification, ASTC integer sequence encoding of trits.

    The decoder works on *bit planes*: bit l of a plane belongs to lane l. On silicon this changes
    only names. In a compiled simulation one operation serves all lanes.

    Parameters
    ----------
    lanes : int
        Bytes per word.

    Members
    -------
    packed : :py:`In(8 * lanes)`
        One trit block per lane, lane 0 in the low bits.
    nonzero, negative : :py:`Out(lanes).array(5)`
        Fields of the :data:`.Trit` of each lane, for each of the five rows in a byte.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        super().__init__({
            "packed":   In(_BYTE * lanes),
            "nonzero":  Out(lanes).array(ROWS),
            "negative": Out(lanes).array(ROWS),
        })

    @property
    def lanes(self) -> int:
        """Bytes per word."""
        return self._lanes

    def elaborate(self, platform: object) -> Module:
        m = Module()

        def plane(value, name):
            signal = Signal(self._lanes, name=name)
            m.d.comb += signal.eq(value)
            return signal

        t = [plane(value, f"t{bit}") for bit, value in enumerate(_planes(m, self.packed))]

        # Digits 3 and 4. If both are 2, their bits encode a part of digits 0 to 2.
        both = plane(t[2] & t[3] & t[4], "both")
        two4 = plane(t[5] & t[6] & ~both, "two4")
        hi4, lo4 = both | two4, t[7] & ~(both | two4)
        # When D4 is 2, D3 is the single bit T[7]; otherwise it is T[6:5].
        hi3 = both | (t[6] & ~two4)
        lo3 = ~both & ((two4 & t[7]) | (t[5] & ~two4))

        c = [
            t[0],
            t[1],
            plane((both & t[5]) | (~both & t[2]), "c2"),
            plane((both & t[6]) | (~both & t[3]), "c3"),
            plane((both & t[7]) | (~both & t[4]), "c4"),
        ]
        low  = plane(c[0] & c[1], "low")
        high = plane(c[2] & c[3] & ~low, "high")
        none = plane(~low & ~high, "none")
        hi2, lo2 = low | high, none & c[4]
        hi1, lo1 = high | (none & c[3]), (low & c[4]) | (none & c[2])
        hi0 = (low & c[3]) | (~low & c[1])
        lo0 = (low & c[2] & ~c[3]) | (high & c[0]) | (none & c[0] & ~c[1])

        # Digit 1 means +1 and digit 2 means -1.
        pairs = [(hi0, lo0), (hi1, lo1), (hi2, lo2), (hi3, lo3), (hi4, lo4)]
        for row, (hi, lo) in enumerate(pairs):
            m.d.comb += [self.nonzero[row].eq(hi | lo), self.negative[row].eq(hi)]

        return m


def _planes(m, packed):
    """Return the eight bit planes of a word; plane b holds bit b of each byte."""
    size = _BYTE * min(_BYTE, len(packed) // _BYTE)
    parts = [_transposed(m, packed[low:low + size]) for low in range(0, len(packed), size)]
    return [Cat(part[bit] for part in parts) for bit in range(_BYTE)]


def _transposed(m, block):
    """Return the bit planes of up to eight bytes."""
    if len(block) < _BYTE ** 2:
        return [block[bit::_BYTE] for bit in range(_BYTE)]
    # Only wires on silicon. In a compiled simulation, three exchanges of masked bits take fewer
    # operations than 64 single bits.
    for step in (1, 2, 4):
        stay, up = _masks(step)
        shift = (_BYTE - 1) * step
        later = Signal(_BYTE ** 2, name=f"exchanged{step}")
        m.d.comb += later.eq((block & stay) | ((block & up) << shift) | (block >> shift & up))
        block = later
    return [block.word_select(bit, _BYTE) for bit in range(_BYTE)]


def _masks(step):
    """Return two masks for one step of the transposition of an 8 by 8 bit matrix.

    The first holds the bits that stay. The second holds the bits that move up: their row number
    increases by ``step`` and their column number decreases by ``step``.
    """
    bits = [(row, column) for row in range(_BYTE) for column in range(_BYTE)]
    stay = sum(1 << _BYTE * row + column for row, column in bits
               if bool(row & step) == bool(column & step))
    up   = sum(1 << _BYTE * row + column for row, column in bits
               if not row & step and column & step)
    return Const(stay, _BYTE ** 2), Const(up, _BYTE ** 2)
