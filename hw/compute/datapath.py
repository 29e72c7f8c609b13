"""Datapath: computes row sums from the words of a GEMV."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.golden.fixed_point import ROWS
from tritstream.hw.compute.beat_buffer import BeatBuffer
from tritstream.hw.compute.lane import Lane
from tritstream.hw.compute.lane_array import LaneArray, LaneType
from tritstream.hw.compute.result_banks import UnitMap
from tritstream.hw.compute.scale_mantissas import MantissaAddresses, ScaleMantissas
from tritstream.hw.compute.scale_unit import ScaleUnit, SlotSequencer
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
    direct : :py:`In(1)`
        Scale words hold mantissas, not codes. Must be stable from the restart to the last slot.
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
            "direct":      In(1),
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
        m.submodules.addresses = addresses = MantissaAddresses()
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
            addresses.direct.eq(self.direct),
            addresses.beat.eq(buffer.o),
            addresses.load.eq(self.load),
            addresses.slot.eq(slots.slots[addresses.STAGE]),
            self.activations.advance.eq(buffer.o.valid & buffer.o.first),
            self.rows.slot.eq(slots.slots[-1]),
        ]
        for column in range(self._columns):
            m.d.comb += array.x[column].eq(self.activations.x[column])
        for place in range(self._map.places):
            for unit in range(self._map.units):
                members  = range(self._map.unit_lanes(unit))
                lanes    = [[self._map.lane(place, unit, member, row) for row in range(ROWS)]
                            for member in members]
                mantissa = self._mantissas(m, f"{place}_{unit}", lanes)
                for column in range(self._columns):
                    self._scale(m, column, place, unit, lanes, mantissa)
        return m

    def _mantissas(self, m, name, lanes):
        """Add the mantissas of a unit with these lanes, by member and row; return the output."""
        array, buffer, slots, addresses = (m.submodules[name] for name in (
            "array", "buffer", "slots", "addresses"))
        m.submodules[f"mantissas{name}"] = mantissas = ScaleMantissas(len(lanes))
        m.d.comb += [
            mantissas.onehot.eq(slots.onehot),
            mantissas.write.eq(addresses.write),
            mantissas.read.eq(addresses.read),
            mantissas.direct.eq(self.direct),
        ]
        for member, rows in enumerate(lanes):
            m.d.comb += mantissas.bytes[member].eq(buffer.o_word.word_select(rows[0], 8))
            for row, lane in enumerate(rows):
                m.d.comb += mantissas.trits[member][row].eq(array.trits[lane][row])
        return mantissas.mantissa

    def _scale(self, m, column, place, unit, lanes, mantissa):
        """Add the multiplier of a unit for one column."""
        array, slots = m.submodules["array"], m.submodules["slots"]
        m.submodules[f"unit{column}_{place}_{unit}"] = scale = ScaleUnit(len(lanes))
        m.d.comb += [
            scale.onehot.eq(slots.onehot),
            scale.mantissa.eq(mantissa),
            self.rows.sums[column][place][unit].eq(scale.row_sum),
        ]
        for mine, theirs in zip(scale.slots, slots.slots, strict=True):
            m.d.comb += mine.eq(theirs)
        for member, rows in enumerate(lanes):
            for row, lane in enumerate(rows):
                m.d.comb += scale.sums[member][row].eq(array.sums[column][lane][row])
