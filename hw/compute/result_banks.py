"""Result banks: where scale units leave finished row sums, and their way out in row order."""

from itertools import product

from amaranth import Array, Cat, Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tritstream.golden.fixed_point import ROW_SUM_BITS, ROWS
from tritstream.hw.compute.scale_unit import LANES_PER_UNIT
from tritstream.hw.interfaces import SLOTS, BankRequest, RowSums
from tritstream.hw.primitives.cells import BlockRam
from tritstream.hw.primitives.stream_buffer import StreamBuffer
from tritstream.hw.protocol import BANKS, SUM_BYTES

__all__ = ["ResultBanks", "UnitMap"]


class UnitMap:
    """Which sum goes to which scale unit.

    A word out carries ``W = max(1, L / 8)`` sums. Row ``n = 5 l + r`` of a block stands at place
    ``n mod W`` of its word, and each place has units of its own, so that W sums can be read at
    once. Of every W neighbouring lanes one has its row r at a given place (5 is odd, W a power of
    two); three such lanes, in steps of W, make a unit: three multipliers for eight lanes.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes  = lanes
        self.places = max(1, lanes // 8)
        #: Runs of W lanes.
        self.runs   = lanes // self.places
        self.units  = -(-self.runs // LANES_PER_UNIT)

    def unit_lanes(self, unit):
        """Lanes of a unit, 1..3."""
        return min(LANES_PER_UNIT, self.runs - unit * LANES_PER_UNIT)

    def lane(self, place, unit, turn, row):
        """Lane whose sum of ``row`` is the unit's slot ``3 * row + turn``."""
        low = (unit * LANES_PER_UNIT + turn) * self.places
        return next(l for l in range(low, low + self.places)
                    if (ROWS * l + row) % self.places == place)


class ResultBanks(wiring.Component):
    """Two banks of 5 L row sums a column, filled by the scale units and read in row order.

    ``request`` asks for one column of the oldest full bank; its 5 L sums then leave at ``sums``,
    ``max(1, L / 8)`` a cycle, the first four cycles later. With its ``last`` column a bank counts
    as taken, and is free again once that is read.

    Parameters
    ----------
    lanes, columns : int

    Members
    -------
    restart : :py:`In(1)`
        Both banks are empty.
    reserve : :py:`In(1)`
        A row block has been taken in that will need a bank.
    credit : :py:`Out(1)`
        There is a bank to reserve.
    rows : :py:`In(RowSums(columns, places, units))`
    full : :py:`Out(1)`
        A bank is complete and not yet taken.
    busy : :py:`Out(1)`
        A bank is reserved, full or being read.
    request : :py:`In(stream.Signature(BankRequest(columns)))`
    sums : :py:`Out(stream.Signature(64 * places))`
        Sign-extended to 64 bits.
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

        # Behind it the pipeline of the banks moves on a register and not on the framer's say.
        m.submodules.buffer = buffer = StreamBuffer(
            ArrayLayout(signed(ROW_SUM_BITS), self._map.places))
        move   = Signal()
        column = Signal(range(self._columns))
        valid, passed, release = self._sequence(m, move, column)
        write_bank, read_bank = self._account(m, passed, release)
        for place in range(self._map.places):
            unit, slot = self._position(m, place, move)
            address = Signal(len(slot) + len(read_bank), name=f"address{place}")
            with m.If(move):
                m.d.sync += address.eq(Cat(slot, read_bank))
            value = self._read(m, place, move, column, unit, address, write_bank)
            m.d.comb += [
                buffer.i.payload[place].eq(value),
                self.sums.payload.word_select(place, 8 * SUM_BYTES).eq(buffer.o.payload[place]),
            ]
        m.d.comb += [
            buffer.i.valid.eq(valid),
            move.eq(~valid | buffer.i.ready),
            self.sums.valid.eq(buffer.o.valid),
            buffer.o.ready.eq(self.sums.ready),
        ]
        return m

    def _account(self, m, passed, release):
        """Bank to fill and bank to read; banks are taken in turn.

        The bank to read is another once the last address of one has ``passed``; that one is free
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
        """Run of one column: addresses are made, four enabled cycles later its sums are there.

        Returns whether there are sums, whether the last address of a bank is made, and whether it
        is read.
        """
        beats  = ROWS * self._lanes // self._map.places
        left   = Signal(range(beats + 1))
        more   = Signal()                   # left is not zero
        stages = Signal(4)
        last   = Signal()
        final  = Signal()                   # the address that is read is the last of its bank
        m.d.comb += self.request.ready.eq(~more)
        with m.If(move):
            m.d.sync += [stages.eq(Cat(more, stages)), left.eq(left - 1)]
            with m.If(left == 1):
                m.d.sync += more.eq(0)
        with m.If(self.request.valid & ~more):
            m.d.sync += [left.eq(beats), more.eq(1)]
        # The column may change while the last sums of the one before are still under way.
        later = [Signal.like(column, name=f"column{stage}") for stage in range(3)]
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [later[0].eq(self.request.p.column), last.eq(self.request.p.last)]
        with m.If(move):
            m.d.sync += [later[1].eq(later[0]), later[2].eq(later[1]), column.eq(later[2])]
            m.d.sync += final.eq(more & (left == 1) & last)
        return stages[-1], move & more & (left == 1) & last, move & final

    def _position(self, m, place, move):
        """Unit (three stages later) and slot of the place's next sum; rows go in steps of W."""
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
                        # 3 * row, which must not become a multiplier.
                        slot.eq(row + (row << 1) + now % LANES_PER_UNIT),
                    ]
        for stage in range(3):
            later = Signal.like(unit, name=f"unit{place}_{stage}")
            with m.If(move):
                m.d.sync += later.eq(unit)
            unit = later
        return unit, slot

    def _read(self, m, place, move, column, unit, address, write_bank):
        """The place's memories, a register behind each, and the choice among them."""
        outputs = [[] for _ in range(self._columns)]
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
            outputs[which].append(bank.read_data)
        chosen = Signal(signed(ROW_SUM_BITS), name=f"chosen{place}")
        select = Array(Array(units)[unit] for units in outputs)[column]
        with m.If(move):
            m.d.sync += chosen.eq(select)
        return chosen
