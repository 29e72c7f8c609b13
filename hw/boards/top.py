"""Top level of a board: clock, reset, serial line and LEDs."""

from functools import reduce

from amaranth import ClockDomain, ClockSignal, Elaboratable, Module, Signal
from amaranth.build import Platform, Subsignal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from tritstream.hw.boards.board import Board
from tritstream.hw.boards.pll import Pll
from tritstream.hw.config import DeviceConfig
from tritstream.hw.io.serial_device import SerialDevice
from tritstream.hw.io.uart import Line

__all__ = ["BoardTop"]

#: Shortest visible pulse of an LED, in seconds.
_BLINK = 1 / 20


class BoardTop(Elaboratable):
    """The device on the pins of a board.

    Parameters
    ----------
    board : tritstream.hw.boards.board.Board
        Board.
    config : DeviceConfig
        Build parameters. ``clock_hz`` must be the output of the PLL, or the clock of the board.
    line : Line
        Timing of the serial line.
    pll : Pll, optional
        Setting of the PLL.
    """

    def __init__(self, board: Board, config: DeviceConfig, line: Line,
                 pll: Pll | None = None) -> None:
        self._board  = board
        self._config = config
        self._line   = line
        self._pll    = pll

    def elaborate(self, platform: Platform) -> Module:
        m = Module()
        self._make_clock(m, platform)
        m.submodules.serial = serial = SerialDevice(self._config, self._line)

        uart = _request(platform, "uart")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [serial.rx.eq(rx.i), tx.o.eq(serial.tx)]

        seen = self._stretch(m, serial.busy)
        lights = self._request_lights(platform)
        levels = {"idle": ~seen, "busy": seen, "failed": serial.failed}
        for what, port in lights.items():
            m.submodules[what] = light = io.Buffer("o", port)
            m.d.sync += light.o.eq(levels[what])
        return m

    def _make_clock(self, m, platform):
        """Add the domain ``sync``, in reset until the PLL has locked."""
        port  = _request(platform, platform.default_clk)
        clock = Signal()
        lock  = Signal()
        if self._pll:
            self._pll.connect(m, port, clock, lock)
        else:
            m.submodules.clock_pin = pin = io.Buffer("i", port)
            m.d.comb += [clock.eq(pin.i), lock.eq(1)]
        m.domains.sync = ClockDomain("sync")
        m.d.comb += ClockSignal("sync").eq(clock)
        m.submodules.reset = ResetSynchronizer(~lock, domain="sync")
        platform.add_clock_constraint(clock, self._config.clock_hz)

    def _stretch(self, m, level):
        """Return ``level``, extended to a visible pulse."""
        left = Signal(range(int(self._config.clock_hz * _BLINK)))
        with m.If(level):
            m.d.sync += left.eq(~0)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return left != 0

    def _request_lights(self, platform):
        """Return the LED ports by name. Several ports may be parts of one resource."""
        wanted = self._board.lights
        ports  = {where: _request(platform, *where)
                  for where in dict.fromkeys(where[:2] for where in wanted.values())}
        return {what: reduce(getattr, where[2:], ports[where[:2]])
                for what, where in wanted.items()}


def _request(platform, name, number=0):
    """Return a resource as bare ports, for :mod:`amaranth.lib.io`."""
    parts = platform.lookup(name, number).ios
    bare  = {part.name: "-" for part in parts if isinstance(part, Subsignal)}
    return platform.request(name, number, dir=bare or "-")
