"""Software for the memory-mapped core in a cocotb bench, with memories of cocotbext-axi."""

import logging
import struct
from functools import partial

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from tritstream.hw.axi.registers import Error, register
from tritstream.hw.axi.top import master

from support.frames import split_frame

__all__ = ["RING", "SIZE", "WINDOW", "Channel", "Host"]

#: Bytes of the memory of a channel, whose second half begins with the ring.
SIZE, RING = 1 << 23, 1 << 12
#: Bytes that descriptors may name.
WINDOW = SIZE // 2
_BASE, _RING_AT = 0x7_0000_0000, 0x8_0000_0000 + WINDOW


class Host:
    """Registers of a core, and its channels.

    Parameters
    ----------
    dut
        Core after reset.
    lanes, channels : int
    seed : int
    stalls : float
        Share of cycles in which each AXI channel pauses.
    memory : class
        Memory of a channel.
    """

    def __init__(self, dut, lanes, channels, seed, stalls=0.0, memory=AxiRam):
        self.dut = dut
        pins = dut.aclk, dut.aresetn, False
        self.registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), *pins)
        parts = [self.registers.write_if, self.registers.read_if]
        self.channels = [Channel(self, number, lanes, pins, memory) for number in range(channels)]
        parts += [part for channel in self.channels
                  for part in (channel.ram.write_if, channel.ram.read_if) if part]
        rng = np.random.default_rng(seed)
        for part in parts:
            part.log.setLevel(logging.ERROR)
            for name in ("aw_channel", "w_channel", "b_channel", "ar_channel", "r_channel"):
                if stalls and hasattr(part, name):
                    getattr(part, name).set_pause_generator(
                        iter(partial(_pauses, rng.spawn(1)[0], stalls), None))
        cocotb.start_soon(self._watch())

    async def get(self, name, channel=None):
        """Read a register of a channel, or a global one."""
        return await self.registers.read_dword(register(name, channel))

    async def put(self, name, value, channel=None):
        """Write a register."""
        await self.registers.write_dword(register(name, channel), value)

    async def _watch(self):
        """Assert that what is offered is held, and that nothing is offered in reset."""
        dut   = self.dut
        sides = [(channel.number, kind, payload) for channel in self.channels
                 for kind, payload in (("ar", ("araddr", "arlen")), ("aw", ("awaddr", "awlen")),
                                       ("w", ("wdata", "wlast")))]
        held = {}
        while True:
            await RisingEdge(dut.aclk)
            quiet = not int(dut.aresetn.value)
            for side in sides:
                number, kind, names = side
                pin = partial(_pin, dut, master(number))
                valid = int(pin(f"{kind}valid").value)
                assert not (quiet and valid), f"{kind}valid in reset"
                offer = [int(pin(name).value) for name in names] if valid else None
                if held.get(side):
                    assert quiet or offer == held[side], f"{kind} was withdrawn"
                held[side] = None if int(pin(f"{kind}ready").value) or quiet else offer


def _pauses(rng, share):
    return rng.random() < share


def _pin(dut, prefix, name):
    return getattr(dut, f"{prefix}_{name}")


class Channel:
    """A channel, its memory, and what software knows of it."""

    def __init__(self, host, number, lanes, pins, memory):
        self.host, self.number, self.lanes = host, number, lanes
        bus = AxiBus.from_prefix(host.dut, master(number))
        self.ram = memory(bus, *pins, size=SIZE)
        self.base, self.ring = _BASE + (number << 40), _RING_AT + (number << 40)
        self.tail = self.seen = self.session = 0
        self.free = 0

    async def get(self, name):
        return await self.host.get(name, self.number)

    async def put(self, name, value):
        await self.host.put(name, value, self.number)

    async def setup(self):
        """Write where memory and ring are."""
        for name, value in (("base", self.base), ("ring", self.ring)):
            await self.put(f"{name}_low", value & 0xFFFFFFFF)
            await self.put(f"{name}_high", value >> 32)
        await self.put("memory", WINDOW // 64)
        await self.put("ring", RING)

    async def restart(self):
        """Begin a session."""
        session = await self.get("session")
        await self.put("restart", session + 1)
        for _ in range(1000):
            if await self.get("session") == session + 1:
                break
        else:
            raise AssertionError("the channel does not restart")
        self.tail, self.seen = await self.get("tail"), await self.get("written")
        self.free = 0
        assert await self.get("head") == self.tail and await self.get("taken") == self.seen

    async def push(self, address, length):
        """Give a descriptor, in bytes; return the reason if it is refused."""
        await self.put("address", address // 64)
        await self.put("length", length // 64)
        await self.put("index", self.tail)
        refused = await self.get("refused")
        self.tail += not refused
        assert await self.get("tail") == self.tail
        return refused

    def store(self, frame):
        """Write a frame to memory; return its place."""
        place, self.free = self.free, self.free + len(frame)
        assert self.free <= WINDOW
        self.ram.write((self.base + place) % SIZE, frame)
        return place

    async def ask(self, *frames):
        """Run request frames, each of which gets a descriptor."""
        for frame in frames:
            assert not await self.push(self.store(frame), len(frame))

    async def answers(self, count):
        """Wait for ``count`` response frames, and release their place."""
        found, data = [], bytearray()

        def pull(size):
            part = bytes(data[:size])
            del data[:size]
            return part

        while len(found) < count:
            await self._arrival()
            written = await self.get("written")
            units = RING // self.lanes
            for at in range(self.seen, written):
                data += self.ram.read((self.ring + at % units * self.lanes) % SIZE, self.lanes)
            self.seen = written
            await self.put("take", written)
            while len(data) >= 20 and len(data) >= frame_bytes(data, self.lanes):
                found.append(split_frame(pull, self.lanes))
        assert not data and len(found) == count, f"{len(found)} answers, {len(data)} bytes"
        return found

    async def _arrival(self):
        for _ in range(4000):
            if await self.get("written") != self.seen:
                return
            error = await self.get("error")
            assert not error, f"channel {self.number} halted: {Error(error)!r}"
        raise AssertionError(f"channel {self.number} gives no answer")

    async def settle(self):
        """Wait until nothing happens any more."""
        for _ in range(1000):
            await ClockCycles(self.host.dut.aclk, 50)
            if await self.get("status") & 0b1010:
                return
        raise AssertionError("the channel does not settle")


def frame_bytes(data, lanes):
    """Return the bytes of the response frame that starts with ``data``."""
    length, = struct.unpack_from("<I", data, 12)
    return sum(size + -size % lanes for size in (20, length, 4))


