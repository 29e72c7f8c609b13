"""UART: receiver and transmitter for eight data bits, no parity, one stop bit."""

from dataclasses import dataclass
from fractions import Fraction

from amaranth import C, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from tritstream.hw.protocol import BYTE_BITS, IDLE_BYTES

__all__ = ["Line", "Received", "UartReceiver", "UartTransmitter"]

_MIN_CYCLES = 4
_MAX_STEP   = 64

#: Byte, or (``gap``) notice that the line was interrupted or idle. A gap carries no byte.
Received = StructLayout({"data": 8, "gap": 1})


@dataclass(frozen=True)
class Line:
    """Timing of a serial line.

    Parameters
    ----------
    bit_cycles : float
        Clock cycles per bit, at least 4; may be a fraction.
    idle_bytes : int
        Silence, in byte times, that counts as a gap.

    Raises
    ------
    ValueError
        The clock is too slow for the baud rate.
    """

    bit_cycles: float
    idle_bytes: int = IDLE_BYTES

    def __post_init__(self) -> None:
        if self.bit_cycles < _MIN_CYCLES:
            raise ValueError(f"a UART needs {_MIN_CYCLES} clock cycles per bit, not "
                             f"{self.bit_cycles:.3g}: raise the clock or lower the baud rate")


class _BitClock(wiring.Component):
    """Clock divider that ticks once per bit.

    The number of cycles between two ticks varies by one, so that a fractional bit time is exact on
    average.

    Parameters
    ----------
    line : Line
        Timing of the serial line.

    Members
    -------
    restart : :py:`In(1)`
        An edge was detected. The next tick is half a bit after the edge.
    tick : :py:`Out(1)`
        Set for one cycle per bit.
    """

    def __init__(self, line: Line) -> None:
        self._cycles = Fraction(line.bit_cycles).limit_denominator(_MAX_STEP)
        super().__init__({"restart": In(1), "tick": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bit, step = self._cycles.numerator, self._cycles.denominator
        phase = Signal(range(bit))
        m.d.sync += [phase.eq(phase + step), self.tick.eq(phase >= bit - step)]
        with m.If(phase >= bit - step):
            m.d.sync += phase.eq(phase + step - bit)
        with m.If(self.restart):
            # Edge detection and tick are two cycles late.
            m.d.sync += [phase.eq(bit // 2 + 2 * step - 1), self.tick.eq(0)]
        return m


class UartReceiver(wiring.Component):
    """Receiver of bytes and gaps.

    A gap is reported for a break, which is a zero byte without stop bit, and once when the line has
    been idle for ``line.idle_bytes`` byte times. Any other byte without stop bit is passed on,
    because the CRC of its frame detects the error. There is no flow control: bytes that arrive
    while ``o`` is blocked are lost.

    Parameters
    ----------
    line : Line
        Timing of the serial line.

    Members
    -------
    rx : :py:`In(1)`
        Serial line, asynchronous, high when idle.
    o : :py:`Out(stream.Signature(Received))`
        Bytes and gaps.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        super().__init__({
            "rx": In(1, init=1),
            "o":  Out(stream.Signature(Received)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.clock = clock = _BitClock(self._line)
        idle_bits = BYTE_BITS * self._line.idle_bytes
        line   = Signal(init=1)
        byte   = Signal(8)
        bit    = Signal(range(8))
        idle   = Signal(range(idle_bits + 1), init=idle_bits)
        ended  = Signal()       # ``byte`` is complete
        gap    = Signal()       # a gap starts
        m.submodules.line = FFSynchronizer(self.rx, line, init=1)

        with m.FSM():
            with m.State("Idle"):
                with m.If(~line):
                    m.d.comb += clock.restart.eq(1)
                    m.next = "Start"
                with m.Elif(clock.tick & (idle != idle_bits)):
                    m.d.sync += idle.eq(idle + 1)
                    m.d.comb += gap.eq(idle == idle_bits - 1)

            with m.State("Start"):
                with m.If(clock.tick):
                    m.next = "Idle"
                    with m.If(~line):
                        m.d.sync += [bit.eq(0), idle.eq(0)]
                        m.next = "Data"

            with m.State("Data"):
                with m.If(clock.tick):
                    m.d.sync += [byte.eq(Cat(byte[1:], line)), bit.eq(bit + 1)]
                    with m.If(bit == 7):
                        m.next = "Stop"

            with m.State("Stop"):
                with m.If(clock.tick):
                    m.d.comb += [ended.eq(line | (byte != 0)), gap.eq(~ended)]
                    # The next start bit may start in the next cycle.
                    m.next = "Idle"
                    with m.If(~line):
                        m.next = "Low"

            with m.State("Low"):
                with m.If(line):
                    m.next = "Idle"

        self._offer(m, byte, ended, gap)
        return m

    def _offer(self, m, byte, ended, gap):
        """Offer bytes and gaps in order. A gap waits until ``o`` is free."""
        due = Signal()
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [
                self.o.valid.eq(ended | due),
                self.o.p.data.eq(byte),
                self.o.p.gap.eq(due),
                due.eq(0),
            ]
        with m.If(gap):
            m.d.sync += due.eq(1)


class UartTransmitter(wiring.Component):
    """Transmitter of bytes, one per ten bit times.

    Parameters
    ----------
    line : Line
        Timing of the serial line.

    Members
    -------
    i : :py:`In(stream.Signature(8))`
        Bytes.
    tx : :py:`Out(1)`
        Serial line, high when idle.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        super().__init__({
            "i":  In(stream.Signature(8)),
            "tx": Out(1, init=1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.clock = clock = _BitClock(self._line)
        bits = Signal(8)
        left = Signal(range(BYTE_BITS))     # bits after the current bit
        m.d.comb += self.i.ready.eq(clock.tick & (left == 0))
        with m.If(clock.tick & (left != 0)):
            m.d.sync += [Cat(self.tx, bits).eq(Cat(bits, C(1, 1))), left.eq(left - 1)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [self.tx.eq(0), bits.eq(self.i.payload), left.eq(BYTE_BITS - 1)]
        return m
