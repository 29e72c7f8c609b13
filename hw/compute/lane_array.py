"""Lane array: trit unpacker, skew of the five rows, and lanes."""

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import GROUP_SUM_BITS, ROWS
from tritstream.hw.compute.dsp_lanes import DspLanes
from tritstream.hw.compute.lane import Lane
from tritstream.hw.compute.multiplier_lane import MultiplierLane
from tritstream.hw.compute.trit_unpacker import TritUnpacker
from tritstream.hw.interfaces import SKEW, Beat

__all__ = ["LaneArray", "LaneType"]

#: Lane component of an array.
LaneType = type[Lane] | type[MultiplierLane] | type[DspLanes]


class LaneArray(wiring.Component):
    """Array of L lanes per column behind one trit unpacker; activations are broadcast.

    Throughput is one beat per cycle. The activation is multiplied by 3^i for digit i once for all
    lanes (``m <- 3 m``), so each lane only adds or subtracts the broadcast value.

    **Rows are skewed**: trits and activations of row r are delayed by 3 r cycles. A group sum is
    stable during the last three scale beats of its row. Therefore the sums of exactly one row are
    stable in each of the 15 cycles after the third-last scale beat, and three lanes can hand over
    their 15 sums to one multiplier, one per cycle, without registers that hold them. These three
    beats must come in consecutive cycles, which
    :class:`tritstream.hw.compute.beat_buffer.BeatBuffer` guarantees.

    If the third-last scale beat of a group is at cycle t, ``trits[..][r]`` is scale digit i at
    cycle ``t + 1 + 3 r + i``, and ``sums[..][r]`` is the group sum in cycles ``t + 1 + 3 r + (0, 1,
    2)``.
    With a lane that has a latency of more than one cycle, both are ``delay`` cycles later.

    Parameters
    ----------
    lanes : int
        Bytes per word.
    columns : int
        Number of activation columns.
    lane : type, optional
        Lane component. See :meth:`.Lane.feed` for the interface that it must have.

    Members
    -------
    beat : :py:`In(Beat)`
        Beat of the current cycle.
    word : :py:`In(8 * lanes)`
        Word of the beat: one trit block per lane.
    x : :py:`In(signed(8)).array(columns)`
        Activation for the weights of the beat, read on a valid ``first`` beat.
    restart : :py:`In(1)`
        Clear all sums. Allowed in the cycle before the first beat.
    trits : :py:`Out(2).array(lanes, 5)`
        Skewed trits, for the scale codes.
    sums : :py:`Out(18).array(columns, lanes, 5)`
        Skewed group sums.
    """

    def __init__(self, lanes: int, columns: int, lane: LaneType = Lane) -> None:
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
    def delay(self) -> int:
        """Cycles by which the latency of the lane exceeds one cycle."""
        return self._lane.LATENCY - 1

    def elaborate(self, platform: object) -> Module:
        m = Module()
        trits  = self._unpack(m)
        clears = self._skew(m, self._clear(m), "clear")
        xs     = [self._broadcast(m, column) for column in range(self._columns)]
        for column in range(self._columns):
            for first in range(0, self._lanes, self._lane.BYTES):
                m.submodules[f"lane{column}_{first}"] = lane = self._lane()
                for row in range(ROWS):
                    m.d.comb += [
                        lane.x[row].eq(xs[column][row]),
                        lane.clear[row].eq(clears[row]),
                    ]
                for index, (given, sums) in enumerate(lane.of_bytes(), first):
                    if index < self._lanes:
                        m.d.comb += [trit.eq(wire) for trit, wire in zip(given, trits[index],
                                                                         strict=True)]
                        m.d.comb += [port.eq(acc) for port, acc in zip(
                            self.sums[column][index], sums, strict=True)]
        return m

    def _unpack(self, m):
        """Return the trits of each lane and row, skewed."""
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
        """Return the value that the lanes get for each row, skewed."""
        live = self._lane.feed(m, self.beat, self.x[column], self.restart, column)
        rows = []
        for row, value in enumerate(self._skew(m, live, f"x{column}")):
            wide = Signal(self._lane.FEED, name=f"x{column}_{row}")
            m.d.comb += wide.eq(value)
            rows.append(wide)
        return rows

    def _clear(self, m):
        """Return the clear of row 0, set in the last cycle in which its sums are stable."""
        rest  = Signal(SKEW)
        clear = Signal()
        m.d.sync += rest.eq(Cat(self.beat.valid & self.beat.scale_start, rest))
        m.d.comb += clear.eq(rest[-1] | self.restart)
        return self._delay(m, clear, self._lane.LATENCY - self._lane.CLEAR_LATENCY)

    def _skew(self, m, value, name):
        """Return the value for each row, delayed by 3 r cycles for row r."""
        rows = [value]
        for _ in range(ROWS - 1):
            rows.append(self._delay(m, rows[-1], SKEW))
        return rows

    @staticmethod
    def _delay(m, value, cycles):
        for _ in range(cycles):
            stage = Signal.like(value, reset_less=True)     # settled long before a GEMV starts
            m.d.sync += stage.eq(value)
            value = stage
        return value
