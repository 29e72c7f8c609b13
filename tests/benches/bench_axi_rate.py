"""Bench of the rate of the memory-mapped core, behind memory of long latency."""

import json
import struct
from pathlib import Path

import cocotb

from benches.axi import PINS
from benches.axi_host import Host
from benches.axi_latency import LatencyRam
from benches.wires import start
from support.wire import ACK, DONE, Job

LANES, CHANNELS, K, DEPTH, BLOCKS, MATRICES = (
    int(cocotb.plusargs[name]) for name in ("lanes", "channels", "k", "d", "blocks", "matrices"))


async def products(channel, job):
    """Run a list of products; return the payloads of DONE and the places of the weights."""
    request, places = job.gemv(), []
    for _ in range(MATRICES):
        await channel.ask(job.activations(), job.scales(), request[:64])
        places.append((channel.free, channel.free + len(request) - 128))
        await channel.ask(request[64:-64], request[-64:])
    each  = 3 + job.blocks
    found = await channel.answers(each * MATRICES)
    for number in range(MATRICES):
        own = found[each * number:each * (number + 1)]
        assert [opcode for opcode, *_ in own] == [ACK, ACK, *[0x82] * job.blocks, DONE]
        assert own[2:-1] == job.results(range(job.blocks))
    return [struct.unpack("<4Q", found[each * number - 1][-1])
            for number in range(1, MATRICES + 1)], places


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
        done, places = await products(channel, job)
        # In the first product. In later ones the buffer may be full at first, because the engine
        # was busy between the products; the share of the list has this loss.
        first, last = places[0]
        beats = [offered for address, offered in channel.ram.beats
                 if first <= address - channel.base < last]
        assert done[0][-1] == len(beats) == len(job.words.tobytes()) // LANES
        cycles, stalls, blocked, words = map(sum, zip(*done, strict=True))
        figures.append({
            "channel": channel.number, "words": words, "cycles": cycles, "stalls": stalls,
            "blocked": blocked, "share in GEMV": share(beats),
            "share of list": share([offered for _, offered in channel.ram.beats])})

    for task in [cocotb.start_soon(run(channel)) for channel in host.channels]:
        await task
    Path("rate.json").write_text(json.dumps(figures))
    assert all(figure["share in GEMV"] >= 0.98 and figure["share of list"] >= 0.97
               for figure in figures), f"rates: {figures}"
