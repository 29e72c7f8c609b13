"""Trit unpacker: ASTC trit blocks to balanced trits, eight lanes at a time."""

from amaranth import Const, Module, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from golden.tiles import ROWS

__all__ = ["Trit", "TritUnpacker", "lane_mask"]

#: A balanced trit on a wire. As a digit of a scale code it counts ``nonzero + negative``.
Trit = StructLayout({"nonzero": 1, "negative": 1})


def lane_mask(lanes):
    """Bit 0 of each lane's byte."""
    return sum(1 << 8 * lane for lane in range(lanes))


class TritUnpacker(wiring.Component):
    """Trit block decoder for the bytes of several lanes.

    Combinational; twin of :func:`golden.trit.decode`. Equations: Khronos Data Format
    Specification, ASTC integer sequence encoding of trits; 15 LUT4 a lane.

    The result is kept as *planes*: bits ``8 l`` and ``8 l + 1`` of ``rows[r]`` are the
    :data:`Trit` of digit r of lane l, all other bits are zero. On silicon a plane costs nothing
    (constant bits vanish); in a compiled simulation one 64-bit operation then serves eight lanes.

    Parameters
    ----------
    lanes : int
        Bytes decoded at once.

    Members
    -------
    packed : :py:`In(8 * lanes)`
        One trit block a lane, lane 0 in the low bits.
    rows : :py:`Out(8 * lanes).array(5)`
        A plane for each of the five rows that share a byte.
    """

    def __init__(self, lanes):
        self._lanes = lanes
        super().__init__({
            "packed": In(8 * lanes),
            "rows":   Out(unsigned(8 * lanes)).array(ROWS),
        })

    @property
    def lanes(self):
        return self._lanes

    def elaborate(self, platform):
        m = Module()

        width = 8 * self._lanes
        mask  = Const(lane_mask(self._lanes), width)

        def plane(value, name):
            signal = Signal(width, name=name)
            m.d.comb += signal.eq(value)
            return signal

        t = [plane(self.packed[bit:] & mask, f"t{bit}") for bit in range(8)]

        # Digits 3 and 4, and whether both are 2 and lend their bits to the first three.
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
        none = plane(mask & ~low & ~high, "none")
        hi2, lo2 = low | high, none & c[4]
        hi1, lo1 = high | (none & c[3]), (low & c[4]) | (none & c[2])
        hi0 = (low & c[3]) | (~low & c[1])
        lo0 = (low & c[2] & ~c[3]) | (high & c[0]) | (none & c[0] & ~c[1])

        # Digit 1 is +1 and digit 2 is -1: no arithmetic.
        pairs = [(hi0, lo0), (hi1, lo1), (hi2, lo2), (hi3, lo3), (hi4, lo4)]
        for row, (hi, lo) in zip(self.rows, pairs, strict=True):
            m.d.comb += row.eq(((hi | lo) & mask) | ((hi & mask) << 1))

        return m
