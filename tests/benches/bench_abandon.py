"""Abandon bench: frames that end in the middle, on the wires of the exported Verilog."""

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge

from tritstream.golden.fixed_point import mantissas
from tritstream.golden.gemv import gemv
from tritstream.golden.tiles import pack, word_stream
from tritstream.host.protocol.frames import HEADER_BYTES, Header, answer, request
from tritstream.hw.protocol import ErrorCode, Opcode

from benches.wires import start, unknown
from support.golden_cases import integer_matrix

LANES  = int(cocotb.plusargs["lanes"])
BLOCKS = 3
K      = 32
MATRIX = integer_matrix(5 * LANES * BLOCKS, K, 2)
X      = np.random.default_rng(1).integers(-128, 128, K, np.int8)
WORDS  = word_stream(pack(MATRIX), LANES).tobytes()
TABLE  = mantissas(MATRIX.table).astype("<u4").tobytes()


def requests(sequence):
    """SCALES, ACTIVATIONS and GEMV."""
    sizes = MATRIX.depth | K // 16 << 8 | 1 << 24
    return [b"".join(map(bytes, request(*fields))) for fields in (
        (Opcode.SCALES, sequence, 0, 0, TABLE),
        (Opcode.ACTIVATIONS, sequence + 1, 0, K, X.tobytes()),
        (Opcode.GEMV, sequence + 2, sizes, BLOCKS, WORDS))]


class Wires:
    """Both streams of the device, and its lights.

    Members
    -------
    answers : list of (Header, bytes, bool)
        Header and payload of each, and whether the light for failures was on after it.
    """

    def __init__(self, dut, share):
        self.answers = []
        self._dut    = dut
        self._rng    = np.random.default_rng(3)
        self._share  = share
        cocotb.start_soon(self._sink())

    async def send(self, data):
        for low in range(0, len(data), LANES):
            self._dut.i__payload.value = int.from_bytes(data[low:low + LANES], "little")
            self._dut.i__valid.value   = 1
            await RisingEdge(self._dut.clk)
            while not int(self._dut.i__ready.value):
                await RisingEdge(self._dut.clk)
        self._dut.i__valid.value = 0
        self._dut.i__payload.value = unknown(self._dut.i__payload)

    async def abandon(self):
        self._dut.abandon.value = 1
        await RisingEdge(self._dut.clk)
        while not int(self._dut.abandoned.value):
            await RisingEdge(self._dut.clk)
        self._dut.abandon.value = 0

    async def finish(self):
        """Wait until the device is idle and has sent all responses."""
        await ClockCycles(self._dut.clk, 1500)
        assert not int(self._dut.busy.value)

    async def _sink(self):
        data = b""
        while True:
            ready = self._rng.random() >= self._share
            self._dut.o__ready.value = int(ready)
            await RisingEdge(self._dut.clk)
            if ready and int(self._dut.o__valid.value):
                word = int(self._dut.o__payload.value)
                data += (word & (1 << 8 * LANES) - 1).to_bytes(LANES, "little")
                if word >> 8 * LANES:
                    header = Header.parse(data)
                    payload = answer(header, data[HEADER_BYTES:], LANES).payload
                    self.answers.append((header, payload, bool(int(self._dut.failed.value))))
                    data = b""


def check_product(answers, sequence):
    """Answers to :func:`requests`."""
    found = [(header.opcode, header.sequence) for header, _, _ in answers]
    assert found == [(Opcode.ACK, sequence), (Opcode.ACK, sequence + 1),
                     *[(Opcode.RESULT, sequence + 2)] * BLOCKS, (Opcode.DONE, sequence + 2)]
    sums = np.frombuffer(b"".join(payload for _, payload, _ in answers[2:2 + BLOCKS]), "<i8")
    np.testing.assert_array_equal(sums, gemv(MATRIX, X))


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(which=[0, 1, 2], at=[16, 64, 180, 700])
async def a_frame_ends_early(dut, which, at):
    await start(dut)
    wires, first = Wires(dut, 0.7), requests(1)
    at = min(at, len(first[which]) - 128)
    for data in (*first[:which], first[which][:at]):
        await wires.send(data)
    await wires.abandon()
    for data in requests(11):
        await wires.send(data)
    await wires.finish()
    opcode = Header.parse(first[which]).opcode
    error = (0, ErrorCode.NO_HEADER, 0) if at < HEADER_BYTES else (
        1 + which, ErrorCode.TRAILER, opcode)
    whole = (at - 64) // (len(WORDS) // BLOCKS) if which == 2 and at > 64 else 0
    *before, (refusal, _, light) = wires.answers[:-3 - BLOCKS]
    assert [header.opcode for header, _, _ in before] == (
        [Opcode.ACK] * which + [Opcode.RESULT] * whole)
    assert (refusal.opcode, refusal.sequence, refusal.arg0, refusal.arg1) == (
        Opcode.ERROR, *error)
    assert light
    check_product(wires.answers[-3 - BLOCKS:], 11)
    assert not wires.answers[-1][2]


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(share=[0.0, 0.9])
async def whole_frames_are_not_abandoned(dut, share):
    await start(dut)
    wires = Wires(dut, share)
    for data in requests(1):
        await wires.send(data)
        await wires.abandon()
    await wires.finish()
    check_product(wires.answers, 1)
    assert not any(light for _, _, light in wires.answers)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def only_padding_is_missing(dut):
    await start(dut)
    wires = Wires(dut, 0.5)
    for data in requests(1):
        await wires.send(data[:-64 + max(LANES, 4)])
        await wires.abandon()
    await wires.finish()
    check_product(wires.answers, 1)
