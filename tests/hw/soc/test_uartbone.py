"""The model of the bridge that the driver's tests use, against LiteX's own bridge."""

import random

import pytest
from litex.soc.cores.uart import Stream2Wishbone
from migen.sim import run_simulation

from support.uartbone import Bridge

#: Clock at which the bridge gives up a command after 200 cycles.
CLOCK = 2000


def contents(index):
    return 0x9E3779B1 * (index + 1) & 0xFFFFFFFF


class Litex:
    """LiteX's bridge in Migen's simulator, in front of a memory."""

    def __init__(self, stalls):
        self.dut, self.stalls = Stream2Wishbone(clk_freq=CLOCK), stalls
        self.memory, self.writes, self.responses = {}, [], []

    def run(self, pieces):
        """Give pieces of bytes, each after the response to the one before; None is a pause."""
        def bus():
            wishbone = self.dut.wishbone
            yield from self._serve(wishbone)

        def line():
            for piece in pieces:
                if piece is None:
                    for _ in range(250):
                        yield
                    continue
                for byte in piece:
                    yield self.dut.sink.data.eq(byte)
                    yield self.dut.sink.valid.eq(1)
                    yield
                    while not (yield self.dut.sink.ready):
                        yield
                yield self.dut.sink.valid.eq(0)
                yield from self._response()
            self.done = True

        self.done = False
        run_simulation(self.dut, [bus(), line()])

    def _serve(self, bus):
        while not self.done:
            yield bus.ack.eq(0)
            yield
            if (yield bus.stb) and not (yield bus.ack) and not self.stalls():
                index = yield bus.adr
                if (yield bus.we):
                    self.memory[index] = yield bus.dat_w
                    self.writes.append((index, self.memory[index]))
                yield bus.dat_r.eq(self.memory.get(index, contents(index)))
                yield bus.ack.eq(1)
                yield

    def _response(self):
        """Collect bytes until none has come for some cycles."""
        found, quiet = bytearray(), 0
        yield self.dut.source.ready.eq(1)
        while quiet < 40:
            yield
            quiet += 1
            if (yield self.dut.source.valid):
                found.append((yield self.dut.source.data))
                quiet = 0
        self.responses.append(bytes(found))


def command(coin):
    """A command with a few words, sometimes of an unknown kind."""
    opcode, count = coin.choice((1, 1, 2, 2, 3, 4, 9)), coin.randint(1, 5)
    words = 4 * count if opcode in (1, 3) else 0
    return bytes([opcode, count]) + coin.randbytes(3) + bytes([coin.randrange(250)]) + (
        coin.randbytes(words))


@pytest.mark.parametrize("seed", range(3))
def test_the_model_equals_litex(seed):
    coin = random.Random(seed)
    pieces = []
    for _ in range(40):
        whole = command(coin)
        if coin.random() < 0.2:
            pieces += [whole[:coin.randint(1, len(whole) - 1)], None]       # it is given up
        else:
            pieces.append(whole)
    litex = Litex(stalls=lambda: coin.random() < 0.5)
    litex.run(pieces)

    memory, writes, clock = {}, [], [0.0]

    def write(index, value):
        memory[index] = value
        writes.append((index, value))

    bridge = Bridge(write, lambda index: memory.get(index, contents(index)), lambda: clock[0])
    responses = []
    for piece in pieces:
        if piece is None:
            clock[0] += 1
        else:
            responses.append(bridge.feed(piece))
    assert responses == litex.responses
    assert writes == litex.writes
    assert any(responses) and writes
