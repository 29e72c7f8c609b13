"""Read leveling of a DDR3 memory, on a model that works only at given settings."""

import asyncio
import random

import pytest

from tritstream.host.board.dram_leveling import level, works
from tritstream.host.errors import TransportClosed
from tritstream.hw.soc.registers import CSR, CSR_BASE, CSR_STEP, MEMORY

PHY = CSR_BASE + CSR_STEP * CSR.index("ddrphy")
SELECT, DELAY_RESET, DELAY, SLIP_RESET, SLIP = range(PHY, PHY + 20, 4)


class Memory:
    """A board's bus: two bytes wide, with the counters of LiteDRAM's PHY for an ECP5.

    ``good`` has, per byte, the settings (slip, delay) at which it reads correctly. ``twice`` is the
    share of writes to registers that are duplicated.
    """

    def __init__(self, good, twice=0.0):
        self.good, self.twice, self.coin = good, twice, random.Random(1)
        self.data, self.select = {}, 0
        self.slips, self.delays = [3, 1], [5, 6]        # whatever is there at power-on

    async def write(self, address, data):
        if address >= CSR_BASE:
            for _ in range(1 + (self.coin.random() < self.twice)):
                self.step(address, int.from_bytes(data, "little"))
        else:
            self.data.update(enumerate(data, address))

    def step(self, address, value):
        if address == SELECT:
            self.select = value
        for module in (0, 1):
            if self.select >> module & 1:
                if address in (SLIP, SLIP_RESET):
                    self.slips[module] = (self.slips[module] + 1) % 4 if address == SLIP else 0
                if address in (DELAY, DELAY_RESET):
                    self.delays[module] = (self.delays[module] + 1) % 8 if address == DELAY else 0

    async def read(self, address, size):
        right = [(self.slips[module], self.delays[module]) in self.good[module]
                 for module in (0, 1)]
        return bytes(self.data[at] ^ (0 if right[at % 2] else 0x5A)
                     for at in range(address, address + size))


def test_each_byte_gets_the_middle_of_its_widest_window():
    memory = Memory([{(1, 6), (2, 1), (2, 2), (2, 3), (2, 4), (2, 5)}, {(0, 0), (0, 1), (0, 2)}])
    assert not asyncio.run(works(memory, MEMORY))
    assert asyncio.run(level(memory, 2, MEMORY)) == [(2, 3), (0, 1)]
    assert (memory.slips, memory.delays, memory.select) == ([2, 0], [3, 1], 0)
    assert asyncio.run(works(memory, MEMORY))


def test_a_duplicated_step_is_detected():
    memory = Memory([{(1, 3)}, {(1, 4)}], twice=0.02)
    asyncio.run(level(memory, 2, MEMORY))
    assert asyncio.run(works(memory, MEMORY))


def test_a_memory_that_never_works():
    with pytest.raises(TransportClosed, match=r"^the board's memory works at no delay of its PHY: "
                                              r"check the board$"):
        asyncio.run(level(Memory([{(0, 0)}, set()]), 2, MEMORY))
