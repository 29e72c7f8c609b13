"""The driver's transport in a cocotb bench: stalls on both sides, and checks on the wires."""

from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tritstream.host.errors import TransportTimeout
from tritstream.host.protocol.frames import Header, padded, rest_bytes
from tritstream.host.transports.base import Transport
from tritstream.hw.protocol import HEADER_BYTES, REQUEST_ALIGN

from benches.wires import reset, unknown

__all__ = ["QUIET_CYCLES", "BenchTransport"]

#: Number of cycles without a word in either direction after which a device is silent.
QUIET_CYCLES = 2000


class BenchTransport(Transport):
    """Transport over the streams ``i`` and ``o`` of a device under test.

    The payload is X while no word is offered. The transport also asserts that an offered
    response word is stable until it is taken, and that ``last`` marks exactly the last word of each
    response.

    Parameters
    ----------
    dut
        Device after reset.
    lanes : int
    seed : int
    source, sink : float
        Share of cycles in which no request word is offered, and in which no response is taken.

    Members
    -------
    clk
        Clock of the device.
    requests, answers : list of Header
        Headers of the sent and of the received frames.
    damage : set of int
        Opcodes whose next request gets a wrong trailer.
    """

    def __init__(self, dut, lanes, seed, source=0.0, sink=0.0):
        self.requests = []
        self.answers  = []
        self.damage   = set()
        self._dut     = dut
        self._lanes   = lanes
        self._due     = 0               # bytes of a request that are still to be sent
        self._frame   = bytearray()     # of an answer, up to now
        self._bytes   = bytearray()     # of answers, for recv
        self._offered = None            # answer word that waits
        self._quiet   = 0
        rngs = np.random.default_rng(seed).spawn(2)
        self._connect(*(iter(lambda rng=rng, share=share: rng.random() < share, None)
                        for rng, share in zip(rngs, (source, sink), strict=True)))

    def _connect(self, source_stalls, sink_stalls):
        """Start what drives the wires; both parameters give a bool for each cycle."""
        self.clk    = self._dut.clk
        self._words  = deque()
        self._stalls = source_stalls, sink_stalls
        self._tasks  = [cocotb.start_soon(self._source(source_stalls)),
                        cocotb.start_soon(self._sink(sink_stalls))]

    async def reset(self):
        """Pull the reset pin, whatever is under way, and forget that as the device does."""
        for task in self._tasks:
            task.cancel()
        self._dut.i__valid.value = 0
        await reset(self._dut)
        self._forget()
        self._connect(*self._stalls)

    def _forget(self):
        self._due, self._quiet, self._offered = 0, 0, None
        self._frame.clear()
        self._bytes.clear()

    async def send(self, data):
        """Queue words: :meth:`tritstream.host.transports.base.Transport.send`."""
        data = self._damaged(bytes(data))
        assert len(data) % self._lanes == 0, f"{len(data)} bytes are no whole words"
        self._quiet = 0
        self._offer(data)

    async def recv(self, count):
        """Receive bytes: :meth:`tritstream.host.transports.base.Transport.recv`."""
        while len(self._bytes) < count:
            await RisingEdge(self.clk)
            if self._quiet > QUIET_CYCLES:
                raise TransportTimeout(f"quiet for {QUIET_CYCLES} cycles")
        data = bytes(self._bytes[:count])
        del self._bytes[:count]
        return data

    def close(self):
        """Do nothing, because the simulator ends with the test."""

    async def finish(self):
        """Assert that every request word was taken, and that no unexpected response comes."""
        for _ in range(500):
            await RisingEdge(self.clk)
        assert not self._left(), "the last request words were never taken"
        assert not self._frame, f"the last answer is not whole: {self._frame.hex()}"
        assert not self._bytes, f"extra answer bytes: {self._bytes.hex()}"

    def _damaged(self, data):
        """Count the requests, and return the data, with the faults that are planned for them."""
        data, at = bytearray(data), 0
        while at < len(data):
            if not self._due:
                header = Header.parse(bytes(data[at:at + HEADER_BYTES]))
                self.requests.append(header)
                self._due = 2 * REQUEST_ALIGN + padded(header.length, REQUEST_ALIGN)
            taken = min(self._due, len(data) - at)
            at += taken
            self._due -= taken
            opcode = self.requests[-1].opcode
            if not self._due and opcode in self.damage:
                self.damage.remove(opcode)
                data[at - REQUEST_ALIGN] ^= 0x10
        return bytes(data)

    def _offer(self, data):
        self._words.extend(
            int.from_bytes(data[at:at + self._lanes], "little")
            for at in range(0, len(data), self._lanes))

    def _left(self):
        """Return whether request words wait to be offered."""
        return bool(self._words)

    async def _source(self, stalls):
        dut = self._dut
        dut.i__valid.value = 0
        while True:
            if not self._words or next(stalls):
                dut.i__payload.value = unknown(dut.i__payload)
                await RisingEdge(dut.clk)
                continue
            dut.i__payload.value = self._words.popleft()
            dut.i__valid.value   = 1
            await RisingEdge(dut.clk)
            while not int(dut.i__ready.value):
                await RisingEdge(dut.clk)
            self._quiet = 0
            dut.i__valid.value = 0

    async def _sink(self, stalls):
        dut, bits = self._dut, 8 * self._lanes
        while True:
            ready = not next(stalls)
            dut.o__ready.value = int(ready)
            await RisingEdge(dut.clk)
            self._quiet += 1
            now = int(dut.o__payload.value) if int(dut.o__valid.value) else None
            self._check_hold(now, ready)
            if ready and now is not None:
                self._quiet = 0
                self._frame += (now & (1 << bits) - 1).to_bytes(self._lanes, "little")
                if now >> bits:
                    self._end_frame()

    def _check_hold(self, now, ready):
        """Check that a word that was offered and not taken in the last cycle is still offered."""
        assert self._offered in (None, now), (
            f"answer word {self._offered!r} became {now!r} before it was taken")
        self._offered = None if ready else now

    def _end_frame(self):
        """``last`` has ended a frame: its header tells how long it had to be."""
        header = Header.parse(self._frame) if len(self._frame) >= HEADER_BYTES else None
        assert header, f"last after {len(self._frame)} bytes that hold no header"
        expected = HEADER_BYTES + rest_bytes(header, self._lanes)
        assert len(self._frame) == expected, (
            f"last after {len(self._frame)} bytes of opcode 0x{header.opcode:02x}, not {expected}")
        self.answers.append(header)
        self._bytes += self._frame
        self._frame.clear()
