"""Serial bench: the device behind its UART pins, a UART that is not ours, and the real command.

The far end of the pins is a pseudo-terminal, which the command opens as it would open a board's
serial port; it runs in a process of its own. Nothing here depends on how fast either is: simulated
time passes only while the command waits for an answer, and its silence is one of simulated time
(:mod:`benches.patient`).
"""

import json
import logging
import os
import select
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cocotb
from cocotb.triggers import Timer
from cocotbext.uart import UartSink, UartSource

from tritstream.host.protocol.frames import Header, padded
from tritstream.hw.protocol import IDLE_BYTES, REQUEST_ALIGN, Opcode

from benches.wires import PERIOD_NS, start

BIT_NS = PERIOD_NS * int(cocotb.plusargs["bit_cycles"])
#: Offset in the payload of a GEMV of the byte that is damaged.
HARMED = 37
#: GEMVs of the command that have to be refused.
WRONG_GEMVS = 2
REPORT = Path("selftest.json")
#: Byte times carried at once.
STEP = 10
#: Byte times of silence after which the bench notifies the command. Long before, a device has
#: abandoned its frame and has responded.
SILENCE = 4 * IDLE_BYTES
#: Seconds after which the command is taken to hang.
HANG = 600


class Cable:
    """Pseudo-terminal connected to the pins of a device, with faults on the line.

    Parameters
    ----------
    harms : iterable
        Faults for a byte of every other GEMV, after the invalid requests.
    """

    def __init__(self, dut, harms=()):
        self._master, self._slave = os.openpty()
        self._side, self.side = socket.socketpair()
        self._waits = b""               # number of the command's wait, if it waits
        self._quiet = 0                 # byte times without a byte
        self.port = os.ttyname(self._slave)
        self._rx     = dut.rx
        self._source = UartSource(dut.rx, baud=1e9 / BIT_NS)
        self._sink   = UartSink(dut.tx, baud=1e9 / BIT_NS)
        for end in (self._source, self._sink):
            end.log.setLevel(logging.WARNING)
        self._harms = [harm for each in harms for harm in (each, Cable.whole)]
        self._wrong = WRONG_GEMVS
        self._frame = bytearray()       # the request under way
        self._lose  = False             # the next byte of an answer

    async def carry(self):
        """Carry what there is, for some byte times; wait for the command if it is its turn."""
        come = select.select([self._master, self._side], [], [], 0 if self._passes() else HANG)[0]
        assert come or self._passes(), f"the command did nothing for {HANG} s"
        if self._side in come:
            self._waits, self._quiet = self._side.recv(256)[-1:], 0
        for byte in os.read(self._master, 4096) if self._master in come else b"":
            self._quiet = 0
            await self._harm(byte)(self, byte)
        if self._passes():
            await self._pass()

    def _passes(self):
        """Return whether simulated time passes: bytes are on the line, or the command waits for
        bytes and has sent complete requests.
        """
        return not (self._source.idle() and self._sink.idle()) or (
            bool(self._waits) and not self._frame)

    async def _pass(self):
        await Timer(STEP * 10 * BIT_NS, "ns")
        self._quiet = self._quiet + STEP if self._source.idle() and self._sink.idle() else 0
        for byte in self._sink.read_nowait():
            self._quiet = 0
            if not self._lose:
                os.write(self._master, bytes([byte]))
                self._waits = b""
            self._lose = False
        if self._waits and self._quiet > SILENCE:
            self._side.send(self._waits)
            self._waits, self._quiet = b"", 0

    def close(self):
        assert not self._harms, f"{len(self._harms)} more GEMVs were expected"
        os.close(self._master)
        os.close(self._slave)
        self._side.close()

    def _harm(self, byte):
        """Return the fault for this byte of a request."""
        self._frame.append(byte)
        if len(self._frame) <= REQUEST_ALIGN:
            return Cable.whole
        header = Header.parse(self._frame)
        at = len(self._frame) - REQUEST_ALIGN
        if at == REQUEST_ALIGN + padded(header.length, REQUEST_ALIGN):
            self._frame.clear()
        if header.opcode != Opcode.GEMV or at != HARMED:
            return Cable.whole
        self._wrong -= 1
        return self._harms.pop(0) if self._wrong < 0 and self._harms else Cable.whole

    async def whole(self, byte):
        self._source.write_nowait([byte])

    async def lost(self, byte):
        pass

    async def doubled(self, byte):
        self._source.write_nowait([byte, byte])

    async def flipped(self, byte):
        self._source.write_nowait([byte ^ 0x10])

    async def broken(self, byte):
        """A break in place of the byte."""
        await self._source.wait()
        self._rx.value = 0
        await Timer(12 * BIT_NS, "ns")
        self._rx.value = 1
        await Timer(2 * BIT_NS, "ns")

    async def unheard(self, byte):
        """The next byte of an answer is lost."""
        await self.whole(byte)
        self._lose = True


async def selftest(dut, jobs, harms=()):
    """Run ``tritstream hw selftest`` on the device; its report."""
    await start(dut)
    cable = Cable(dut, harms)
    command = [sys.executable, "-m", "benches.patient", cable.side.fileno(), "hw", "selftest",
               "--port", cable.port, "--jobs", jobs, "--size", 2000, "--json", "-o", REPORT]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, pass_fds=[cable.side.fileno()]) as process:
        cable.side.close()      # the command's alone: its end is seen
        with suppress(ConnectionError):     # it has ended
            while process.poll() is None:
                await cable.carry()
        out, err = process.communicate()
    assert process.returncode == 0, err
    cable.close()
    report = json.loads(out)
    assert report == json.loads(REPORT.read_text())
    return report


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def the_command_finds_the_board_right(dut):
    report = await selftest(dut, 4)
    info = {name: int(cocotb.plusargs[name]) for name in (
        "lanes", "columns", "max_k", "clock_hz", "build_id")}
    assert report["device"] == {"version": 2, **info}
    assert report["retries"] == 0
    assert report["soak"]["jobs"] == 4
    assert report["counters"]["frames_bad"] == 5


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def harm_on_the_line_is_made_good(dut):
    harms  = (Cable.lost, Cable.doubled, Cable.flipped, Cable.broken, Cable.unheard)
    report = await selftest(dut, 2, harms)
    assert report["retries"] == len(harms)
