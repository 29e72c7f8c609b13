"""Lane array: unpacker, skew of the five rows, lanes."""

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import GROUP_SUM_BITS, ROWS
from tritstream.hw.compute.lane import Lane
from tritstream.hw.compute.trit_unpacker import TritUnpacker
from tritstream.hw.interfaces import SKEW, Beat

__all__ = ["LaneArray"]


class LaneArray(wiring.Component):
    """L lanes behind one unpacker, fed by a broadcast of the activation.

    Takes one beat a cycle. A digit i of weight j is multiplied by 3^i centrally
    (``m <- 3 m``), so a lane only adds or subtracts what is broadcast.

    **Rows run skewed**: trits and activation of row r are delayed by 3 r cycles. A group sum is
    at rest during the three scale beats of its row, so in each of the 15 cycles after the first
    scale beat one row's sums are at rest: three lanes can hand over their 15 sums to one
    multiplier, one a cycle, with no register to hold them. This needs the scale beats back to
    back, which :class:`tritstream.hw.compute.beat_buffer.BeatBuffer` grants.

    With the first scale beat of a group at cycle t, ``trits[r]`` is scale digit i at cycle
    ``t + 1 + 3 r + i`` and ``sums[..][r]`` is the group sum in cycles ``t + 1 + 3 r + (0, 1, 2)``;
    all of them ``delay`` cycles later with a lane of more latency than one.

    Parameters
    ----------
    lanes, columns : int
    lane : component, optional
        :class:`.Lane`, or one with the same members but for the shape of ``x``, ``FEED``,
        which its ``feed`` makes of a beat, and its own ``LATENCY``.

    Members
    -------
    beat : :py:`In(Beat)`
    word : :py:`In(8 * lanes)`
    x : :py:`In(signed(8)).array(columns)`
        The activation of the beat's weight; counts on a valid ``first`` beat.
    restart : :py:`In(1)`
        Clears all sums; may be given in the cycle before the first beat.
    trits : :py:`Out(2).array(lanes, 5)`
        Skewed trits, for the scale codes.
    sums : :py:`Out(18).array(columns, lanes, 5)`
    """

    def __init__(self, lanes: int, columns: int, lane: type = Lane) -> None:
        self._lanes   = lanes
        self._columns = columns
        self._lane    = lane
        super().__init__({
            "beat":    In(Beat),
            "word":    In(8 * lanes),
            "x":       In(signed(8)).array(columns),
            "restart": In(1),
            "trits":   Out(2).array(lanes, ROWS),
            "sums":    Out(GROUP_SUM_BITS).array(columns, lanes, ROWS),
        })

    @property
    def delay(self):
        """Cycles that sums come later than those of a lane of latency one."""
        return self._lane.LATENCY - 1

    def elaborate(self, platform: object) -> Module:
        m = Module()
        trits  = self._unpack(m)
        clears = self._skew(m, self._clear(m), "clear")
        xs     = [self._broadcast(m, column) for column in range(self._columns)]
        for column in range(self._columns):
            for index in range(self._lanes):
                m.submodules[f"lane{column}_{index}"] = lane = self._lane()
                for row in range(ROWS):
                    m.d.comb += [
                        lane.trits[row].eq(trits[index][row]),
                        lane.x[row].eq(xs[column][row]),
                        lane.clear[row].eq(clears[row]),
                        self.sums[column][index][row].eq(lane.sums[row]),
                    ]
        return m

    def _unpack(self, m):
        """Trits of each lane and row, the row's skew included."""
        m.submodules.unpacker = unpacker = TritUnpacker(self._lanes)
        m.d.comb += unpacker.packed.eq(self.word)
        rows = []
        for row in range(ROWS):
            planes = []
            for name in ("nonzero", "negative"):
                first = Signal(self._lanes, name=f"{name}{row}")
                m.d.sync += first.eq(getattr(unpacker, name)[row])
                planes.append(self._delay(m, first, SKEW * row))
            rows.append(planes)
        trits = [[Cat(plane[lane] for plane in planes) for planes in rows]
                 for lane in range(self._lanes)]
        for ports, values in zip(self.trits, trits, strict=True):
            m.d.comb += [port.eq(self._delay(m, trit, self.delay))
                         for port, trit in zip(ports, values, strict=True)]
        return trits

    def _broadcast(self, m, column):
        """What each row's lanes get of the activation."""
        live = self._lane.feed(m, self.beat, self.x[column], self.restart, column)
        rows = []
        for row, value in enumerate(self._skew(m, live, f"x{column}")):
            wide = Signal(self._lane.FEED, name=f"x{column}_{row}")
            m.d.comb += wide.eq(value)
            rows.append(wide)
        return rows

    def _clear(self, m):
        """Clear of row 0: in the last cycle in which its sums are at rest."""
        rest  = Signal(SKEW)
        clear = Signal()
        m.d.sync += rest.eq(Cat(self.beat.valid & self.beat.scale_first, rest))
        m.d.comb += clear.eq(rest[-1] | self.restart)
        return self._delay(m, clear, self.delay)

    def _skew(self, m, value, name):
        """The value for each row, row r delayed by 3 r cycles."""
        rows = [value]
        for _ in range(ROWS - 1):
            rows.append(self._delay(m, rows[-1], SKEW))
        return rows

    @staticmethod
    def _delay(m, value, cycles):
        for _ in range(cycles):
            stage = Signal.like(value, reset_less=True)     # long settled when a GEMV begins
            m.d.sync += stage.eq(value)
            value = stage
        return value
