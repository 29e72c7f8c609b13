"""Datapath: computes row sums from the words of a GEMV."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import ROWS
from tritstream.hw.compute.beat_buffer import BeatBuffer
from tritstream.hw.compute.lane import Lane
from tritstream.hw.compute.lane_array import LaneArray, LaneType
from tritstream.hw.compute.result_banks import UnitMap
from tritstream.hw.compute.scale_unit import ScaleCodes, ScaleUnit, SlotSequencer
from tritstream.hw.interfaces import Activations, Beat, MantissaPort, RowSums

__all__ = ["Datapath"]


class Datapath(wiring.Component):
    """Beat buffer, lane array and scale units.

    Computes ``row_sums = sum over groups of mantissa * sum_j q_j x_j`` for 5 L rows; the reference
    model is :func:`.gemv`. Throughput is one beat per cycle, and no stage ever stalls. The last
    slot of a row block is at ``rows.slot`` 28 cycles after the last scale beat of the block. A lane
    with a latency of more than one cycle adds the difference.

    Parameters
    ----------
    lanes : int
        Bytes per word.
    columns : int
        Number of activation columns.
    lane : type, optional
        Lane component, as for :class:`tritstream.hw.compute.lane_array.LaneArray`.

    Members
    -------
    restart : :py:`In(1)`
        A GEMV starts with the next beat. The cycle before must have no beat.
    beat, word : :py:`In(Beat)`, :py:`In(8 * lanes)`
        Beat and its word.
    activations : :py:`Out(Activations(columns))`
        Read port of the activation memory.
    load : :py:`In(MantissaPort)`
        Write port of all mantissa tables.
    rows : :py:`Out(RowSums(columns, places, units))`
        Row sums, one slot per cycle.
    """

    def __init__(self, lanes: int, columns: int, lane: LaneType = Lane) -> None:
        self._lanes   = lanes
        self._columns = columns
        self._lane    = lane
        self._map     = UnitMap(lanes)
        super().__init__({
            "restart":     In(1),
            "beat":        In(Beat),
            "word":        In(8 * lanes),
            "load":        In(MantissaPort),
            "activations": Out(Activations(columns)),
            "rows":        Out(RowSums(columns, self._map.places, self._map.units)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        m.submodules.buffer = buffer = BeatBuffer(self._lanes)
        m.submodules.array  = array  = LaneArray(self._lanes, self._columns,
                                                     self._lane)
        m.submodules.slots  = slots  = SlotSequencer()
        # The buffer may give a last beat in the cycle of the restart.
        m.d.sync += array.restart.eq(self.restart)
        beat = buffer.o
        for stage in range(array.delay):
            m.d.sync += (later := Signal(Beat, name=f"beat{stage}")).eq(beat)
            beat = later
        m.d.comb += [
            buffer.restart.eq(self.restart),
            buffer.i.eq(self.beat),
            buffer.i_word.eq(self.word),
            array.beat.eq(buffer.o),
            array.word.eq(buffer.o_word),
            slots.beat.eq(beat),
            self.activations.advance.eq(buffer.o.valid & buffer.o.first),
            self.rows.slot.eq(slots.slots[-1]),
        ]
        for column in range(self._columns):
            m.d.comb += array.x[column].eq(self.activations.x[column])
        for place in range(self._map.places):
            for unit in range(self._map.units):
                self._unit(m, place, unit, array, slots)
        return m

    def _unit(self, m, place, unit, array, slots):
        """Add the scale codes of one unit, and its multiplier for each column."""
        members = range(self._map.unit_lanes(unit))
        lanes = [[self._map.lane(place, unit, member, row) for row in range(ROWS)]
                 for member in members]
        name  = f"{place}_{unit}"
        m.submodules[f"codes{name}"] = codes = ScaleCodes(len(members))
        m.d.comb += [codes.onehot.eq(slots.onehot), codes.load.eq(self.load)]
        for member in members:
            for row in range(ROWS):
                m.d.comb += codes.trits[member][row].eq(array.trits[lanes[member][row]][row])
        for column in range(self._columns):
            m.submodules[f"unit{column}_{name}"] = scale = ScaleUnit(len(members))
            m.d.comb += [
                scale.onehot.eq(slots.onehot),
                scale.mantissa.eq(codes.mantissa),
                self.rows.sums[column][place][unit].eq(scale.row_sum),
            ]
            for mine, theirs in zip(scale.slots, slots.slots, strict=True):
                m.d.comb += mine.eq(theirs)
            for member in members:
                for row in range(ROWS):
                    m.d.comb += scale.sums[member][row].eq(
                        array.sums[column][lanes[member][row]][row])
