"""Result banks: buffer the row sums of the scale units and read them in row order."""

from functools import reduce
from itertools import product
from operator import or_

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tritstream.golden.fixed_point import ROW_SUM_BITS, ROWS
from tritstream.hw.compute.scale_unit import LANES_PER_UNIT
from tritstream.hw.interfaces import SLOTS, BankRequest, RowSums
from tritstream.hw.primitives.cells import BlockRam
from tritstream.hw.protocol import BANKS, SUM_BYTES

__all__ = ["ResultBanks", "UnitMap"]


class UnitMap:
    """Assignment of row sums to scale units.

    An output word carries ``W = max(1, L / 8)`` sums. Row r of lane l is row ``n = 5 l + r`` of its
    block, at place ``n mod W`` of its word. Each place has its own units, so that W sums can be
    read in one cycle. Among W neighbouring lanes exactly one has its row r at a given place,
    because 5 is odd and W is a power of two. Three such lanes, W apart, share a unit, which makes
    three multipliers per eight lanes.

    Parameters
    ----------
    lanes : int
        Lanes L of the device.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes  = lanes
        self.places = max(1, lanes // 8)
        #: Number of runs of W neighbouring lanes.
        self.runs   = lanes // self.places
        self.units  = -(-self.runs // LANES_PER_UNIT)

    def unit_lanes(self, unit: int) -> int:
        """Return the number of lanes that share a unit, 1..3."""
        return min(LANES_PER_UNIT, self.runs - unit * LANES_PER_UNIT)

    def lane(self, place: int, unit: int, turn: int, row: int) -> int:
        """Return the lane whose sum of ``row`` uses slot ``3 * row + turn`` of the unit."""
        low = (unit * LANES_PER_UNIT + turn) * self.places
        return next(l for l in range(low, low + self.places)
                    if (ROWS * l + row) % self.places == place)


class ResultBanks(wiring.Component):
    """Two banks of 5 L row sums per column, filled by the scale units and read in row order.

    A transfer at ``request`` selects one column of the oldest full bank. Its 5 L sums then leave at
    ``sums``, ``max(1, L / 8)`` per cycle; the latency of the first is four cycles. A request with
    ``last`` removes the bank from ``full``, and the bank is free when that column has been read.

    Parameters
    ----------
    lanes : int
        Lanes L of the device.
    columns : int
        Number of activation columns.

    Members
    -------
    restart : :py:`In(1)`
        Mark both banks as empty.
    reserve : :py:`In(1)`
        Reserve a bank for a row block whose last beat was taken.
    credit : :py:`Out(1)`
        A bank is available to ``reserve``.
    rows : :py:`In(RowSums(columns, places, units))`
        Row sums of the scale units.
    full : :py:`Out(1)`
        A bank is complete, and its last column has not been requested.
    busy : :py:`Out(1)`
        A bank is reserved, full or being read.
    request : :py:`In(stream.Signature(BankRequest(columns)))`
        Column to read.
    sums : :py:`Out(stream.Signature(64 * places))`
        Row sums, sign-extended to 64 bits each.
    """

    def __init__(self, lanes: int, columns: int) -> None:
        self._map     = UnitMap(lanes)
        self._lanes   = lanes
        self._columns = columns
        super().__init__({
            "restart":  In(1),
            "reserve":  In(1),
            "credit":   Out(1),
            "rows":     In(RowSums(columns, self._map.places, self._map.units)),
            "full":     Out(1),
            "busy":     Out(1),
            "request":  In(stream.Signature(BankRequest(columns))),
            "sums":     Out(stream.Signature(8 * SUM_BYTES * self._map.places)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        move   = Signal()
        column = Signal(range(self._columns))
        valid, passed, release = self._sequence(m, move, column)
        write_bank, read_bank = self._account(m, passed, release)
        for place in range(self._map.places):
            unit, slot = self._position(m, place, move)
            address = Signal(len(slot) + len(read_bank), name=f"address{place}")
            with m.If(move):
                m.d.sync += address.eq(Cat(slot, read_bank))
            value = self._read(m, place, move, column, unit, address, write_bank).as_signed()
            if self._map.places > 1:    # Verilator takes the sign of a part of a signal for a loop
                named = Signal(signed(ROW_SUM_BITS), name=f"value{place}")
                m.d.comb += named.eq(value)
                value = named
            m.d.comb += self.sums.payload.word_select(place, 8 * SUM_BYTES).eq(value)
        m.d.comb += [self.sums.valid.eq(valid), move.eq(~valid | self.sums.ready)]
        return m

    def _account(self, m, passed, release):
        """Return the bank to fill and the bank to read; banks are used in turn.

        The bank to read changes when the last address of a bank has ``passed``. That bank is free
        at its ``release``.
        """
        free       = Signal(range(BANKS + 1), init=BANKS)
        ready      = Signal(range(BANKS + 1))
        write_bank = Signal()
        read_bank  = Signal()
        finish     = Signal()
        take       = Signal()
        slot       = self.rows.slot
        m.d.comb += [
            take.eq(self.request.valid & self.request.ready & self.request.p.last),
            finish.eq(slot.valid & slot.last & (slot.index == SLOTS - 1)),
            self.credit.eq(free != 0),
            self.full.eq(ready != 0),
            self.busy.eq(free != BANKS),
        ]
        m.d.sync += [
            free.eq(free - self.reserve + release),
            ready.eq(ready + finish - take),
            write_bank.eq(write_bank ^ finish),
            read_bank.eq(read_bank ^ passed),
        ]
        with m.If(self.restart):
            m.d.sync += [free.eq(BANKS), ready.eq(0), write_bank.eq(0), read_bank.eq(0)]
        return write_bank, read_bank

    def _sequence(self, m, move, column):
        """Sequence the read of one column. Sums are valid four enabled cycles after their address.

        Return three flags: sums are valid, the last address of a bank is generated, the last
        address of a bank is read.
        """
        beats  = ROWS * self._lanes // self._map.places
        left   = Signal(range(beats + 1))
        more   = Signal()                   # ``left`` is not zero
        stages = Signal(4)
        last   = Signal()
        final  = Signal()                   # the last address of a bank is being read
        m.d.comb += self.request.ready.eq(~more)
        with m.If(move):
            m.d.sync += [stages.eq(Cat(more, stages)), left.eq(left - 1)]
            with m.If(left == 1):
                m.d.sync += more.eq(0)
        with m.If(self.request.valid & ~more):
            m.d.sync += [left.eq(beats), more.eq(1)]
        # The column may change while the last sums of the previous column are in the pipeline.
        later = [Signal.like(column, name=f"column{stage}") for stage in range(3)]
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [later[0].eq(self.request.p.column), last.eq(self.request.p.last)]
        with m.If(move):
            m.d.sync += [later[1].eq(later[0]), later[2].eq(later[1]), column.eq(later[2])]
            m.d.sync += final.eq(more & (left == 1) & last)
        return stages[-1], move & more & (left == 1) & last, move & final

    def _position(self, m, place, move):
        """Return the unit (three stages later) and the slot of the next sum; rows step by W."""
        step  = self._map.places
        shift = exact_log2(step)
        lane  = Signal(range(max(2, self._lanes)), name=f"lane{place}")
        row   = Signal(range(ROWS), name=f"row{place}")
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [lane.eq(place // ROWS), row.eq(place % ROWS)]
        with m.Elif(move):
            with m.Switch(row):
                for now in range(ROWS):
                    with m.Case(now):
                        m.d.sync += [
                            lane.eq(lane + (now + step) // ROWS),
                            row.eq((now + step) % ROWS),
                        ]
        run  = lane[shift:]
        unit = Signal(range(LANES_PER_UNIT), name=f"unit{place}")
        slot = Signal(range(SLOTS), name=f"slot{place}")
        with m.Switch(run):
            for now in range(self._map.runs):
                with m.Case(now):
                    m.d.comb += [
                        unit.eq(now // LANES_PER_UNIT),
                        # 3 * row, written so that synthesis infers no multiplier.
                        slot.eq(row + (row << 1) + now % LANES_PER_UNIT),
                    ]
        for stage in range(3):
            later = Signal.like(unit, name=f"unit{place}_{stage}")
            with m.If(move):
                m.d.sync += later.eq(unit)
            unit = later
        return unit, slot

    def _read(self, m, place, move, column, unit, address, write_bank):
        """Add the memories of a place with their output registers; return the selected sum.

        All sums except the selected one are held at zero, as in :func:`.select_by_slot`.
        """
        held = []
        for which, number in product(range(self._columns), range(self._map.units)):
            bank = BlockRam(ROW_SUM_BITS, BANKS << len(self.rows.slot.index))
            m.submodules[f"bank{which}_{place}_{number}"] = bank
            m.d.comb += [
                bank.write_en.eq(self.rows.slot.valid & self.rows.slot.last),
                bank.write_addr.eq(Cat(self.rows.slot.index, write_bank)),
                bank.write_data.eq(self.rows.sums[which][place][number]),
                bank.read_en.eq(move),
                bank.read_addr.eq(address),
            ]
            register = Signal(ROW_SUM_BITS, name=f"held{which}_{place}_{number}")
            with m.If(move & ((unit != number) | (column != which))):
                m.d.sync += register.eq(0)
            with m.Elif(move):
                m.d.sync += register.eq(bank.read_data)
            held.append(register)
        return reduce(or_, held)
