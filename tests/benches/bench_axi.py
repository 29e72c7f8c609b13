"""Bench of the memory-mapped core: AxiRam of cocotbext-axi, random stalls, errors, restarts."""

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiResp

from tritstream.hw.axi.registers import BANK, CHANNEL, MAGIC, Error, Refusal, Status, register
from tritstream.hw.soc.registers import DESCRIPTORS

from benches.axi import PINS
from benches.axi_host import RING, SIZE, WINDOW, Host
from benches.wires import reset, start
from support.wire import ACK, DONE, IDENTIFY, INFO, Job, frame

LANES, CHANNELS = (int(cocotb.plusargs[name]) for name in ("lanes", "channels"))


async def connected(dut, seed, stalls=0.0, sessions=True):
    """A host whose channels have begun a session."""
    await start(dut, **PINS)
    host = Host(dut, LANES, CHANNELS, seed, stalls)
    for channel in host.channels if sessions else ():
        await channel.setup()
        await channel.restart()
    return host


async def check(channel, job):
    """Run a product; every row equals golden."""
    await channel.ask(*map(job.activations, range(job.columns)), job.scales(), job.gemv())
    count = job.columns + 1
    found = await channel.answers(count + job.blocks * job.columns + 1)
    assert [opcode for opcode, *_ in found[:count]] == [ACK] * count
    assert found[count:-1] == job.results(range(job.blocks)), f"channel {channel.number}"
    assert found[-1][0] == DONE
    channel.free = 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def registers(dut):
    host = await connected(dut, 1, sessions=False)
    assert await host.get("magic") == MAGIC and await host.get("channels") == CHANNELS
    for channel in host.channels:
        assert [await channel.get(name) for name in ("magic", "lanes", "align")] == [
            MAGIC, LANES, LANES]
        for name, entry in CHANNEL.items():
            if entry.access == "rw":
                await channel.put(name, 0xFFFFFFFF - channel.number)
    for channel in host.channels:
        for name, entry in CHANNEL.items():
            value = await channel.get(name) if entry.access == "rw" else 0
            expected = (0xFFFFFFFF - channel.number) >> entry.low << entry.low
            assert value in (expected, 0) and (value or entry.access != "rw"), name


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def what_is_no_register_is_refused(dut):
    host = await connected(dut, 2, 0.3, sessions=False)
    bus  = host.registers
    end  = BANK * (1 + CHANNELS)
    for address in (3 * 4, BANK - 4, register("wake", 0) + 4, end, end + 4, 0xFFFC):
        assert (await bus.write(address, bytes(4))).resp == AxiResp.SLVERR, hex(address)
        assert (await bus.read(address, 4)).resp == AxiResp.SLVERR, hex(address)
    for name in ("tail", "session", "written"):         # only read
        assert (await bus.write(register(name, 0), bytes(4))).resp == AxiResp.SLVERR
    for name in ("index", "restart", "take"):           # only written
        assert (await bus.read(register(name, 0), 4)).resp == AxiResp.SLVERR
    assert (await bus.write(register("wake", 0) + 1, b"\xFF")).resp == AxiResp.SLVERR
    assert await host.get("wake", 0) == 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stalls=[0.0, 0.4])
