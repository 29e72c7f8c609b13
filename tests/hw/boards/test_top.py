"""The top level of a board in simulation: its clock, its line and its lights."""

from types import SimpleNamespace
from typing import ClassVar

from amaranth import Module, Signal
from amaranth.hdl import Elaboratable, Fragment
from amaranth.lib.io import SimulationPort
from amaranth.sim import Simulator

from tritstream.hw.boards import top
from tritstream.hw.config import DeviceConfig
from tritstream.hw.io.uart import Line

LIGHTS = ("idle", "busy", "failed")


class Serial(Elaboratable):
    """Ports of a :class:`.SerialDevice`, which the test drives."""

    def __init__(self, *_):
        self.rx, self.tx, self.busy, self.failed = Signal(), Signal(), Signal(), Signal()

    def elaborate(self, _):
        return Module()


class Platform:
    """A platform with simulated pins."""

    default_clk = "clk"

    def __init__(self):
        self.pins = {("clk", 0): SimulationPort("i", 1),
                     ("uart", 0): SimpleNamespace(rx=SimulationPort("i", 1),
                                                  tx=SimulationPort("o", 1)),
                     **{("led", number): SimulationPort("o", 1) for number in range(3)}}

    def lookup(self, *_):
        return SimpleNamespace(ios=[])

    def request(self, name, number, dir):
        assert dir == "-"
        return self.pins[name, number]

    def add_clock_constraint(self, *_):
        pass


class Board(Elaboratable):
    """The top level, with a device that the test drives."""

    lights: ClassVar = {name: ("led", number) for number, name in enumerate(LIGHTS)}

    def __init__(self, monkeypatch):
        self.serial, self.platform = Serial(), Platform()
        monkeypatch.setattr(top, "SerialDevice", lambda *_: self.serial)

    def elaborate(self, _):
        config = DeviceConfig(1, 1, 16, clock_hz=1000)
        return Fragment.get(top.BoardTop(self, config, Line(8)), self.platform)


def test_lights_and_line(monkeypatch):
    board, lit = Board(monkeypatch), []
    pins, serial = board.platform.pins, board.serial

    async def drive(ctx):
        async def cycle():
            for level in (1, 0):
                ctx.set(pins["clk", 0].i, level)
                await ctx.delay(1e-6)
            lit.append(tuple(ctx.get(pins["led", number].o) for number in range(3)))

        for _ in range(8):      # out of reset
            await cycle()
        for level in (0, 1):
            ctx.set(pins["uart", 0].rx.i, level)
            ctx.set(serial.tx, level)
            ctx.set(serial.failed, level)
            await cycle()
            assert (ctx.get(serial.rx), ctx.get(pins["uart", 0].tx.o)) == (level, level)
            assert lit[-1] == (1, 0, level)
        lit.clear()
        for busy in [1, *100 * [0], *5 * [1], *100 * [0]]:
            ctx.set(serial.busy, busy)
            await cycle()

    simulator = Simulator(board)
    simulator.add_testbench(drive)
    simulator.run()
    # A twentieth of a second is 50 cycles of this clock, and a power of two from there on.
    off, on = (1, 0, 1), (0, 1, 1)
    assert lit == [off, *63 * [on], *38 * [off], *67 * [on], *37 * [off]]
