"""Bench of the rate of the memory-mapped core, behind memory of long latency."""

import json
import struct
from pathlib import Path

import cocotb
from cocotb.triggers import RisingEdge

from tritstream.hw.axi.registers import Status

from benches.axi import PINS
from benches.axi_host import Host
from benches.axi_latency import LatencyRam
from benches.wires import start
from support.wire import ACK, DONE, Job

LANES, CHANNELS, K, DEPTH, BLOCKS = (
    int(cocotb.plusargs[name]) for name in ("lanes", "channels", "k", "d", "blocks"))


async def product(channel, job):
    """Run a product from a list of five segments; return what DONE says and the payload's place."""
    request = job.gemv()
    channel.free = 0
    loads = [job.activations(), job.scales()]
    expected = sum(map(_answer_words, [0, 0, *[40 * LANES] * job.blocks, 32]))
    await channel.put("wake", channel.seen + expected)
    await channel.put("enable", Status.REACHED | Status.ERROR)
    await channel.ask(*loads, request[:64])
    first = channel.free
    await channel.ask(request[64:-64], request[-64:])
    while not (int(channel.host.dut.irq.value) and await channel.get("status") & (
            Status.REACHED | Status.ERROR)):
        await RisingEdge(channel.host.dut.aclk)
    found = await channel.answers(3 + job.blocks)
    assert [opcode for opcode, *_ in found] == [ACK, ACK, *[0x82] * job.blocks, DONE]
    assert found[2:-1] == job.results(range(job.blocks))
    await channel.put("enable", 0)
    return struct.unpack("<4Q", found[-1][-1]), (first, first + len(request) - 128)


def _answer_words(length):
    return sum(-(-size // LANES) for size in (20, length, 4))


@cocotb.test()
async def rate(dut):
    await start(dut, **PINS)
    host = Host(dut, LANES, CHANNELS, 1, memory=LatencyRam)
    figures = []

    async def run(channel):
        await channel.setup()
        await channel.restart()
        job = Job(LANES, DEPTH, BLOCKS, k=K, seed=channel.number)
        done, (first, last) = await product(channel, job)
        beats = [offered for address, offered in channel.ram.beats
                 if first <= address - channel.base < last]
        everything = [offered for _, offered in channel.ram.beats]
        cycles, stalls, blocked, words = done
        assert words == len(beats) == len(job.words.tobytes()) // LANES
        figures.append({
            "channel": channel.number, "words": words, "cycles": cycles, "stalls": stalls,
            "blocked": blocked,
            "share in GEMV": len(beats) / (beats[-1] - beats[0] + 1),
            "share of list": len(everything) / (everything[-1] - everything[0] + 1)})

    for task in [cocotb.start_soon(run(channel)) for channel in host.channels]:
        await task
    Path("rate.json").write_text(json.dumps(figures))
    assert all(figure["share in GEMV"] >= 0.98 for figure in figures), figures
