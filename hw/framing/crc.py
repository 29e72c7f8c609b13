"""CRC-32 of a word stream, one word a cycle."""

from functools import cache, reduce
from operator import or_, xor

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tritstream.hw.protocol import HEADER_BYTES, HEADER_CRC_OFFSET, MAGIC

__all__ = ["CRC_BITS", "Crc32", "HeaderCrc", "crc_step"]

CRC_BITS = 32

#: The reflected polynomial of IEEE 802.3, which zlib uses.
POLYNOMIAL = 0xEDB88320
_INIT      = 0xFFFFFFFF
#: What a message and its own CRC leave in the register.
_RESIDUE   = 0xDEBB20E3
#: Bytes whose contributions are added in the first stage.
_CHUNK     = 8


def crc_step(state, data, data_bytes):
    """CRC register after ``data_bytes`` bytes of ``data``, the low byte first."""
    for _ in range(8 * data_bytes):
        bit   = (state ^ data) & 1
        data  >>= 1
        state = (state >> 1) ^ (POLYNOMIAL if bit else 0)
    return state


@cache
def _powers():
    """x^0 .. x^62 modulo the polynomial; bit 31 of a register is x^0."""
    powers = [1 << CRC_BITS - 1]
    for _ in range(2 * CRC_BITS - 2):
        powers.append((powers[-1] >> 1) ^ (POLYNOMIAL if powers[-1] & 1 else 0))
    return powers


def _squared(value, times):
    """``value^(2^times)`` modulo the polynomial: linear, as in every field of characteristic 2."""
    for _ in range(times):
        value = reduce(xor, (_powers()[2 * bit] for bit in range(CRC_BITS)
                             if value >> CRC_BITS - 1 - bit & 1), 0)
    return value


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

    A word taken at cycle t counts in ``crc`` from cycle t + 4; throughput one word a cycle.

    A step over a word multiplies the CRC register by ``x^n``, n the word's bits, in the field of
    2^32 elements: a dense matrix in the loop. n is a power of two, so the register is kept as its
    n-th root, on which the step is ``x``, a single shift; the root of a word's contribution is
    formed before, the n-th power behind. Both are linear, exclusive ors of 16-entry tables, one for
    four bits, which is a LUT4 for each bit of a table on silicon and one load in a compiled
    simulation.

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
    sound : :py:`Out(1)`
        Of cycle t + 4: the word at cycle t held the end of a message's first 20 bytes, and the last
        four of these are the CRC of the others.
    """

    LATENCY = 4

    def __init__(self, word_bytes: int) -> None:
        self._word_bytes = word_bytes
        super().__init__({
            "en":    In(1),
            "first": In(1),
            "word":  In(8 * word_bytes),
            "crc":   Out(CRC_BITS),
            "sound": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        size  = self._word_bytes
        power = exact_log2(8 * size)

        def root(value):
            return _squared(value, CRC_BITS - power)

        taken, first = Signal(2), Signal(2)
        total, head, check = (Signal(CRC_BITS, name=name, reset_less=True)
                              for name in ("total", "head", "check"))
        state, moved = Signal(CRC_BITS), Signal(CRC_BITS)
        # Where the header ends in its last word.
        end   = HEADER_BYTES % size or size
        parts = self._parts(m, end, root)

        m.d.comb += moved.eq(Mux(first[-1], root(crc_step(_INIT, 0, size)),
                                 (state >> 1) ^ Mux(state[0], POLYNOMIAL, 0)))
        m.d.sync += [
            taken.eq(Cat(self.en, taken)),
            first.eq(Cat(self.first, first)),
            total.eq(reduce(xor, parts.values())),
            head.eq(reduce(xor, (part for low, part in parts.items() if low < end))),
            check.eq(moved ^ head),
            self.sound.eq(check == root(crc_step(_RESIDUE, 0, size - end))),
            self.crc.eq(~_table(m, "power", state, lambda bits: _squared(bits, power))),
        ]
        with m.If(taken[-1]):
            m.d.sync += state.eq(moved ^ total)

        return m

    def _parts(self, m, end, root):
        """Contributions of parts of the word by their first bytes; ``end`` is between two."""
        size  = self._word_bytes
        parts = {}
        edges = sorted({*range(0, size, _CHUNK), end, size})
        for low, high in zip(edges, edges[1:], strict=False):
            parts[low] = Signal(CRC_BITS, name=f"part{low}", reset_less=True)
            m.d.sync += parts[low].eq(_table(
                m, f"byte{low}_", self.word[8 * low:8 * high],
                lambda bits, low=low: root(crc_step(0, bits << 8 * low, size))))
        return parts


class HeaderCrc(wiring.Component):
    """CRC-32 of the 16 bytes of a frame header before their CRC, from those after the magic.

    A byte a cycle: ``crc`` is right from :data:`LATENCY` cycles after ``start`` until the next.
    ``data`` is held meanwhile.

    Members
    -------
    start : :py:`In(1)`
    data : :py:`In(112)`
    crc : :py:`Out(32)`
    done : :py:`Out(1)`
        High for one cycle, the first in which ``crc`` is right.
    """

    _BYTES  = HEADER_CRC_OFFSET - 2
    LATENCY = _BYTES + 2

    def __init__(self) -> None:
        super().__init__({
            "start": In(1),
            "data":  In(8 * self._BYTES),
            "crc":   Out(CRC_BITS),
            "done":  Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        state = Signal(CRC_BITS)
        turn  = Signal(self._BYTES)
        byte  = Signal(8)
        going = Signal()
        m.d.sync += [
            turn.eq(Cat(self.start, turn)),
            going.eq(turn.any()),
            self.done.eq(going & ~turn.any()),
        ]
        with m.If(turn.any()):
            m.d.sync += byte.eq(reduce(or_, (
                self.data.word_select(index, 8) & turn[index].replicate(8)
                for index in range(self._BYTES))))
        step = _table(m, "state", state[:8] ^ byte, lambda bits: crc_step(bits, 0, 1))
        with m.If(self.start):
            m.d.sync += state.eq(crc_step(_INIT, MAGIC, 2))
        with m.Elif(going):
            m.d.sync += state.eq((state >> 8) ^ step)
        m.d.comb += self.crc.eq(~state)

        return m
