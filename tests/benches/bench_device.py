"""Device bench: the driver, unchanged, over the wires of the exported Verilog."""

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles
from cocotb.utils import get_sim_time

from tritstream.golden.fixed_point import half_range
from tritstream.golden.gemv import gemv
from tritstream.golden.matrix import TritMatrix
from tritstream.host.device import Device
from tritstream.host.errors import DeviceError
from tritstream.host.layout.cost import gemv_cost
from tritstream.host.protocol.exchange import Exchange
from tritstream.host.protocol.frames import request
from tritstream.host.protocol.records import Counters, Info
from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import VERSION, ErrorCode, GemvArguments, Opcode

from benches.axi import PINS, AxiTransport
from benches.transport import BenchTransport
from benches.wires import PERIOD_NS, start
from support.gemv_words import GemvWords
from support.golden_cases import integer_matrix

CONFIG = DeviceConfig(*(int(cocotb.plusargs[name]) for name in (
    "lanes", "columns", "max_k", "clock_hz", "build_id")))
#: The IP core, or the device as it is simulated.
AXI = bool(int(cocotb.plusargs["axi"]))
#: Rows of a row block.
BLOCK = 5 * CONFIG.lanes
#: Shares of cycles in which source and sink pause.
STALLS = {"none": (0.0, 0.0), "both": (0.3, 0.3), "source": (0.6, 0.0), "sink": (0.0, 0.6)}


async def connected(dut, seed, stalls="both", retries=0):
    """Driver and transport of a device after reset."""
    await start(dut, **PINS if AXI else {})
    transport = (AxiTransport if AXI else BenchTransport)(dut, CONFIG.lanes, seed, *STALLS[stalls])
    return Device(transport, retries), transport


def vectors(seed, *shape):
    return np.random.default_rng(seed).integers(-128, 128, shape, dtype=np.int8)


def check(what, sums, expected):
    """Row sums (N,) or (B, N) are equal."""
    assert sums.shape == expected.shape, f"{what}: shape {sums.shape}, not {expected.shape}"
    sums, expected = np.atleast_2d(sums), np.atleast_2d(expected)
    wrong = np.argwhere(sums != expected)
    if wrong.size:
        column, row = wrong[0]
        raise AssertionError(f"{what}: row {row}, column {column}: {sums[column, row]}, not "
                             f"{expected[column, row]}; {len(wrong)} of {sums.size} sums are wrong")


async def multiply(device, matrix, x):
    """Compare a product with the integer reference; its stats."""
    prepared = await device.prepare(matrix)
    sums, stats = await device.gemv(prepared, x)
    check(f"depth {matrix.depth}, {matrix.rows} x {matrix.columns}", sums, gemv(matrix, x))
    return stats


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(stalls=list(STALLS))
async def identify(dut, stalls):
    device, transport = await connected(dut, 10, stalls)
    assert await device.identify() == Info(
        VERSION, CONFIG.lanes, CONFIG.columns, CONFIG.max_k, CONFIG.clock_hz, CONFIG.build_id)
    await transport.finish()


async def multiply_shapes(dut, depth, stalls):
    """Products whose rows and columns fit the tiles and do not."""
    device, transport = await connected(dut, 20 + depth, stalls)
    # One row and group; part of a block; rows and columns that fill no tile; two whole blocks.
    shapes = [(1, 16), (BLOCK - 1, 5), (2 * BLOCK + 3, 100), (2 * BLOCK, 64)]
    for seed, (rows, columns) in enumerate(shapes):
        matrix = integer_matrix(rows, columns, depth, seed)
        stats  = await multiply(device, matrix, vectors(seed, columns))
        assert stats.words == gemv_cost(matrix.shape, depth, CONFIG.lanes).words
        assert stats.cycles >= stats.words + stats.input_stalls
    await transport.finish()


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize(depth=[1, 2, 3, 4], stalls=["none", "both"])
async def products(dut, depth, stalls):
    await multiply_shapes(dut, depth, stalls)


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize(stalls=["source", "sink"])
async def products_with_one_side_slow(dut, stalls):
    await multiply_shapes(dut, 3, stalls)