async def products(dut, stalls):
    host = await connected(dut, 3, stalls)
    jobs = [[Job(LANES, depth, blocks, k=k, seed=channel.number) for depth, blocks, k in (
                (1, 1, 16), (3, 3, 48), (4, 2, 32), (2, 9, 16))] for channel in host.channels]

    async def run(channel):
        for job in jobs[channel.number]:
            await check(channel, job)

    for task in [cocotb.start_soon(run(channel)) for channel in host.channels]:
        await task
    # The ring was filled more than once.
    assert all([await channel.get("written") > RING // LANES for channel in host.channels]) or (
        LANES > 8)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def descriptors_that_are_nonsense(dut):
    host = await connected(dut, 4, sessions=False)
    channel = host.channels[0]
    assert await channel.push(0, 64) == Refusal.STOPPED
    await channel.setup()
    await channel.restart()
    assert await channel.push(0, 0) == Refusal.LENGTH
    assert await channel.push(WINDOW, 64) == Refusal.MEMORY
    assert await channel.push(WINDOW - 64, 128) == Refusal.MEMORY
    assert await channel.push(64 * 0xFFFFFFFF, 64 * 0xFFFFFFFF) == Refusal.MEMORY
    await channel.put("index", channel.tail + 1)
    assert await channel.get("refused") == Refusal.INDEX
    # A frame that is given twice is taken once.
    request = frame(IDENTIFY, sequence=7)
    place = channel.store(request)
    assert not await channel.push(place, len(request))
    await channel.put("index", channel.tail - 1)
    assert await channel.get("refused") == Refusal.INDEX
    assert [found[:2] for found in await channel.answers(1)] == [(INFO, 7)]
    await channel.settle()
    assert await channel.get("written") == channel.seen


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def full_queue_and_full_ring(dut):
    host = await connected(dut, 5)
    channel, request = host.channels[0], frame(IDENTIFY)
    place = channel.store(request)
    # INFO is never taken: the ring fills, then the engine and the queue.
    refused = pushed = 0
    while not refused:
        refused = await channel.push(place, len(request))
        pushed += not refused
    assert refused == Refusal.FULL and pushed > DESCRIPTORS
    units = RING // LANES
    assert await channel.get("written") == units
    await ClockCycles(dut.aclk, 3000)
    assert await channel.get("written") == units
    # More than was written is not released, nor less than before.
    for wrong in (units + 1, 0xFFFFFFFF):
        await channel.put("take", wrong)
        assert await channel.get("taken") == 0
    found = await channel.answers(pushed)
    assert all(opcode == INFO for opcode, *_ in found)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def sizes_that_are_impossible(dut):
    host = await connected(dut, 6)
    channel = host.channels[-1]
    for name, value in (("ring", 0), ("ring", 2048), ("ring", 3 * 4096), ("memory", 0)):
        await channel.setup()
        await channel.put(name, value)
        await channel.restart()
        assert await channel.get("error") == Error.SIZES
        assert await channel.push(0, 64) == Refusal.STOPPED
    await channel.setup()
    # Sizes count at a restart only.
    assert await channel.get("error") == Error.SIZES
    await channel.restart()
    await check(channel, Job(LANES, 1, 1, k=16))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def interrupts(dut):
    host = await connected(dut, 7)
    channel = host.channels[-1]
    await channel.settle()
    assert not int(dut.irq.value)
    await channel.put("wake", channel.seen + 1)
    await channel.put("enable", Status.REACHED | Status.ERROR)
    assert not int(dut.irq.value)
    await channel.ask(frame(IDENTIFY))
    while not int(dut.irq.value):
        await RisingEdge(dut.aclk)
    assert await host.get("pending") == 1 << channel.number
    # The interrupt stays until software has seen the answer: none gets lost.
    await ClockCycles(dut.aclk, 500)
    assert int(dut.irq.value)
    await channel.answers(1)
    await channel.put("wake", channel.seen + 1)
    await ClockCycles(dut.aclk, 4)
    assert not int(dut.irq.value) and not await host.get("pending")
    await channel.put("enable", Status.IDLE)
    await ClockCycles(dut.aclk, 300)
    assert int(dut.irq.value)
    assert await channel.get("status") & Status.IDLE
    await channel.put("enable", 0)
    await ClockCycles(dut.aclk, 4)
    assert not int(dut.irq.value)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def read_errors_halt_a_channel(dut):
    host = await connected(dut, 8, 0.2)
    channel, job = host.channels[0], Job(LANES, 2, 4, k=48)
    read = channel.ram.read_if._read
    for at in (0, 64, 200, 1000):
        bad = (channel.base + at) // 64 * 64 % SIZE

        async def damaged(address, length, bad=bad):
            if bad <= address % SIZE < bad + 64:
                raise RuntimeError("planted")
            return await read(address, length)

        channel.ram.read_if._read = damaged
        await channel.put("enable", Status.ERROR)
        for request in (job.activations(), job.scales(), job.gemv()):
            assert await channel.push(channel.store(request), len(request)) in (
                Refusal.NONE, Refusal.STOPPED)      # the channel may have halted already
        await channel.settle()
        await ClockCycles(dut.aclk, 4)
        assert int(dut.irq.value)
        assert await channel.get("error") == Error.READ_SLVERR
        # Responses of requests before the error are written: ACK of the activations.
        await ClockCycles(dut.aclk, 300)
        assert (await channel.get("written") > channel.seen) == (at >= 192)
        assert await channel.push(0, 64) == Refusal.STOPPED
        channel.ram.read_if._read = read
        await channel.restart()
        assert not await channel.get("error")
        await check(channel, job)
    for other in host.channels[1:]:
        await check(other, job)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def write_errors_halt_a_channel(dut):
    host = await connected(dut, 9, 0.2)
    channel, job = host.channels[0], Job(LANES, 1, 3, k=16)
    write = channel.ram.write_if._write

    async def damaged(address, data):
        raise RuntimeError("planted")

    for _ in range(2):
        channel.ram.write_if._write = damaged
        await channel.ask(job.activations(), job.scales(), job.gemv())
        await channel.settle()
        assert await channel.get("error") == Error.WRITE_SLVERR
        assert await channel.get("written") == channel.seen
        channel.ram.write_if._write = write
        await channel.restart()
        await check(channel, job)


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def restarts_in_the_middle(dut):
    host = await connected(dut, 10, 0.3)
    rng, job = np.random.default_rng(10), Job(LANES, 2, 3, k=48)
    channel, other = host.channels[0], host.channels[-1]
    for number in range(25):
        await channel.ask(job.activations(), job.scales(), job.gemv(), job.gemv())
        await ClockCycles(dut.aclk, int(rng.integers(1, 900)))
        await channel.put("restart", await channel.get("session"))      # another number: ignored
        await channel.restart()
        assert await channel.get("status") & (Status.READY | Status.ERROR) == Status.READY
        if number % 5 == 4:
            await check(channel, job)
            await check(other, job)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def resets_in_the_middle(dut):
    host = await connected(dut, 11, 0.3)
    job  = Job(LANES, 2, 2, k=32)
    for cycles in (10, 333, 777):
        channel = host.channels[0]
        await channel.ask(job.activations(), job.scales(), job.gemv())
        await ClockCycles(dut.aclk, cycles)
        await reset(dut, **PINS)
        assert await channel.get("session") == 0 and await channel.get("written") == 0
        await channel.setup()
        await channel.restart()
        await check(channel, job)
