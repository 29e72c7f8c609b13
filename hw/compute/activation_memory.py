"""Activation memory: written by words, replayed one activation at a time."""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2

from tritstream.golden.fixed_point import GROUP, MAX_K
from tritstream.hw.interfaces import ActivationRows, Activations
from tritstream.hw.primitives.cells import BlockRam

__all__ = ["ActivationMemory", "MAX_ROW_BYTES"]

#: A memory row is at most this long; wider words are written in several rows.
MAX_ROW_BYTES = 8
_WORD_ALIGN   = 64


class ActivationMemory(wiring.Component):
    """One vector of int8 a column, read in order and again from the start for each row block.

    Reading is a pipeline that moves on ``advance`` only, so that the next activation of every
    column always stands ready at ``x``: element 0 from :data:`PRIME` + 1 cycles after
    ``restart``, the following element in the cycle after each ``advance``. After element
    ``16 * (group_last + 1) - 1`` comes element 0. The output of the memory has a register of its
    own, as block memories are slow.

    Parameters
    ----------
    columns : int
    max_k : int
        Elements a column, a multiple of 16.
    word_bytes : int
        Bytes of a word on the way in. A word of more than 8 bytes takes a cycle every 8 bytes.

    Members
    -------
    restart : :py:`In(1)`
    group_last : :py:`In(11)`
        Groups of the vectors, less one.
    activations : :py:`In(Activations(columns))`
    write : :py:`In(ActivationRows(row_bytes))`
        Next row of ``write_column``.
    write_column : :py:`In(range(columns))`
    """

    PRIME = 3

    def __init__(self, columns: int, max_k: int, word_bytes: int) -> None:
        self._columns   = columns
        self._max_k     = max_k
        self._row_bytes = min(word_bytes, MAX_ROW_BYTES)
        super().__init__({
            "restart":      In(1),
            "group_last":   In(range(MAX_K // GROUP)),
            "activations":  In(Activations(columns)),
            "write":        In(ActivationRows(self._row_bytes)),
            "write_column": In(range(columns)),
        })

    @property
    def row_bytes(self):
        return self._row_bytes

    @property
    def rows(self):
        """Rows a column: vectors come padded to 64 bytes."""
        return -(-self._max_k // _WORD_ALIGN) * _WORD_ALIGN // self._row_bytes

    def elaborate(self, platform: object) -> Module:
        m = Module()

        move, row, byte = self._sequence(m)
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
            with m.If(move):
                m.d.sync += x.eq(memory.read_data.word_select(byte, 8))

        return m

    def _sequence(self, m):
        """Enable of the pipeline, row to read, and byte to take two stages later."""
        prime = Signal(self.PRIME)
        move  = Signal()
        group = Signal.like(self.group_last)
        place = Signal(range(GROUP))
        where = Cat(place, group)
        low   = ceil_log2(self._row_bytes)

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

        byte = where[:low]
        for stage in range(2):
            later = Signal(low, name=f"byte{stage}")
            with m.If(move):
                m.d.sync += later.eq(byte)
            byte = later
        return move, where[low:], byte