@cocotb.test(timeout_time=300, timeout_unit="us")
async def wider_than_the_device(dut):
    device, transport = await connected(dut, 30)
    columns = 2 * CONFIG.max_k + 40
    matrix = integer_matrix(BLOCK + 1, columns, 2)
    stats = await multiply(device, matrix, vectors(30, columns))
    # Three ranges of columns; row blocks that are folded are frames of their own.
    prepared = await device.prepare(matrix)
    assert len({part.first_group for part in prepared.parts}) == 3
    assert stats.frames == len(prepared.parts)
    await transport.finish()


@cocotb.test(timeout_time=300, timeout_unit="us")
async def batches(dut):
    device, transport = await connected(dut, 40)
    matrix = integer_matrix(2 * BLOCK + 1, 72, 3)
    for vectors_used in range(1, CONFIG.columns + 2):
        stats = await multiply(device, matrix, vectors(vectors_used, vectors_used, 72))
        assert stats.frames == -(-vectors_used // CONFIG.columns)
    await transport.finish()


@cocotb.test(timeout_time=300, timeout_unit="us")
async def largest_row_sums(dut):
    device, transport = await connected(dut, 50)
    table = np.ones(27, np.float32)
    codes = np.full((BLOCK, CONFIG.max_k // 16), 26, np.uint8)
    for sign in (1, -1):
        q = np.full((BLOCK, CONFIG.max_k), sign * half_range(4), np.int8)
        matrix = TritMatrix(4, q.shape, q, codes, table)
        await multiply(device, matrix, np.full(CONFIG.max_k, -128, np.int8))
    await transport.finish()


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize(opcode=[Opcode.ACTIVATIONS, Opcode.SCALES, Opcode.GEMV])
async def damaged_trailer(dut, opcode):
    device, transport = await connected(dut, 60, retries=1)
    matrix = integer_matrix(BLOCK + 2, 48, 4)
    await multiply(device, matrix, vectors(60, 48))
    # Others than before: neither may be taken for loaded.
    matrix, x = integer_matrix(BLOCK + 2, 48, 4, 61), vectors(61, 48)
    transport.damage.add(opcode)
    stats = await multiply(device, matrix, x)
    assert stats.retries == 1 and not transport.damage
    counters = await device.status()
    due = [(ErrorCode.TRAILER, opcode)]
    if opcode != Opcode.GEMV:       # which was under way behind the load
        due.append((ErrorCode.NOT_LOADED, Opcode.GEMV))
    errors = [header for header in transport.answers if header.opcode == Opcode.ERROR]
    assert [(e.arg0, e.arg1) for e in errors] == due
    assert (counters.frames_good, counters.frames_bad, counters.last_error) == (
        len(transport.requests) - len(due), len(due), due[-1][0])
    await transport.finish()


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize(stalls=["none", "both"])
async def groups_and_direct_mantissas(dut, stalls):
    """Depth, chunks per group and kind of scales change with each GEMV; the table stays."""
    device, transport = await connected(dut, 96, stalls)
    exchange = Exchange(transport, 0)
    await exchange.call(Opcode.IDENTIFY, Opcode.INFO)
    table = np.arange(27) * 4811
    await device.load_scales(table)
    for seed, (depth, length, direct) in enumerate(
            [(1, 1, True), (1, 7, True), (2, 3, False), (3, 2, True), (4, 1, True), (1, 2, False)]):
        arguments = GemvArguments(depth, length + 1, CONFIG.columns, 2, length, direct)
        job = GemvWords(CONFIG.lanes, arguments, seed, table)
        for column, x in enumerate(job.x):
            await exchange.call(Opcode.ACTIVATIONS, Opcode.ACK, column, len(x), x.tobytes())
        await exchange.ask(Opcode.GEMV, *arguments.pack(), job.words.tobytes())
        for block, column in np.ndindex(2, CONFIG.columns):
            answer = await exchange.answer(Opcode.RESULT)
            sums = np.frombuffer(answer.payload, "<i8")
            check(f"{arguments}, block {block}", sums, job.sums[column, block])
        await exchange.answer(Opcode.DONE)
    await transport.finish()


async def refused(exchange, code, opcode, arg0=0, arg1=0, payload=b""):
    """The request is answered by this error, perhaps after RESULTs, and by nothing else."""
    await exchange.ask(opcode, arg0, arg1, payload)
    try:
        while True:
            await exchange.answer(Opcode.RESULT)
    except DeviceError as error:
        assert error.code == code, f"opcode {opcode:#04x}: error {error.code}, not {code!r}"


@cocotb.test(timeout_time=100, timeout_unit="us")
async def refusals(dut):
    device, transport = await connected(dut, 65)
    exchange = Exchange(transport, 0)
    await exchange.call(Opcode.IDENTIFY, Opcode.INFO)
    one, words = 1 << 8 | 1 << 24, 19 * CONFIG.lanes        # a group of depth 1, a column
    await refused(exchange, ErrorCode.OPCODE, 0x77)
    for opcode in (Opcode.IDENTIFY, Opcode.STATUS, Opcode.RESET):
        await refused(exchange, ErrorCode.LENGTH, opcode, payload=bytes(64))
    await refused(exchange, ErrorCode.DEPTH, Opcode.GEMV, 5 | one, 1, bytes(words))
    await refused(exchange, ErrorCode.SIZE, Opcode.ACTIVATIONS, CONFIG.columns, 16, bytes(16))
    await refused(exchange, ErrorCode.SIZE, Opcode.SCALES, payload=b"\xff" * 108)
    await refused(exchange, ErrorCode.NOT_LOADED, Opcode.GEMV, 1 | one, 1, bytes(words))
    await device.load_activations(vectors(65, 16))
    await device.load_scales(np.arange(27))
    for length in (words - CONFIG.lanes, words + CONFIG.lanes):
        await refused(exchange, ErrorCode.LENGTH, Opcode.GEMV, 1 | one, 1, bytes(length))
    await multiply(device, integer_matrix(BLOCK, 16, 1), vectors(66, 16))
    assert [header.arg1 for header in transport.answers if header.opcode == Opcode.ERROR] == [
        0x77, Opcode.IDENTIFY, Opcode.STATUS, Opcode.RESET, Opcode.GEMV, Opcode.ACTIVATIONS,
        Opcode.SCALES, Opcode.GEMV, Opcode.GEMV, Opcode.GEMV]
    await transport.finish()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def status(dut):
    device, transport = await connected(dut, 70, "none")
    first, began = await device.status(), get_sim_time("ns")
    again, ended = await device.status(), get_sim_time("ns")
    assert first == Counters(2, 0, 0, first.cycles)         # IDENTIFY and itself
    assert again == Counters(3, 0, 0, again.cycles)
    assert 0 < first.cycles <= began // PERIOD_NS
    assert again.cycles - first.cycles == (ended - began) // PERIOD_NS
    await transport.finish()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def reset_request(dut):
    device, transport = await connected(dut, 80)
    matrix = integer_matrix(BLOCK, 32, 1)
    await multiply(device, matrix, vectors(80, 32))
    before = len(transport.requests)
    await device.reset()
    counters = await device.status()
    assert counters == Counters(1, 0, 0, counters.cycles)   # itself
    await multiply(device, matrix, vectors(80, 32))
    loads = [header.opcode for header in transport.requests[before:]]
    assert loads == [Opcode.RESET, Opcode.STATUS, Opcode.SCALES, Opcode.ACTIVATIONS, Opcode.GEMV]
    await transport.finish()


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(stalls=["none", "both"])
async def reset_pin_in_the_middle_of_a_frame(dut, stalls):
    device, transport = await connected(dut, 90, stalls)
    frame = b"".join(request(Opcode.ACTIVATIONS, 1, 0, 64, bytes(64)))
    await transport.send(frame[:64 + 64 // CONFIG.lanes // 2 * CONFIG.lanes])
    await ClockCycles(transport.clk, 150)
    await transport.reset()
    await multiply(device, integer_matrix(BLOCK, 32, 2), vectors(90, 32))
    await transport.finish()


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize(cycles=[3, 31, 107, 250, 500])
async def reset_pin_in_the_middle_of_a_product(dut, cycles):
    device, transport = await connected(dut, 91)
    matrix, x = integer_matrix(2 * BLOCK, 32, 2), vectors(91, 32)
    job = cocotb.start_soon(multiply(device, matrix, x))
    await ClockCycles(transport.clk, cycles)
    job.cancel()
    await transport.reset()
    await multiply(Device(transport, 0), matrix, x)
    await transport.finish()
