"""CRC-32 of a word stream, one word a cycle."""

from functools import reduce
from operator import xor

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .protocol import HEADER_CRC_OFFSET

__all__ = ["CRC_BITS", "Crc32", "HeaderCrc", "crc_step"]

CRC_BITS = 32

#: The reflected polynomial of IEEE 802.3, which zlib uses.
POLYNOMIAL = 0xEDB88320
_INIT = 0xFFFFFFFF


def crc_step(state, data, data_bytes):
    """CRC register after ``data_bytes`` bytes of ``data``, the low byte first."""
    for _ in range(8 * data_bytes):
        bit   = (state ^ data) & 1
        data  >>= 1
        state = (state >> 1) ^ (POLYNOMIAL if bit else 0)
    return state


def _table(m, name, value, contribution):
    """Exclusive or of the contributions of each four bits of ``value``."""
    terms = []
    for low in range(0, len(value), 4):
        # Too small for a block memory: a LUT4 for each bit.
        table = Memory(shape=CRC_BITS, depth=16, attrs={"ram_style": "logic"},
                       init=[contribution(bits << low) for bits in range(16)])
        m.submodules[f"{name}{low}"] = table
        port = table.read_port(domain="comb")
        m.d.comb += port.addr.eq(value[low:low + 4])
        terms.append(port.data)
    return reduce(xor, terms)


class Crc32(wiring.Component):
    """CRC-32 as zlib computes it, of words of any size.

    A word taken at cycle t counts in ``crc`` from cycle t + 2; throughput one word a cycle. The
    CRC is linear, so the contribution of a word is formed first and the register steps over it a
    cycle later; each is an exclusive or of 16-entry tables, one for four bits, which is a LUT4
    for each bit of a table on silicon and one load in a compiled simulation.

    Parameters
    ----------
    word_bytes : int

    Members
    -------
    en : :py:`In(1)`
        Take ``word``.
    first : :py:`In(1)`
        ``word`` begins a new message.
    word : :py:`In(8 * word_bytes)`
    crc : :py:`Out(32)`
    """

    LATENCY = 2

    def __init__(self, word_bytes):
        self._word_bytes = word_bytes
        super().__init__({
            "en":    In(1),
            "first": In(1),
            "word":  In(8 * word_bytes),
            "crc":   Out(CRC_BITS),
        })

    def elaborate(self, platform):
        m = Module()

        size   = self._word_bytes
        state  = Signal(CRC_BITS, init=_INIT)
        taken  = Signal()
        begins = Signal()
        word   = Signal(CRC_BITS)
        m.d.sync += [
            taken.eq(self.en),
            begins.eq(self.first),
            word.eq(_table(m, "word", self.word, lambda bits: crc_step(0, bits, size))),
        ]
        start  = Signal(CRC_BITS)
        m.d.comb += start.eq(Mux(begins, _INIT, state))
        moved = _table(m, "state", start, lambda bits: crc_step(bits, 0, size))
        with m.If(taken):
            m.d.sync += state.eq(moved ^ word)
        m.d.comb += self.crc.eq(~state)

        return m


class HeaderCrc(wiring.Component):
    """CRC-32 of the 16 bytes of a frame header before their CRC.

    Four bytes a cycle: ``crc`` is right from :data:`LATENCY` cycles after ``start`` until the
    next. ``data`` is held meanwhile.

    Members
    -------
    start : :py:`In(1)`
    data : :py:`In(128)`
    crc : :py:`Out(32)`
    done : :py:`Out(1)`
        High for one cycle, the first in which ``crc`` is right.
    """

    LATENCY = 5

    start: In(1)
    data:  In(8 * HEADER_CRC_OFFSET)
    crc:   Out(CRC_BITS)
    done:  Out(1)

    def elaborate(self, platform):
        m = Module()

        state = Signal(CRC_BITS)
        turn  = Signal(HEADER_CRC_OFFSET // 4)
        piece = Signal(CRC_BITS)
        for index in range(len(turn)):
            with m.If(turn[index]):
                m.d.comb += piece.eq(self.data.word_select(index, CRC_BITS))
        # Four bytes fill the register: what was in it leaves with them.
        moved = _table(m, "state", state ^ piece, lambda bits: crc_step(bits, 0, 4))

        m.d.sync += [turn.eq(Cat(self.start, turn)), self.done.eq(turn[-1])]
        with m.If(self.start):
            m.d.sync += state.eq(_INIT)
        with m.Elif(turn.any()):
            m.d.sync += state.eq(moved)
        m.d.comb += self.crc.eq(~state)

        return m
