"""Activation memory: written in rows, read one activation per column at a time."""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2

from tritstream.golden.fixed_point import GROUP, MAX_K
from tritstream.hw.interfaces import ActivationRows, Activations
from tritstream.hw.primitives.cells import BlockRam

__all__ = ["MAX_ROW_BYTES", "ActivationMemory"]

#: Largest width of a memory row in bytes. Wider words are written as several rows.
MAX_ROW_BYTES = 8
_WORD_ALIGN   = 64
#: Bytes per part of a row, of which the first stage selects one.
_PART = 4


class ActivationMemory(wiring.Component):
    """Memory for one int8 vector per column, read in order and repeated for each row block.

    The read pipeline moves only on ``advance``, so that the next activation of every column is
    always available at ``x``. Element 0 is available from :data:`PRIME` + 1 cycles after
    ``restart``, and each following element in the cycle after ``advance``. Element
    ``16 * (group_last + 1) - 1`` is followed by element 0. The memory has an output register,
    because block memories are slow.

    Parameters
    ----------
    columns : int
        Number of activation vectors.
    max_k : int
        Largest number of elements per vector, a multiple of 16.
    word_bytes : int
        Bytes per word of the payload. Words of more than 8 bytes are written as rows of 8 bytes,
        one row per cycle.

    Members
    -------
    restart : :py:`In(1)`
        Start reading at element 0.
    group_last : :py:`In(11)`
        Number of groups of 16 elements per vector, minus one.
    activations : :py:`In(Activations(columns))`
        Read port.
    write : :py:`In(ActivationRows(row_bytes))`
        Write port: next row of ``write_column``.
    write_column : :py:`In(range(columns))`
        Column that is written.
    """

    #: Cycles in which the read pipeline fills after ``restart``.
    PRIME = 4

    def __init__(self, columns: int, max_k: int, word_bytes: int) -> None:
        self._columns   = columns
        self._max_k     = max_k
        self._row_bytes = min(word_bytes, MAX_ROW_BYTES)
        self._part      = min(self._row_bytes, _PART)
        super().__init__({
            "restart":      In(1),
            "group_last":   In(range(MAX_K // GROUP)),
            "activations":  In(Activations(columns)),
            "write":        In(ActivationRows(self._row_bytes)),
            "write_column": In(range(columns)),
        })

    @property
    def row_bytes(self) -> int:
        """Bytes per row of the memory."""
        return self._row_bytes

    @property
    def rows(self) -> int:
        """Rows per column. Vectors arrive padded to 64 bytes."""
        return -(-self._max_k // _WORD_ALIGN) * _WORD_ALIGN // self._row_bytes

    def elaborate(self, platform: object) -> Module:
        m = Module()

        move, row, byte, part = self._sequence(m)
        write_row = Signal(range(self.rows))
        with m.If(self.write.valid):
            m.d.sync += write_row.eq(write_row + 1)
            with m.If(self.write.first):
                m.d.sync += write_row.eq(1)

        for column, x in enumerate(self.activations.x):
            m.submodules[f"column{column}"] = memory = BlockRam(8 * self._row_bytes, self.rows)
            m.d.comb += [
                memory.write_en.eq(self.write.valid & (self.write_column == column)),
                memory.write_addr.eq(write_row),
                memory.write_data.eq(self.write.data),
                memory.read_en.eq(move),
                memory.read_addr.eq(row),
            ]
            with m.If(self.write.first):
                m.d.comb += memory.write_addr.eq(0)
            # The byte of each part of a row, then the part. Block memories are far away.
            chosen = Signal(self._row_bytes // self._part * 8, name=f"chosen{column}")
            parts  = memory.read_data
            with m.If(move):
                m.d.sync += [
                    chosen.eq(Cat(parts.word_select(low, 8 * self._part).word_select(byte, 8)
                                  for low in range(self._row_bytes // self._part))),
                    x.eq(chosen.word_select(part, 8)),
                ]

        return m

    def _sequence(self, m):
        """Return the pipeline enable, and what to read: row, byte of a part, part.

        The byte is two stages later than the row, and the part three.
        """
        prime = Signal(self.PRIME)
        move  = Signal()
        group = Signal.like(self.group_last)
        place = Signal(range(GROUP))
        where = Cat(place, group)
        low   = ceil_log2(self._row_bytes)
        inner = ceil_log2(self._part)

        m.d.comb += move.eq(self.activations.advance | prime[0])
        m.d.sync += prime.eq(prime >> 1)
        with m.If(move):
            m.d.sync += place.eq(place + 1)
            with m.If(place == GROUP - 1):
                m.d.sync += group.eq(group + 1)
                with m.If(group == self.group_last):
                    m.d.sync += group.eq(0)
        with m.If(self.restart):
            m.d.sync += [prime.eq(~0), place.eq(0), group.eq(0)]

        stages = [where[:low]]
        for stage in range(3):
            later = Signal(low, name=f"byte{stage}")
            with m.If(move):
                m.d.sync += later.eq(stages[-1])
            stages.append(later)
        return move, where[low:], stages[2][:inner], stages[3][inner:]
