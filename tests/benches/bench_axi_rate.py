"""Bench of the rate of the memory-mapped core, behind memory of long latency."""

import json
import struct
from pathlib import Path

import cocotb

from benches.axi import PINS
from benches.axi_host import Host
from benches.axi_latency import LatencyRam
from benches.wires import start
from support.wire import ACK, DONE, RESULT, Job

LANES, CHANNELS, K, DEPTH, BLOCKS, MATRICES = (
    int(cocotb.plusargs[name]) for name in ("lanes", "channels", "k", "d", "blocks", "matrices"))


async def products(channel, job, count, loads=True):
    """Run a list of products; return the payloads of DONE, and the place of the first weights."""
    first, request = None, job.gemv()
    for _ in range(count):
        await channel.ask(*([job.activations(), job.scales()] if loads else []), request[:64])
        first = channel.free if first is None else first
        await channel.ask(request[64:-64], request[-64:])
    answers = [ACK, ACK, *[RESULT] * job.blocks, DONE][0 if loads else 2:]
    found   = await channel.answers(len(answers) * count)
    assert [opcode for opcode, *_ in found] == answers * count
    done = found[len(answers) - 1::len(answers)]
    assert [found for found in found if found[0] == RESULT] == (
        job.results(range(job.blocks)) * count)
    return [struct.unpack("<4Q", payload) for *_, payload in done], first


def share(offered):
    """Return the share of the offered words that came, from the first to the last that did."""
    return len(offered) / (offered[-1] - offered[0] + 1)


@cocotb.test()
async def rate(dut):
    await start(dut, **PINS)
    host = Host(dut, LANES, CHANNELS, 1, memory=LatencyRam)
    figures = []

    async def run(channel):
        await channel.setup()
        await channel.restart()
        job = Job(LANES, DEPTH, BLOCKS, k=K, seed=channel.number)
        await channel.ask(job.activations(), job.scales())
        await channel.answers(2)
        # A product alone, whose weights the engine expects from the first word on.
        (alone,), first = await products(channel, job, 1, loads=False)
        weights = [offered for address, offered in channel.ram.beats
                   if address - channel.base >= first][:len(job.words.tobytes()) // LANES]
        assert alone[-1] == len(weights)
        channel.ram.beats.clear()
        done, _ = await products(channel, job, MATRICES)
        cycles, stalls, blocked, words = map(sum, zip(*done, strict=True))
        figures.append({
            "channel": channel.number, "words": words, "cycles": cycles, "stalls": stalls,
            "blocked": blocked, "share in GEMV": share(weights),
            "share of list": share([offered for _, offered in channel.ram.beats])})

    for task in [cocotb.start_soon(run(channel)) for channel in host.channels]:
        await task
    Path("rate.json").write_text(json.dumps(figures))
    assert all(figure["share in GEMV"] >= 0.98 and figure["share of list"] >= 0.97
               for figure in figures), f"rates: {figures}"
