"""CRC-32 of a word stream, one word per cycle."""

from functools import cache, reduce
from itertools import pairwise
from operator import or_, xor

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tritstream.hw.primitives.linear_map import linear_map
from tritstream.hw.protocol import HEADER_BYTES, HEADER_CRC_OFFSET, MAGIC

__all__ = ["CRC_BITS", "Crc32", "HeaderCrc", "crc_step"]

CRC_BITS = 32

#: Polynomial of IEEE 802.3, bit-reflected, as zlib uses it.
POLYNOMIAL = 0xEDB88320
_INIT      = 0xFFFFFFFF
#: Value of the register after a message followed by its own CRC.
_RESIDUE   = 0xDEBB20E3
#: Bytes per partial sum in the first pipeline stage.
_CHUNK     = 16


def crc_step(state: int, data: int, data_bytes: int) -> int:
    """Return the CRC register after ``data_bytes`` bytes of ``data``, low byte first."""
    for _ in range(8 * data_bytes):
        bit   = (state ^ data) & 1
        data  >>= 1
        state = (state >> 1) ^ (POLYNOMIAL if bit else 0)
    return state


@cache
def _powers():
    """Return x^0 .. x^62 modulo the polynomial; bit 31 of a register is x^0."""
    powers = [1 << CRC_BITS - 1]
    for _ in range(2 * CRC_BITS - 2):
        powers.append((powers[-1] >> 1) ^ (POLYNOMIAL if powers[-1] & 1 else 0))
    return powers


def _squared(value, times):
    """Return ``value^(2^times)`` modulo the polynomial.

    Squaring is linear, because the field has characteristic 2.
    """
    for _ in range(times):
        value = reduce(xor, (_powers()[2 * bit] for bit in range(CRC_BITS)
                             if value >> CRC_BITS - 1 - bit & 1), 0)
    return value


class Crc32(wiring.Component):
    """CRC-32 of a stream of words, the same as in zlib.

    Throughput is one word per cycle. A word that is taken at cycle t is included in ``crc`` from
    cycle t + 4 on.

    The CRC register is an element of the field with 2^32 elements. A word of n bits multiplies the
    register by ``x^n`` and adds a contribution of the word. Done directly, the multiplication is a
    dense 32 by 32 bit matrix inside the feedback loop. This component shortens the loop:

    1. n is a power of two, so each element has a unique n-th root: ``a^n = b`` has one solution a
       for each b, and the map is linear because squaring is linear.
    2. The register stores the n-th root of the CRC state. The n-th root of ``x^n`` is ``x``, so the
       multiplication becomes a single shift.
    3. The contribution of a word is stored as its n-th root, computed before the loop. The n-th
       power of the register is computed after the loop.

    Both maps are exclusive ors of bits: see :func:`.linear_map`.

    Parameters
    ----------
    word_bytes : int
        Bytes per word, a power of two.
    checks_header : bool, optional
        Compute ``sound``, which costs gates.

    Members
    -------
    en : :py:`In(1)`
        Take ``word``.
    first : :py:`In(1)`
        ``word`` is the first of a new message.
    word : :py:`In(8 * word_bytes)`
        Next word of the message, low byte first.
    crc : :py:`Out(32)`
        CRC of the message.
    sound : :py:`Out(1)`
        Whether a frame header has a correct CRC. At cycle t + 4 it refers to the word of cycle t,
        which must contain the last of the first 20 bytes of a message. It is set if the last four
        of these bytes are the CRC of the 16 bytes before them.
    """

    #: Cycles from a word to the CRC that includes the word.
    LATENCY = 4

    def __init__(self, word_bytes: int, checks_header: bool = False) -> None:
        self._word_bytes    = word_bytes
        self._checks_header = checks_header
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
        total, register = (Signal(CRC_BITS, name=name, reset_less=True)
                           for name in ("total", "register"))
        state, moved = Signal(CRC_BITS), Signal(CRC_BITS)
        # Number of bytes of the header in its last word.
        end   = HEADER_BYTES % size or size
        parts = self._parts(m, platform, end if self._checks_header else size, root)

        m.d.comb += moved.eq(Mux(first[-1], root(crc_step(_INIT, 0, size)),
                                 (state >> 1) ^ Mux(state[0], POLYNOMIAL, 0)))
        m.d.sync += [
            taken.eq(Cat(self.en, taken)),
            first.eq(Cat(self.first, first)),
            total.eq(reduce(xor, parts.values())),
            register.eq(linear_map(m, platform, "power", state, CRC_BITS,
                                   lambda bits: _squared(bits, power))),
        ]
        # Complemented here, where the next gate does it.
        m.d.comb += self.crc.eq(~register)
        with m.If(taken[-1]):
            m.d.sync += state.eq(moved ^ total)
        if self._checks_header:
            head, check = (Signal(CRC_BITS, name=name, reset_less=True)
                           for name in ("head", "check"))
            m.d.sync += [
                head.eq(reduce(xor, (part for low, part in parts.items() if low < end))),
                check.eq(moved ^ head),
                self.sound.eq(check == root(crc_step(_RESIDUE, 0, size - end))),
            ]
        return m

    def _parts(self, m, platform, end, root):
        """Return contributions of parts of the word by first byte; a part starts at ``end``."""
        size  = self._word_bytes
        parts = {}
        edges = sorted({*range(0, size, _CHUNK), end, size})
        for low, high in pairwise(edges):
            parts[low] = Signal(CRC_BITS, name=f"part{low}", reset_less=True)
            m.d.sync += parts[low].eq(linear_map(
                m, platform, f"byte{low}_", self.word[8 * low:8 * high], CRC_BITS,
                lambda bits, low=low: root(crc_step(0, bits << 8 * low, size))))
        return parts


class HeaderCrc(wiring.Component):
    """CRC-32 of a frame header, computed from the 14 bytes between the magic and the CRC.

    One byte is processed per cycle. ``crc`` is valid from :data:`LATENCY` cycles after ``start``
    until the next ``start``. ``data`` must be stable from ``start`` until ``done``.

    Members
    -------
    start : :py:`In(1)`
        Start the computation.
    data : :py:`In(112)`
        Header without magic and CRC.
    crc : :py:`Out(32)`
        CRC of the magic and ``data``.
    done : :py:`Out(1)`
        Set for one cycle, the first cycle in which ``crc`` is valid.
    """

    _BYTES  = HEADER_CRC_OFFSET - 2
    #: Cycles from ``start`` to ``done``.
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
        step = linear_map(m, platform, "state", state[:8] ^ byte, CRC_BITS,
                          lambda bits: crc_step(bits, 0, 1))
        with m.If(self.start):
            m.d.sync += state.eq(crc_step(_INIT, MAGIC, 2))
        with m.Elif(going):
            m.d.sync += state.eq((state >> 8) ^ step)
        m.d.comb += self.crc.eq(~state)

        return m
